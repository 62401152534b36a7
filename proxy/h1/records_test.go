package h1

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// TestRecordsAfterAPause: limits.write_idle begins with each write of a TLS session; what
// is left of the one before, long ago, is nobody's limit. Records of CBC are the longest.
func TestRecordsAfterAPause(t *testing.T) {
	const length = 1 << 20
	for _, suite := range []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	} {
		watcher, err := loop.New()
		if err != nil {
			t.Fatal(err)
		}
		defer watcher.Close()
		raw, far := socketPair(t, watcher)
		e := &Engine{Limits: conf.Limits{WriteIdle: 100 * time.Millisecond}, Buffers: new(Buffers)}
		records := loop.NewRecords(raw, raw)
		session := tls.Server(records, &tls.Config{
			Certificates: []tls.Certificate{selfSigned(t)}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite},
			DynamicRecordSizingDisabled: true,
		})
		received := make(chan error, 1)
		go func() {
			client := tls.Client(far, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
			_, err := io.CopyN(io.Discard, client, length+1)
			received <- err
		}()
		if err := session.Handshake(); err != nil {
			t.Fatal(err)
		}
		c := e.open(wire{session, raw, records}, message.Peer{})
		if _, err := c.write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		raw.LimitRead(2 * e.Limits.WriteIdle)
		if _, err := raw.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) { // the app thinks
			t.Fatal(err)
		}
		if _, err := c.write(make([]byte, length)); err != nil {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
		}
		raw.Close()
		if err := <-received; err != nil {
			t.Errorf("%s: the client has %v", tls.CipherSuiteName(suite), err)
		}
		far.Close()
	}
}

func socketPair(t *testing.T, watcher *loop.Loop) (near, far *loop.Conn) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far = new(loop.Conn), new(loop.Conn)
	if err := watcher.Adopt(near, ends[0]); err != nil {
		t.Fatal(err)
	}
	if err := watcher.Adopt(far, ends[1]); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, text, text, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
