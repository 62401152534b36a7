package h3

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// pages answers all requests with some text.
type pages string

// Serve is message.Handler.
func (p pages) Serve(ex *message.Exchange) {
	page := message.Page{Status: 200, Text: string(p)}
	_ = page.Send(ex.Stream) // the client may have left
}

// open is a client of an engine that answers with text, and has window bytes of room for it.
func open(t *testing.T, text string, awaited bool, window uint64) (*Engine, *quic.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}, NextProtos: []string{"h3"}}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{
		Handler: pages(text), Run: func(job func()) { go job() }, Refused: func(*message.Exchange, *message.Refusal) {},
		Limits: conf.Limits{HeadBytes: 1 << 14, LineBytes: 1 << 13, Fields: 100, Streams: 10, ControlFrames: 100, StreamResets: 100, WriteIdle: time.Minute},
	}
	l, err := e.Listen(Socket{Conn: udp, TLS: config, Awaited: awaited})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	client := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}
	conn, err := quic.DialAddr(t.Context(), udp.LocalAddr().String(), client, &quic.Config{InitialStreamReceiveWindow: window, MaxStreamReceiveWindow: window})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	return e, conn
}

// ask sends a GET.
func ask(t *testing.T, conn *quic.Conn) *quic.Stream {
	t.Helper()
	qs, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head := append(beginSection(make([]byte, sectionRoom)), 0xc0|17, 0xc0|23, 0xc0|1, 0x50, 6)
	if _, err := qs.Write(endSection(append(head, "a.test"...), 0)); err != nil {
		t.Fatal(err)
	}
	_ = qs.Close() // it is open
	return qs
}

// TestDrainSlowly: an answer that is over, but for an end for which its client has no room, is the client's
// for as long as it takes something of it.
func TestDrainSlowly(t *testing.T) {
	text := strings.Repeat("sallyport ", 500)
	e, conn := open(t, text, false, 1000)
	qs := ask(t, conn)
	first := make([]byte, 10)
	if _, err := io.ReadFull(qs, first); err != nil {
		t.Fatal(err)
	}
	e.Drain()
	select {
	case <-conn.Context().Done():
		t.Fatalf("cut: %v", context.Cause(conn.Context()))
	case <-time.After(3 * lingerTime):
	}
	rest, err := io.ReadAll(qs)
	if err != nil || !strings.Contains(string(rest), text) {
		t.Errorf("%d bytes: %v", len(rest), err)
	}
	select {
	case <-conn.Context().Done():
	case <-time.After(10 * time.Second):
		t.Error("the connection stays")
	}
}

// TestRetireAwaited: the socket that another process waits for is closed when its last exchange is over,
// idle connections are ended, and new ones refused meanwhile.
func TestRetireAwaited(t *testing.T) {
	text := strings.Repeat("sallyport ", 500)
	e, conn := open(t, text, true, 1000)
	qs := ask(t, conn)
	if _, err := io.ReadFull(qs, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	e.Retire()
	client := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}
	if _, err := quic.DialAddr(t.Context(), conn.RemoteAddr().String(), client, nil); err == nil || !strings.Contains(err.Error(), "CONNECTION_REFUSED") {
		t.Errorf("a new connection: %v", err)
	}
	if rest, err := io.ReadAll(qs); err != nil || !strings.Contains(string(rest), text) {
		t.Errorf("%d bytes: %v", len(rest), err)
	}
	address := conn.RemoteAddr().(*net.UDPAddr)
	looks, late := time.NewTicker(10*time.Millisecond), time.After(10*time.Second)
	defer looks.Stop()
	for {
		select {
		case <-looks.C:
		case <-late:
			t.Fatal("the socket stays")
		}
		if successor, err := net.ListenUDP("udp", address); err == nil {
			_ = successor.Close() // it was free
			return
		}
	}
}
