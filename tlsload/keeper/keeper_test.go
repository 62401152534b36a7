package keeper

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// What the tests of this package share: keys, files, links, a keeper at work.

const host = "shop.test"

// keys are one private key of each kind, by name. They are made once.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	must := func(key crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{
		"P-256":    must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"P-384":    must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"P-521":    must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"RSA-2048": must(rsa.GenerateKey(rand.Reader, 2048)),
		"Ed25519":  must(ed, err),
	}
})

// issue signs a certificate with its own key and returns both as PEM.
func issue(t *testing.T, key crypto.Signer) (cert, private []byte) {
	t.Helper()
	return issueUntil(t, key, time.Now().Add(time.Hour))
}

func issueUntil(t *testing.T, key crypto.Signer, end time.Time) (cert, private []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: host},
		DNSNames:     []string{host},
		NotBefore:    end.Add(-2 * time.Hour),
		NotAfter:     end,
		IsCA:         true, BasicConstraintsValid: true,
	}
	return issueFrom(t, template, key), pkcs8(t, key)
}

func issueFrom(t *testing.T, template *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func pkcs8(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// given writes a file and returns a descriptor of it, as boot gives them: with
// the offset at its end, where a keeper before this one has left it.
func given(t *testing.T, text []byte) int {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	return fd
}

// stocked is a Store with one certificate per key.
func stocked(t *testing.T, keys ...crypto.Signer) *Store {
	t.Helper()
	var plan conf.Keeper
	var files []Files
	for _, key := range keys {
		cert, private := issue(t, key)
		plan.Certificates = append(plan.Certificates, conf.Certificate{Cert: "shop.pem", Key: "shop.key"})
		files = append(files, Files{given(t, cert), given(t, private)})
	}
	store, err := Load(plan, files, AuthorityFiles{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// linked is a link: the core's end and the keeper's.
func linked(t *testing.T) (core, keeper int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	return pair[0], pair[1]
}

// serve runs a keeper on links until stop is called, or the test ends.
func serve(t *testing.T, store *Store, links ...int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- New(store, links, zerolog.Nop()).Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// heard waits for one packet at a core's end.
func heard(t *testing.T, core int) []byte {
	t.Helper()
	if !readable(t, core, 10*time.Second) {
		t.Fatal("no packet from the keeper")
	}
	buf := make([]byte, keywire.ReplyBytesMax)
	n, err := keywire.Receive(core, buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func readable(t *testing.T, fd int, limit time.Duration) bool {
	t.Helper()
	polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polled, int(limit.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// told sends one packet to the keeper.
func told(t *testing.T, core int, packet []byte) {
	t.Helper()
	if err := keywire.Send(core, packet); err != nil {
		t.Fatal(err)
	}
}

func TestServeEndsWithItsLinks(t *testing.T) {
	core0, keeper0 := linked(t)
	core1, keeper1 := linked(t)
	served := make(chan error)
	k := New(stocked(t, keys()["P-256"]), []int{keeper0, keeper1}, zerolog.Nop())
	go func() { served <- k.Serve(t.Context()) }()

	told(t, core1, nil) // an empty packet is not the end of a link
	if m, err := keywire.DecodeRefused(heard(t, core1)); err != nil || m.Reason != keywire.Malformed {
		t.Errorf("empty packet: got %+v, %v", m, err)
	}
	unix.Shutdown(core0, unix.SHUT_RDWR)
	told(t, core1, keywire.Hello{Epoch: 1}.Append(nil))
	if _, err := keywire.DecodeTickets(heard(t, core1)); err != nil {
		t.Errorf("after the end of another link: %v", err)
	}
	unix.Shutdown(core1, unix.SHUT_RDWR)
	if err := <-served; err != nil {
		t.Errorf("got %v", err)
	}
}

// A core that reads nothing gets no answers, and keeps nobody from theirs.
func TestCoreThatDoesNotRead(t *testing.T) {
	store := stocked(t, keys()["Ed25519"])
	deaf, keeper0 := linked(t)
	core, keeper1 := linked(t)
	serve(t, store, keeper0, keeper1)
	hello := keywire.Hello{Epoch: 1}.Append(nil)
	for range 2000 {
		if err := keywire.Send(deaf, hello); err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
	request := keywire.Sign{Epoch: 2, ID: 1, Scheme: keywire.Ed25519, Message: certificateVerify(32)}
	told(t, core, request.Append(nil))
	if _, err := keywire.DecodeSigned(heard(t, core)); err != nil {
		t.Errorf("the other core: %v", err)
	}
}

// Certificates that do not fit a link at once arrive all the same, while the
// core says Hello again and again.
func TestManyCertificates(t *testing.T) {
	store := stocked(t, keys()["Ed25519"])
	big := store.pairs[0]
	for range keywire.ChainLenMax - 1 {
		big.chain = append(big.chain, bytes.Repeat([]byte{1}, 4000))
	}
	const count = 20 // 60 KB each, six times a send buffer
	store.pairs = nil
	for range count {
		store.pairs = append(store.pairs, big)
	}
	core, keeper := linked(t)
	serve(t, store, keeper)
	seen := map[uint32]int{}
	for len(seen) < count {
		if len(seen)%5 == 0 {
			told(t, core, keywire.Hello{Epoch: 7}.Append(nil))
		}
		packet := heard(t, core)
		if op, _, _ := keywire.Head(packet); op == keywire.OpTickets {
			continue
		}
		m, err := keywire.DecodeCertificate(packet)
		if err != nil || m.Count != count || len(m.Chain) != keywire.ChainLenMax {
			t.Fatalf("got %d of %d with %d, %v", m.Handle, m.Count, len(m.Chain), err)
		}
		seen[m.Handle]++
	}
}

func TestRefusalsAreLoggedOncePerSecond(t *testing.T) {
	var text bytes.Buffer
	var r refusals
	for range 1000 {
		r.note(0, keywire.Document, zerolog.New(&text))
	}
	if lines := bytes.Count(text.Bytes(), []byte("\n")); lines < 1 || lines > 2 {
		t.Errorf("got %d lines, want one per second", lines)
	}
	if r.total != 1000 || r.counts[keywire.Document] != 1000 {
		t.Errorf("got %d of %d counted", r.counts[keywire.Document], r.total)
	}
}
