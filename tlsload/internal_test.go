package tlsload

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/tlsload/keeper"
)

// An internalCA is a folder of the internal CA, which keepers load one after the other.
type internalCA struct {
	plan conf.Keeper
	kept keeper.AuthorityFiles
}

// newInternalCA has one certificate for each list of names.
func newInternalCA(t *testing.T, nameLists ...[]string) internalCA {
	t.Helper()
	folder := t.TempDir()
	ca := internalCA{plan: conf.Keeper{Authority: &conf.Authority{
		Secret: filepath.Join(folder, "internal-ca.secret"),
		Root:   filepath.Join(folder, "root.pem"),
	}}}
	for _, names := range nameLists {
		ca.plan.Certificates = append(ca.plan.Certificates, conf.Certificate{Hosts: names, Internal: true})
	}
	ca.kept.Secret = made(t, ca.plan.Authority.Secret, 0o600)
	ca.kept.Root = made(t, ca.plan.Authority.Root, 0o644)
	return ca
}

// made is an empty file, as boot makes it.
func made(t *testing.T, path string, mode uint32) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// load is what one keeper has, and a client that trusts the root file.
func (ca internalCA) load(t *testing.T) safe {
	t.Helper()
	store, err := keeper.Load(ca.plan, make([]keeper.Files, len(ca.plan.Certificates)), ca.kept, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(ca.plan.Authority.Root)
	if err != nil {
		t.Fatal(err)
	}
	s := safe{store: store, roots: x509.NewCertPool()}
	if !s.roots.AppendCertsFromPEM(root) {
		t.Fatalf("no root in %q", root)
	}
	return s
}

// A client that trusts the root alone reaches every internal site by name, and
// by address without one.
func TestInternalHandshakes(t *testing.T) {
	ca := newInternalCA(t, []string{"shop.localhost"}, []string{"localhost", "127.0.0.1", "::1", "desk"})
	s := ca.load(t)
	core, link := linked(t)
	s.serve(t, link)
	config := opened(t, core, 2, quick).Config(conf.Core{Sites: []conf.Site{
		{Hosts: []string{"shop.localhost"}, Certificate: 0}, {Hosts: []string{"*"}, Certificate: 1},
	}})
	for _, name := range []string{"shop.localhost", "localhost", "desk", "127.0.0.1", "::1"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client := s.client(name)
			client.MaxVersion = version
			state, err := shake(config, client)
			if err != nil || len(state.PeerCertificates) != 1 {
				t.Errorf("%s, %s: got %d certificates, %v", name, tls.VersionName(version), len(state.PeerCertificates), err)
			}
		}
	}
	if _, err := shake(config, s.client("example.com")); err == nil {
		t.Error("a client takes the certificate of another name")
	}
}

// A keeper is followed by another one that has issued other certificates: the
// core takes them over while it serves, and no handshake fails before or after.
func TestInternalCertificatesAreTakenOver(t *testing.T) {
	limits := quick
	limits.renew = 20 * time.Millisecond
	ca := newInternalCA(t, []string{"localhost"})
	core, link := linked(t)
	first := ca.load(t)
	stop := first.serve(t, link)
	config := opened(t, core, 1, limits).Config(conf.Core{Sites: []conf.Site{{Hosts: []string{"localhost"}}}})
	client := first.client("localhost") // trusts the first root
	serial := func() string {
		t.Helper()
		state, err := shake(config, client)
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	for range 5 {
		before := serial()
		stop()
		swallow(link)
		stop = ca.load(t).serve(t, link)
		deadline := time.Now().Add(10 * time.Second)
		for serial() == before {
			if time.Now().After(deadline) {
				t.Fatal("the certificate stays as it was")
			}
		}
	}
}
