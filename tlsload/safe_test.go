package tlsload

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/tlsload/keeper"
)

// quick are limits for tests in which a packet is lost, or a keeper stalls.
var quick = limits{resend: 20 * time.Millisecond, giveUp: 2 * time.Second, renew: time.Hour}

// A safe is a keeper's store, and what a client trusts.
type safe struct {
	store *keeper.Store
	roots *x509.CertPool
}

// newSafe has one P-256 certificate for each host, whose handle is its index.
func newSafe(t *testing.T, hosts ...string) safe {
	t.Helper()
	s := safe{roots: x509.NewCertPool()}
	var plan conf.Keeper
	var files []keeper.Files
	for _, host := range hosts {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
		s.roots.AppendCertsFromPEM(certPEM)
		plan.Certificates = append(plan.Certificates, conf.Certificate{Hosts: []string{host}})
		files = append(files, keeper.Files{
			Cert: given(t, certPEM),
			Key:  given(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		})
	}
	var err error
	if s.store, err = keeper.Load(plan, files, keeper.AuthorityFiles{}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	return s
}

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
	return fd
}

// linked is a link. The core's end belongs to the Keyring that is opened on it.
func linked(t *testing.T) (core, keeper int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[1]) })
	return pair[0], pair[1]
}

// serve runs a keeper on links until stop is called, or the test ends.
func (s safe) serve(t *testing.T, links ...int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- keeper.New(s.store, links, zerolog.Nop()).Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func opened(t *testing.T, core, certificates int, limits limits) *Keyring {
	t.Helper()
	k, err := open(core, certificates, func(msg string, err error) { t.Errorf("%s: %v", msg, err) }, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// connected is a stream with room in it, unlike net.Pipe: both ends of TLS write
// at the same time when a session is resumed.
func connected() (near, far net.Conn, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		return nil, nil, err
	}
	far, err = listener.Accept()
	return near, far, err
}

// shake makes one handshake and exchanges a byte, so that the client gets its tickets.
func shake(core, client *tls.Config) (tls.ConnectionState, error) {
	near, far, err := connected()
	if err != nil {
		return tls.ConnectionState{}, err
	}
	shaken := make(chan error, 1)
	go func() {
		conn := tls.Server(far, core)
		_, err := conn.Write([]byte{1})
		far.Close()
		shaken <- err
	}()
	conn := tls.Client(near, client)
	_, err = conn.Read(make([]byte, 1))
	near.Close()
	return conn.ConnectionState(), errors.Join(err, <-shaken)
}

func (s safe) client(host string) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: s.roots}
}

func oneSite(host string) conf.Core { return conf.Core{Sites: []conf.Site{{Hosts: []string{host}}}} }
