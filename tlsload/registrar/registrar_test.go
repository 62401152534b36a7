package registrar

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// A keeper of the tests is the other end of the link.
type keeper struct {
	t    *testing.T
	link int
}

// begun starts a registrar whose CA is at a URL.
func begun(t *testing.T, ca string) (*Registrar, *keeper) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]) })
	r, err := New(conf.Registrar{CA: ca, HTTP: true, TLS: true}, Secrets{Roots: x509.NewCertPool()}, pair[1], zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	k := &keeper{t, pair[0]}
	if m, err := keywire.DecodeBegun(k.heard()); err != nil || m.Epoch != 0 {
		t.Fatalf("got %+v, %v", m, err)
	}
	return r, k
}

func (k *keeper) say(packet []byte) {
	k.t.Helper()
	if err := keywire.Send(k.link, packet); err != nil {
		k.t.Fatal(err)
	}
}

func (k *keeper) heard() []byte {
	k.t.Helper()
	polled := []unix.PollFd{{Fd: int32(k.link), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polled, 20_000)
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			k.t.Fatalf("nothing from the registrar: %v", err)
		}
		buffer := make([]byte, keywire.ErrandBytesMax)
		if n, err = keywire.Receive(k.link, buffer); err != nil {
			k.t.Fatal(err)
		}
		return buffer[:n]
	}
}

