package tlsload

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

func TestNames(t *testing.T) {
	const none = -1
	site := func(certificate int, hosts ...string) conf.Site {
		return conf.Site{Hosts: hosts, Certificate: certificate}
	}
	// What is asked for is a name, or, with a port, the address that a client without
	// a name has reached.
	cases := []struct {
		name  string
		sites []conf.Site
		asked map[string]int
	}{
		{"exact", []conf.Site{site(0, "a.test", "b.test"), site(1, "c.test")}, map[string]int{
			"a.test": 0, "b.test": 0, "c.test": 1, "C.TEST": 1, "d.test": none, "192.0.2.1:443": 0,
		}},
		{"wildcard", []conf.Site{site(0, "*.a.test"), site(1, "b.a.test")}, map[string]int{
			"x.a.test": 0, "b.a.test": 1, "a.test": none, "y.x.a.test": none, ".a.test": none, "192.0.2.1:443": 0,
		}},
		{"any", []conf.Site{site(0, "a.test"), site(1, "*")}, map[string]int{
			"a.test": 0, "b.test": 1, "192.0.2.1:443": 1,
		}},
		{"without TLS", []conf.Site{site(none, "a.test"), site(0, "*.test")}, map[string]int{
			"a.test": none, "b.test": 0, "192.0.2.1:443": 0,
		}},
		{"any without TLS", []conf.Site{site(none, "*"), site(0, "a.test")}, map[string]int{
			"a.test": 0, "b.test": none, "192.0.2.1:443": 0,
		}},
		{"none", []conf.Site{site(none, "*")}, map[string]int{"a.test": none, "192.0.2.1:443": none}},
		{"addresses", []conf.Site{site(0, "a.test"), site(1, "192.0.2.1"), site(2, "[::1]", "192.0.2.2")}, map[string]int{
			"192.0.2.1:443": 1, "192.0.2.2:443": 2, "[::ffff:192.0.2.2]:443": 2, "[::1]:443": 2, "192.0.2.3:443": 1,
		}},
		{"an address without TLS", []conf.Site{site(none, "192.0.2.1"), site(0, "a.test")}, map[string]int{"192.0.2.1:443": 0}},
		{"an address and any", []conf.Site{site(0, "192.0.2.1"), site(1, "*")}, map[string]int{
			"192.0.2.1:443": 0, "192.0.2.2:443": 1,
		}},
	}
	for _, c := range cases {
		names := namesOf(c.sites)
		for name, want := range c.asked {
			got := names.named(name).certificate
			if local, err := netip.ParseAddrPort(name); err == nil {
				got = names.nameless(net.TCPAddrFromAddrPort(local)).certificate
			}
			if got != want {
				t.Errorf("%s: %q gets %d, want %d", c.name, name, got, want)
			}
		}
	}
	if got := namesOf(cases[0].sites).nameless(&net.UnixAddr{}).certificate; got != 0 {
		t.Errorf("over a unix socket: got %d", got)
	}
}

func TestConfig(t *testing.T) {
	s := newSafe(t, "a.test", "b.test")
	core, link := linked(t)
	s.serve(t, link)
	k := opened(t, core, 2, quick)
	config := k.Config(conf.Core{MinTLS: tls.VersionTLS13, Sites: []conf.Site{
		{Hosts: []string{"a.test"}, Certificate: 0}, {Hosts: []string{"b.test"}, Certificate: 1},
	}})
	for _, host := range []string{"a.test", "b.test"} {
		client := s.client(host)
		client.NextProtos = []string{"http/1.1"}
		state, err := shake(config, client)
		if err != nil || state.PeerCertificates[0].Subject.CommonName != host || state.NegotiatedProtocol != "http/1.1" {
			t.Errorf("%s: got %v with %q, %v", host, state.PeerCertificates, state.NegotiatedProtocol, err)
		}
	}
	if _, err := shake(config, s.client("c.test")); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("unknown name: got %v, want the alert unrecognized_name", err)
	}
	old := s.client("a.test")
	old.MaxVersion = tls.VersionTLS12
	if _, err := shake(config, old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2 below the minimum: got %v", err)
	}
	nameless := &tls.Config{InsecureSkipVerify: true}
	if state, err := shake(config, nameless); err != nil || state.PeerCertificates[0].Subject.CommonName != "a.test" {
		t.Errorf("no name: got %v, %v", state.PeerCertificates, err)
	}
}

