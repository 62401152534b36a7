package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// A journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// count is how many lines hold all of parts.
func (j *journal) count(parts ...string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		holds := true
		for _, part := range parts {
			holds = holds && strings.Contains(line, part)
		}
		if holds {
			n++
		}
	}
	return n
}

// introductions are the headers of proxy-protocol.txt, sections 2.1 and 2.2.
const (
	v2       = "\r\n\r\n\x00\r\nQUIT\n"
	v2TCP4   = v2 + "\x21\x11\x00\x0c" + "\x01\x02\x03\x04" + "\x7f\x00\x00\x01" + "\x10\x00" + "\x01\xbb"
	v2Local  = v2 + "\x20\x00\x00\x00"
	v2TLV    = v2 + "\x21\x11\x00\x10" + "\x01\x02\x03\x04" + "\x7f\x00\x00\x01" + "\x10\x00" + "\x01\xbb" + "\x04\x00\x01\x00"
	v2Unix   = v2 + "\x21\x31\x00\xd8"
	v2UDP4   = v2 + "\x21\x12\x00\x0c" + "\x01\x02\x03\x04" + "\x7f\x00\x00\x01" + "\x10\x00" + "\x01\xbb"
	v2Mapped = v2 + "\x21\x21\x00\x24" + tenZeros + "\xff\xff\x0a\x00\x00\x01" + tenZeros + "\xff\xff\x7f\x00\x00\x01" + "\x10\x00" + "\x01\xbb"
	tenZeros = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// introduce says the header, over TLS if there is a config, makes a request with an
// X-Forwarded-For, and returns what the app heard of the client.
func introduce(t *testing.T, address, header string, over *tls.Config) (chain, client string, err error) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	const request = "GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
	if over == nil {
		_, err = io.WriteString(conn, header+request) // in one piece
	} else if _, err = io.WriteString(conn, header); err == nil {
		session := tls.Client(conn, over)
		_, err = io.WriteString(session, request)
		conn = session
	}
	if err != nil {
		return "", "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", "", err
	}
	return resp.Header.Get("X-Chain"), resp.Header.Get("X-Client"), resp.Body.Close()
}

