package e2e

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// TestH3WebSocket opens a WebSocket by an extended CONNECT (RFC 9220), to an app that speaks HTTP/1.1
// and knows nothing of it.
func TestH3WebSocket(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "")
	raw, err := s.dialH3(h)
	s.must(err)
	defer raw.CloseWithError(0x100, "")
	var section strings.Builder
	encoder := qpack.NewEncoder(&section)
	for _, f := range [][2]string{
		{":method", "CONNECT"},
		{":protocol", "websocket"},
		{":scheme", "https"},
		{":authority", "shop.test"},
		{":path", "/ws"},
		{"sec-websocket-version", "13"},
	} {
		s.must(encoder.WriteField(qpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	qs, err := raw.request(h3Frame(1, []byte(section.String())))
	s.must(err)
	tunnel := &h3Tunnel{qs: qs, r: bufio.NewReader(qs)}
	kind, head := tunnel.frame(t)
	status, err := qpack.NewDecoder().Decode(head)()
	if err != nil || kind != 1 || status.Name != ":status" || status.Value != "200" {
		t.Fatalf("frame of kind %d, %v: %v", kind, status, err)
	}
	for _, text := range []string{"hello", strings.Repeat("a longer one, ", 2000)} {
		writeFrame(t, tunnel, textFrame, text)
		if opcode, got := readFrame(t, tunnel); opcode != textFrame || got != text {
			t.Fatalf("echo of %.20q: opcode %d, %.20q", text, opcode, got)
		}
	}
	s.must(qs.Close())
}

// An h3Tunnel is the stream of an extended CONNECT.
type h3Tunnel struct {
	qs   *quic.Stream
	r    *bufio.Reader
	left int // of a DATA frame
}

// frame reads a frame.
func (c *h3Tunnel) frame(t *testing.T) (kind uint64, payload []byte) {
	t.Helper()
	kind, err := quicvarint.Read(c.r)
	if err != nil {
		t.Fatal(err)
	}
	n, err := quicvarint.Read(c.r)
	if err != nil {
		t.Fatal(err)
	}
	payload = make([]byte, n)
	for got := 0; got < len(payload); {
		k, err := c.r.Read(payload[got:])
		if err != nil {
			t.Fatal(err)
		}
		got += k
	}
	return kind, payload
}

// Write is io.Writer.
func (c *h3Tunnel) Write(p []byte) (int, error) {
	if _, err := c.qs.Write(h3Frame(0, p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read is io.Reader.
func (c *h3Tunnel) Read(p []byte) (int, error) {
	for c.left == 0 {
		if _, err := quicvarint.Read(c.r); err != nil { // DATA
			return 0, err
		}
		n, err := quicvarint.Read(c.r)
		if err != nil {
			return 0, err
		}
		c.left = int(n)
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// TestH3Browser has Chromium load a page of 200 things, send 10 MiB and read a streamed answer over HTTP/3.
func TestH3Browser(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "")
	at := "shop.test:" + port(h.https)
	s.browse(h, "https://"+at+"/page", "--ignore-certificate-errors-spki-list="+s.pin("shop"), "--origin-to-force-quic-on="+at)
	if got := len(h.find("request answered", "target=/thing*", "protocol=HTTP/3", "status=200")); got != 200 {
		t.Errorf("%d of 200 over HTTP/3; it reports %v", got, h.find("request answered", "target=/report*"))
	}
	if len(h.find("request answered", "target=/report?ok=200&h2=0&ws=hello&sent=10485760&came=one-two-three")) != 1 {
		t.Errorf("the browser reports %v", h.find("request answered", "target=/report*"))
	}
}

// pin is the hash of a certificate's key, as Chromium wants it of one that it is to trust: QUIC has
// no other way to another root.
func (s *scene) pin(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name + ".pem"))
	s.must(err)
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	s.must(err)
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}