func TestNothingIsAllocatedForTheCertificate(t *testing.T) {
	s := newSafe(t, "a.test")
	core, link := linked(t)
	s.serve(t, link)
	config := opened(t, core, 1, quick).Config(oneSite("*.test"))
	hello := &tls.ClientHelloInfo{ServerName: "a.test"}
	allocs := testing.AllocsPerRun(100, func() {
		if certificate, err := config.GetCertificate(hello); certificate == nil || err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("got %v allocations, want 0", allocs)
	}
}

// A client that comes back to another core resumes its session.
func TestResumptionBetweenCores(t *testing.T) {
	s := newSafe(t, "a.test")
	core0, link0 := linked(t)
	core1, link1 := linked(t)
	s.serve(t, link0, link1)
	first := opened(t, core0, 1, quick).Config(oneSite("a.test"))
	second := opened(t, core1, 1, quick).Config(oneSite("a.test"))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := s.client("a.test")
		client.MaxVersion = version
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for i, config := range []*tls.Config{first, second, first} {
			state, err := shake(config, client)
			if err != nil || state.DidResume != (i > 0) {
				t.Errorf("%s, handshake %d: resumed %v, %v", tls.VersionName(version), i, state.DidResume, err)
			}
		}
	}
}

// A keeper that ends and comes back under load is not noticed.
func TestKeeperReplaced(t *testing.T) {
	s := newSafe(t, "a.test")
	core, link := linked(t)
	stop := s.serve(t, link)
	config := opened(t, core, 1, quick).Config(oneSite("a.test"))
	var clients sync.WaitGroup
	enough := make(chan struct{})
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-enough:
					return
				default:
				}
				if _, err := shake(config, s.client("a.test")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 20 {
		if _, err := shake(config, s.client("a.test")); err != nil {
			t.Error(err)
		}
		stop()
		swallow(link) // what a killed keeper had taken
		stop = s.serve(t, link)
	}
	close(enough)
	clients.Wait()
}

// swallow takes one packet and answers nothing, as a keeper that is killed at work.
func swallow(link int) {
	_, _ = keywire.Receive(link, make([]byte, keywire.RequestBytesMax)) // there may be none
}

func TestOpenWithoutCertificates(t *testing.T) {
	limits := quick
	limits.giveUp = 50 * time.Millisecond
	log := func(string, error) {}
	silent, _ := linked(t)
	if _, err := open(silent, 1, log, limits); err == nil || !strings.Contains(err.Error(), "within 50ms") {
		t.Errorf("silent keeper: got %v", err)
	}
	core, link := linked(t)
	newSafe(t, "a.test").serve(t, link)
	var logged error
	if _, err := open(core, 2, func(_ string, err error) { logged = err }, limits); err == nil {
		t.Error("another number of certificates: no error")
	}
	if logged == nil || !strings.Contains(logged.Error(), "holds 1 certificates, the plan names 2") {
		t.Errorf("another number of certificates: logged %v", logged)
	}
	lost, gone := linked(t)
	unix.Shutdown(gone, unix.SHUT_RDWR)
	if _, err := open(lost, 1, log, limits); !errors.Is(err, ErrClosed) {
		t.Errorf("lost link: got %v", err)
	}
}

// A core asks again from time to time and follows the ticket keys.
func TestTicketKeysAreRenewed(t *testing.T) {
	limits := quick
	limits.renew = 20 * time.Millisecond
	s := newSafe(t, "a.test")
	core, link := linked(t)
	stop := s.serve(t, link)
	k := opened(t, core, 1, limits)
	config := k.Config(oneSite("a.test"))
	client := s.client("a.test")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	before := k.ticketsNow()
	stop()
	s.serve(t, link) // with other keys
	deadline := time.Now().Add(10 * time.Second)
	for k.ticketsNow() == before {
		if time.Now().After(deadline) {
			t.Fatal("the keys stay as they were")
		}
		if _, err := shake(config, client); err != nil {
			t.Fatal(err)
		}
	}
}

func (k *Keyring) ticketsNow() [32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tickets[0]
}

func TestPacketsThatAreNotForACore(t *testing.T) {
	core, link := linked(t)
	newSafe(t, "a.test").serve(t, link)
	k := opened(t, core, 1, quick)
	for name, packet := range map[string][]byte{
		"nothing":          {},
		"hello":            keywire.Hello{Epoch: k.epoch}.Append(nil),
		"sign":             keywire.Sign{Epoch: k.epoch, ID: 1, Message: []byte{1}}.Append(nil),
		"malformed":        keywire.Signed{Epoch: k.epoch, ID: 1}.Append(nil),
		"refusal of no id": keywire.Refused{Epoch: k.epoch, Reason: keywire.Malformed}.Append(nil),
	} {
		if err := k.take(packet); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := k.take(keywire.Hello{Epoch: k.epoch + 1}.Append(nil)); err != nil {
		t.Errorf("another epoch: %v", err)
	}
}
