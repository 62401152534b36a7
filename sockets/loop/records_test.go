package loop

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"testing"
	"time"
)

// TestRecordsDrained: only a session that certainly has nothing left is called drained.
func TestRecordsDrained(t *testing.T) {
	record := func(n int) []byte { return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...) }
	two := append(record(3), record(700)...)
	for _, test := range []struct {
		name  string
		reads [][]byte
		want  []bool // after each
	}{
		{"a record", [][]byte{record(20)}, []bool{true}},
		{"an empty one", [][]byte{record(0)}, []bool{true}},
		{"the next", [][]byte{record(20), record(300)}, []bool{true, true}},
		{"two at once", [][]byte{two}, []bool{false}},
		{"half a header", [][]byte{two[:3], two[3:8]}, []bool{false, false}},
		{"half a payload", [][]byte{two[:6], two[6:8]}, []bool{false, false}},
		{"one and a piece", [][]byte{two[:9], two[9:], record(1)}, []bool{false, false, true}},
		{"nothing", [][]byte{record(1), nil}, []bool{true, false}},
	} {
		r := NewRecords(nil, nil)
		for i, bytes := range test.reads {
			r.seen, r.aligned = 0, r.begun == 0
			r.follow(bytes)
			if got := r.Drained(); got != test.want[i] {
				t.Errorf("%s: after read %d drained is %v", test.name, i, got)
			}
		}
	}
}

// TestRecordsTogether: what a session writes arrives whole and in order, gathered or not, and
// with a buffer that is too small.
func TestRecordsTogether(t *testing.T) {
	near, far := pair(t, started(t))
	records := NewRecords(near, near)
	session := tls.Server(records, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true}) // of this test's own making
	sent := make([]byte, 3<<20)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	received := make(chan []byte, 1)
	go func() {
		got := make([]byte, len(sent))
		n, _ := io.ReadFull(client, got)
		received <- got[:n]
	}()
	if err := session.Handshake(); err != nil {
		t.Fatal(err)
	}
	buffers := [][]byte{make([]byte, 0), make([]byte, 100), make([]byte, 20<<10), make([]byte, 1<<20)}
	for i, rest := 0, sent; len(rest) > 0; i++ {
		piece := rest[:min(len(rest), 50_000)]
		rest = rest[len(piece):]
		if i%3 > 0 {
			records.Gather(buffers[i%len(buffers)])
		}
		if _, err := session.Write(piece); err != nil {
			t.Fatal(err)
		}
		if i%3 > 0 {
			if err := records.Flush(time.Minute); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := <-received; !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes arrived, or others", len(got), len(sent))
	}
}

// TestRecordFrame: a session does not wait for a peer that is slow while its longest
// records are gathered, whatever the cipher.
func TestRecordFrame(t *testing.T) {
	suites := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, 0} // the longest; that of TLS 1.3
	for _, suite := range tls.CipherSuites() {
		suites = append(suites, suite.ID)
	}
	l, certificate := started(t), selfSigned(t)
	for _, suite := range suites {
		near, far := pair(t, l)
		config := &tls.Config{
			Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true, // of this test's own making
			DynamicRecordSizingDisabled: true,
		}
		if suite != 0 {
			config.MaxVersion, config.CipherSuites = tls.VersionTLS12, []uint16{suite}
		}
		records := NewRecords(near, near)
		session, client := tls.Server(records, config), tls.Client(far, config)
		shaken := make(chan error, 1)
		go func() { shaken <- client.Handshake() }()
		if err := session.Handshake(); err != nil {
			far.Close() // a suite for another kind of certificate
			near.Close()
			<-shaken
			continue
		}
		records.Gather(make([]byte, RecordBytes+RecordFrame))
		if _, err := session.Write(make([]byte, RecordBytes)); err != nil {
			t.Fatal(err)
		}
		if got := len(records.held); got <= RecordBytes {
			t.Errorf("%s: %d bytes are gathered: the record did not fit", tls.CipherSuiteName(suite), got)
		}
		far.Close()
		<-shaken
		near.Close()
	}
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