// TestIntroductions: who asks is whom the header names, and what that one says of others
// is believed if it is a proxy of ours too; one that names nobody is not believed.
func TestIntroductions(t *testing.T) {
	var log journal
	f, addresses := openFrontAs(t, &log, func(plan *conf.Core) {
		plan.ProxyProtocol, plan.Log.Access = true, true
		plan.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	over := &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"}
	for name, test := range map[string]struct{ header, chain, client string }{
		"v1 of IPv4":           {"PROXY TCP4 1.2.3.4 127.0.0.1 4096 443\r\n", "1.2.3.4", "1.2.3.4"},
		"v1 of IPv6":           {"PROXY TCP6 2001:db8::1 ::1 4096 443\r\n", "2001:db8::1", "2001:db8::1"},
		"v1 of a proxy":        {"PROXY TCP4 10.0.0.1 127.0.0.1 4096 443\r\n", "6.6.6.6, 10.0.0.1", "6.6.6.6"},
		"v1 of nobody":         {"PROXY UNKNOWN\r\n", "127.0.0.1", "127.0.0.1"},
		"v1 of somebody":       {"PROXY UNKNOWN 10.0.0.1 10.0.0.2 1 2\r\n", "127.0.0.1", "127.0.0.1"},
		"v2 of IPv4":           {v2TCP4, "1.2.3.4", "1.2.3.4"},
		"v2 with TLVs":         {v2TLV, "1.2.3.4", "1.2.3.4"},
		"v2 of the proxy":      {v2Local, "127.0.0.1", "127.0.0.1"},
		"v2 of a mapped proxy": {v2Mapped, "6.6.6.6, 10.0.0.1", "6.6.6.6"},
	} {
		for i, config := range []*tls.Config{nil, over} {
			chain, client, err := introduce(t, addresses[i], test.header, config)
			if err != nil || chain != test.chain || client != test.client {
				t.Errorf("%s, TLS %v: %q %q %v, want %q %q", name, config != nil, chain, client, err, test.chain, test.client)
			}
		}
	}
	<-f.drained(f.drain) // an answer is logged when it is sent, and a client may have it before
	if n := log.count(`"peer":"1.2.3.4:4096"`); n != 6 {
		t.Errorf("%d lines name the client, want 6: %s", n, log.text.String())
	}
}

// TestNoIntroduction: who begins with anything else is told nothing, counted and logged.
func TestNoIntroduction(t *testing.T) {
	var log journal
	_, addresses := openFrontAs(t, &log, func(plan *conf.Core) {
		plan.ProxyProtocol = true
		plan.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	wrong := []string{
		"", "PROXY\r\n", "proxy TCP4 1.2.3.4 127.0.0.1 4096 443\r\n", "PROXY TCP4 1.2.3.4\r\n", "PROXY TCP4 1.2.3.4 127.0.0.1 4096 443\n",
		"PROXY TCP4 1.2.3.4.5 127.0.0.1 4096 443\r\n", "PROXY TCP4 1.2.3.4 127.0.0.1 65536 443\r\n", "PROXY TCP4 ::1 ::1 4096 443\r\n",
		"PROXY TCP6 1.2.3.4 127.0.0.1 4096 443\r\n", "PROXY UDP4 1.2.3.4 127.0.0.1 4096 443\r\n", "PROXY  TCP4 1.2.3.4 127.0.0.1 4096 443\r\n",
		"PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", v2 + "\x31\x11\x00\x0c", v2 + "\x21\x11\x00\x02\x01\x02", v2Unix + strings.Repeat("\x00", 216), v2UDP4,
		" PROXY TCP4 1.2.3.4 127.0.0.1 4096 443\r\n", "\r\nPROXY TCP4 1.2.3.4 127.0.0.1 4096 443\r\n",
	}
	for _, header := range wrong {
		chain, _, err := introduce(t, addresses[0], header, nil)
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%q: %q %v, want the end of the connection", header, chain, err)
		}
	}
	if n := log.count(`"request refused"`, `"cause":"PROXY header missing or malformed"`, `"peer":"127.0.0.1:`); n != len(wrong) {
		t.Errorf("%d refusals are logged, want %d", n, len(wrong))
	}
}

// TestStranger: with the protocol on, nobody but a proxy of ours gets a word in.
func TestStranger(t *testing.T) {
	var log journal
	f, addresses := openFrontAs(t, &log, func(plan *conf.Core) {
		plan.ProxyProtocol = true
		plan.Trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	chain, _, err := introduce(t, addresses[0], "PROXY TCP4 10.0.0.1 127.0.0.1 4096 443\r\n", nil)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q %v, want the end of the connection", chain, err)
	}
	if n := log.count(`"cause":"no PROXY header is taken from this address"`); n != 1 {
		t.Errorf("%d refusals are logged, want 1", n)
	}
	if n := f.count.Load(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// FuzzIntroduced: what is taken for a header is one, to its last byte, and names an
// address or nobody.
func FuzzIntroduced(f *testing.F) {
	for _, seed := range []string{"PROXY TCP4 1.2.3.4 127.0.0.1 4096 443\r\nGET", "PROXY UNKNOWN\r\n", v2TCP4 + "GET", v2Local, v2TLV, v2Unix, v2Mapped} {
		f.Add([]byte(seed))
	}
	proxy := message.Peer{Addr: netip.MustParseAddrPort("127.0.0.1:1")}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 1<<10)
		peer, err := introduced(r, proxy)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(r) // from memory
		header := string(b[:len(b)-len(rest)])
		first := strings.HasPrefix(header, "PROXY ") && strings.HasSuffix(header, "\r\n") && strings.Count(header, "\n") == 1
		second := strings.HasPrefix(header, v2) && len(header) >= 16 && len(header) == 16+int(header[14])<<8+int(header[15])
		if !first && !second || !peer.Addr.IsValid() || peer.Unnamed != (peer == message.Peer{Addr: proxy.Addr, Unnamed: true}) || peer.Addr.Addr().Is4In6() {
			t.Fatalf("%q is %+v", header, peer)
		}
	})
}
