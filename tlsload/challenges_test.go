package tlsload

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// A scripted keeper answers a Hello with ticket keys and one certificate, or none.
type scripted struct {
	t     *testing.T
	link  int
	epoch uint64
}

// heard waits for a packet of the core.
func (s *scripted) heard() []byte {
	s.t.Helper()
	polled := []unix.PollFd{{Fd: int32(s.link), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polled, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			s.t.Fatalf("nothing from the core: %v", err)
		}
		buffer := make([]byte, keywire.RequestBytesMax)
		n, err = keywire.Receive(s.link, buffer)
		if err != nil {
			s.t.Fatal(err)
		}
		return buffer[:n]
	}
}

func (s *scripted) say(packet []byte) {
	s.t.Helper()
	if err := keywire.Send(s.link, packet); err != nil {
		s.t.Fatal(err)
	}
}

// withoutCertificate opens a Keyring whose keeper has no certificate yet.
func withoutCertificate(t *testing.T) (*Keyring, *scripted) {
	t.Helper()
	core, link := linked(t)
	s := &scripted{t: t, link: link}
	opened := make(chan *Keyring, 1)
	go func() {
		k, err := open(core, 1, func(string, error) {}, quick)
		if err != nil {
			t.Error(err)
		}
		opened <- k
	}()
	op, epoch, _ := keywire.Head(s.heard())
	if op != keywire.OpHello {
		t.Fatalf("got op %d", op)
	}
	s.epoch = epoch
	s.say(keywire.Tickets{Epoch: epoch, Keys: make([][32]byte, 1)}.Append(nil))
	s.say(keywire.Certificate{Epoch: epoch, Count: 1}.Append(nil))
	k := <-opened
	t.Cleanup(func() { k.Close() })
	return k, s
}

// A core without a certificate is ready, and fails handshakes of that name alone; the
// certificate comes with no further ado.
func TestNoCertificateYet(t *testing.T) {
	k, s := withoutCertificate(t)
	config := k.Config(conf.Core{ACME: true, Sites: []conf.Site{{Hosts: []string{"a.test"}}}})
	hello := &tls.ClientHelloInfo{ServerName: "a.test", SupportedProtos: []string{"http/1.1"}}
	if _, err := config.GetCertificate(hello); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("got %v", err)
	}
	der := selfSigned(t)
	s.say(keywire.Certificate{Epoch: s.epoch, Count: 1, Chain: [][]byte{der}}.Append(nil))
	s.say(keywire.Certificate{Epoch: s.epoch, Count: 1}.Append(nil)) // a keeper that has lost it
	s.say(keywire.Challenge{Epoch: s.epoch, Number: 1, Kind: keywire.HTTP01, Name: []byte("a"), Token: []byte("t"), Proof: []byte("p")}.Append(nil))
	if op, _, _ := keywire.Head(s.heard()); op != keywire.OpAnswering {
		t.Fatalf("got op %d", op)
	}
	if c, err := config.GetCertificate(hello); err != nil || string(c.Certificate[0]) != string(der) {
		t.Errorf("got %v, %v", c, err)
	}
}

func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Challenges are answered while they are open, for their name and token alone.
func TestChallenges(t *testing.T) {
	k, s := withoutCertificate(t)
	config := k.Config(conf.Core{ACME: true, Sites: []conf.Site{{Hosts: []string{"a.test"}}}})
	alpn := func(name string, protocols ...string) error {
		_, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: protocols})
		return err
	}
	if err := alpn("a.test", ALPNProtocol); !errors.Is(err, errNoChallenge) {
		t.Errorf("before: got %v", err)
	}
	for _, packet := range [][]byte{
		keywire.Challenge{Epoch: s.epoch, Number: 1, Kind: keywire.HTTP01, Name: []byte("a.test"), Token: []byte("tok"), Proof: []byte("tok.x")}.Append(nil),
		keywire.Challenge{Epoch: s.epoch, Number: 2, Kind: keywire.TLSALPN01, Name: []byte("a.test"), Proof: selfSigned(t)}.Append(nil),
	} {
		s.say(packet)
		if op, _, _ := keywire.Head(s.heard()); op != keywire.OpAnswering {
			t.Fatalf("got op %d", op)
		}
	}
	for _, c := range []struct {
		authority, token string
		want             bool
	}{
		{"a.test", "tok", true},
		{"a.test:80", "tok", true},
		{"a.test.evil", "tok", false},
		{"b.test", "tok", false},
		{"a.test", "to", false},
		{"", "tok", false},
	} {
		if proof, ok := k.Proof([]byte(c.authority), []byte(c.token)); ok != c.want || ok && proof != "tok.x" {
			t.Errorf("%s %s: got %q, %v", c.authority, c.token, proof, ok)
		}
	}
	if err := alpn("A.Test", ALPNProtocol); err != nil {
		t.Errorf("by TLS: %v", err)
	}
	for name, err := range map[string]error{
		"another name": alpn("b.test", ALPNProtocol), "a browser": alpn("a.test", "http/1.1"), "both": alpn("a.test", ALPNProtocol, "http/1.1"),
	} {
		if err == nil {
			t.Errorf("%s is shown the proof", name)
		}
	}
	s.say(keywire.Withdrawn{Epoch: s.epoch, Number: 1}.Append(nil))
	s.say(keywire.Withdrawn{Epoch: s.epoch, Number: 2}.Append(nil))
	s.say(keywire.Greet{}.Append(nil)) // a sign that it has read the others
	if op, _, _ := keywire.Head(s.heard()); op != keywire.OpHello {
		t.Fatalf("got op %d", op)
	}
	if _, ok := k.Proof([]byte("a.test"), []byte("tok")); ok || alpn("a.test", ALPNProtocol) == nil {
		t.Error("answered when it is over")
	}
}

// A keeper that is new hears whether the core serves.
func TestServing(t *testing.T) {
	k, s := withoutCertificate(t)
	k.Serving()
	if op, _, _ := keywire.Head(s.heard()); op != keywire.OpServing {
		t.Fatalf("got op %d", op)
	}
	s.say(keywire.Greet{}.Append(nil))
	for _, want := range []keywire.Op{keywire.OpHello, keywire.OpServing} {
		if op, _, _ := keywire.Head(s.heard()); op != want {
			t.Fatalf("got op %d, want %d", op, want)
		}
	}
}

func TestIsHost(t *testing.T) {
	for authority, name := range map[string]string{"[2001:db8::1]": "2001:db8::1", "[2001:db8::1]:80": "2001:db8::1", "192.0.2.1:80": "192.0.2.1"} {
		if !isHost([]byte(authority), name) {
			t.Errorf("%s is not %s", authority, name)
		}
	}
	if isHost([]byte("192.0.2.10"), "192.0.2.1") {
		t.Error("a longer address")
	}
}

// One look-up per request, and no allocation where no challenge is open.
func TestAllocProof(t *testing.T) {
	k, _ := withoutCertificate(t)
	authority, token := []byte("a.test"), []byte(strings.Repeat("x", 43))
	if n := testing.AllocsPerRun(100, func() { k.Proof(authority, token) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