// request is one for a certificate of names.
func request(t *testing.T, names ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// What cannot be obtained is said, of the order that it is about.
func TestNotIssued(t *testing.T) {
	ca := "https://" + closed(t) + "/dir"
	_, k := begun(t, ca)
	for i, c := range []struct {
		request []byte
		name    string
		text    string
	}{
		{[]byte{0x30, 0}, "", "request for a certificate"},
		{request(t), "", "has 0 names"},
		{request(t, "a.test", "b.test"), "", "has 2 names"},
		{request(t, "a.test"), "a.test", "connection refused"},
	} {
		k.say(keywire.Order{Epoch: 7, ID: uint64(i), Request: c.request}.Append(nil))
		m, err := keywire.DecodeNotIssued(k.heard())
		if err != nil || m.Epoch != 7 || m.ID != uint64(i) || string(m.Name) != c.name || string(m.CA) != ca || !strings.Contains(string(m.Text), c.text) {
			t.Errorf("%s: got %q of %q, %v", c.text, m.Text, m.Name, err)
		}
	}
	k.say(keywire.Ask{Epoch: 7, ID: 9, Leaf: []byte{0x30, 0}}.Append(nil))
	if m, err := keywire.DecodeNotIssued(k.heard()); err != nil || m.ID != 9 {
		t.Errorf("got %+v, %v", m, err)
	}
}

// silent is an address that takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// A keeper that follows another is served at once: what that one has asked for is given up,
// and not answered, however long the CA takes.
func TestNextKeeper(t *testing.T) {
	r, k := begun(t, "https://"+silent(t)+"/dir")
	for i := range errandsMax {
		k.say(keywire.Order{Epoch: 7, ID: uint64(i), Request: request(t, fmt.Sprintf("h%d.test", i))}.Append(nil))
	}
	k.say(keywire.Order{Epoch: 7, ID: 99, Request: request(t, "more.test")}.Append(nil))
	if m, err := keywire.DecodeNotIssued(k.heard()); err != nil || m.ID != 99 || !strings.Contains(string(m.Text), "too many") {
		t.Errorf("one more than there is room for: got %+v, %v", m, err)
	}
	k.say(keywire.Begun{Epoch: 8}.Append(nil))
	for range errandsMax { // all places are free again
		select {
		case r.errands <- struct{}{}:
		case <-time.After(20 * time.Second):
			t.Fatal("errands of the old keeper go on")
		}
	}
	for range errandsMax {
		<-r.errands
	}
	k.say(keywire.Order{Epoch: 8, ID: 1, Request: []byte{0x30, 0}}.Append(nil))
	if m, err := keywire.DecodeNotIssued(k.heard()); err != nil || m.Epoch != 8 || m.ID != 1 {
		t.Errorf("got %+v, %v", m, err)
	}
}

// What is none of its messages is dropped, and it goes on.
func TestStrayPackets(t *testing.T) {
	_, k := begun(t, "https://"+closed(t)+"/dir")
	for _, packet := range [][]byte{
		{1},
		make([]byte, keywire.ErrandBytesMax+1), keywire.Hello{Epoch: 7}.Append(nil), keywire.Presented{Epoch: 7, Number: 1}.Append(nil),
		keywire.Order{Epoch: 7}.Append(nil),
	} {
		k.say(packet)
	}
	k.say(keywire.Order{Epoch: 7, ID: 5, Request: []byte{0x30, 0}}.Append(nil))
	if m, err := keywire.DecodeNotIssued(k.heard()); err != nil || m.ID != 5 {
		t.Errorf("got %+v, %v", m, err)
	}
}

// Challenges leave certmagic by its storage: they go to the keeper, and only those of names
// that are ordered; what else it stores is an account, and comes back.
func TestAccounts(t *testing.T) {
	r, k := begun(t, "https://"+closed(t)+"/dir")
	ctx := context.Background()
	path := t.TempDir()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	folder, err := sockets.OpenFolder(fd, path)
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]*accounts{"memory": newAccounts(nil, r), "folder": newAccounts(folder, r)} {
		const key, challenge = "acme/ca/users/default/default.key", "acme/ca/challenge_tokens/a.test.json"
		if _, err := a.Load(ctx, key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := a.Store(ctx, key, []byte("x")); err != nil || !a.Exists(ctx, key) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := a.Load(ctx, key); err != nil || string(got) != "x" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if err := a.Delete(ctx, key); err != nil || a.Exists(ctx, key) {
			t.Errorf("%s: %v", name, err)
		}
		value := []byte(`{"type":"http-01","token":"t","keyAuthorization":"t.x","identifier":{"type":"dns","value":"a.test"}}`)
		if err := a.Store(ctx, challenge, value); err == nil {
			t.Errorf("%s: a challenge of a name that is not ordered", name)
		}
		if err := r.enlist(ctx, "a.test", 5); err != nil {
			t.Fatal(err)
		}
		stored := make(chan error, 1)
		go func() { stored <- a.Store(ctx, challenge, value) }()
		m, err := keywire.DecodePresent(k.heard())
		if err != nil || m.ID != 5 || m.Kind != keywire.HTTP01 || string(m.Name) != "a.test" || string(m.Proof) != "t.x" {
			t.Errorf("%s: got %+v, %v", name, m, err)
		}
		k.say(keywire.Presented{Epoch: m.Epoch, Number: m.Number}.Append(nil))
		if err := <-stored; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.Delete(ctx, challenge); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if over, err := keywire.DecodeRetract(k.heard()); err != nil || over.Number != m.Number {
			t.Errorf("%s: got %+v, %v", name, over, err)
		}
		r.delist("a.test")
		if err := a.Store(ctx, challenge, []byte(`{"type":"dns-01"}`)); err == nil {
			t.Errorf("%s: a challenge that nobody answers was taken", name)
		}
	}
}

// What the CA has said is what the operator reads.
func TestFailureOf(t *testing.T) {
	plan := conf.Registrar{CA: "https://ca/dir", TestCA: "https://test/dir"}
	problem := acme.Problem{
		Type: "urn:x", Status: 403, Detail: "no", Subproblems: []acme.Subproblem{{Problem: acme.Problem{Detail: "why"}}},
		Resource: acme.Authorization{
			Identifier: acme.Identifier{Value: "a.test"},
			Challenges: []acme.Challenge{{Type: "dns-01"}, {Type: "http-01", Error: &acme.Problem{}}},
		},
	}
	got := failureOf(fmt.Errorf("x: %w (ca=https://test/dir)", problem), plan)
	if string(got.CA) != plan.TestCA || got.Status != 403 || string(got.Problem) != "urn:x" || string(got.Text) != "no; why" ||
		string(got.Name) != "a.test" || string(got.Challenge) != "http-01" {
		t.Errorf("got %+v", got)
	}
	if got := failureOf(errors.New("a \xff b"), plan); string(got.Text) != "a ? b" || string(got.CA) != plan.CA {
		t.Errorf("got %+v", got)
	}
}
