package tlsload

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// manyNames is the configuration of a core with so many names, each with its own certificate, and
// one wildcard.
func manyNames(count int) *tls.Config {
	k := &Keyring{certificates: make([]atomic.Pointer[held], count+1), tickets: make([][32]byte, 1)}
	site := conf.Site{Hosts: []string{"*.wild.test"}, Handles: []int{0}}
	for handle := range k.certificates {
		one := &held{keys: k, handle: uint32(handle)}
		one.once.Do(func() { one.made = &tls.Certificate{Certificate: [][]byte{fmt.Append(nil, handle)}} })
		k.certificates[handle].Store(one)
		if handle > 0 {
			site.Hosts, site.Handles = append(site.Hosts, nameOf(handle)), append(site.Handles, handle)
		}
	}
	return k.Config(conf.Core{Sites: []conf.Site{site}, Certificates: count + 1})
}

func nameOf(handle int) string { return fmt.Sprintf("customer-%05d.test", handle) }

// What a handshake costs to find its certificate does not grow with the number of names: one
// look-up in a map, two for a wildcard, and nothing is allocated.
func TestAllocNames(t *testing.T) {
	for _, count := range []int{1, 50_000} {
		config := manyNames(count)
		for _, c := range []struct{ name, want string }{{nameOf(count), fmt.Sprint(count)}, {nameOf(count/2 + 1), fmt.Sprint(count/2 + 1)}, {"any.wild.test", "0"}} {
			hello := &tls.ClientHelloInfo{ServerName: c.name}
			look := func() {
				got, err := config.GetCertificate(hello)
				if err != nil || string(got.Certificate[0]) != c.want {
					t.Fatalf("%s: %v, %v", c.name, got, err)
				}
			}
			if n := testing.AllocsPerRun(1000, look); n != 0 {
				t.Errorf("%d names, %s: %v allocations, want 0", count, c.name, n)
			}
			began := time.Now()
			for range 100_000 {
				look()
			}
			t.Logf("%d names, %s: %v", count, c.name, time.Since(began)/100_000)
		}
	}
}

// A chain that follows another takes its place, with the same list of who has issued it; a
// damaged one, which no keeper sends, is an error of its own handshakes.
func TestCertificateSent(t *testing.T) {
	core, link := linked(t)
	newSafe(t, "a.test", "b.test").serve(t, link)
	k := opened(t, core, 2, quick)
	config := k.Config(oneSite("a.test"))
	hello := &tls.ClientHelloInfo{ServerName: "a.test"}
	first, err := config.GetCertificate(hello)
	if err != nil {
		t.Fatal(err)
	}
	sent := func(handle uint32, chain ...[]byte) *held {
		t.Helper()
		if err := k.take(keywire.Certificate{Epoch: k.epoch, Handle: handle, Count: 2, Chain: chain}.Append(nil)); err != nil {
			t.Fatal(err)
		}
		return k.certificates[handle].Load()
	}
	before := k.certificates[0].Load()
	if sent(0, first.Certificate...) != before {
		t.Error("the same chain takes the place of itself")
	}
	if sent(0) != before {
		t.Error("none takes the place of one")
	}
	one, two := sent(0, first.Certificate[0], []byte("issuer")), sent(1, first.Certificate[0], []byte("issuer"))
	if &one.issuers[0][0] != &two.issuers[0][0] {
		t.Error("who issues two is kept twice")
	}
	if got, err := config.GetCertificate(hello); err != nil || len(got.Certificate) != 2 || string(got.Certificate[1]) != "issuer" {
		t.Errorf("got %v, %v", got, err)
	}
	sent(0, []byte("damaged"))
	if got, err := config.GetCertificate(hello); got != nil || err == nil || errors.Is(err, ErrNoCertificate) {
		t.Errorf("damaged: %v, %v", got, err)
	}
}
