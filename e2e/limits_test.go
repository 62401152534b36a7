package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shortLimits is [limits] of a second and less, which every test of this file waits for.
const shortLimits = `[limits]
head_time = "500ms"
body_idle = "300ms"
body_rate = 10000
write_idle = "500ms"
keepalive_idle = "500ms"
`

// TestTimeLimits meets every limit of time with a client that is as slow as it can be,
// plain and over TLS: it is told 408 where it can be told, its connection ends, and what
// was refused is one line of the log.
func TestTimeLimits(t *testing.T) {
	s := newScene(t)
	s.startBareApp(false)
	s.write("sallyport.toml", strings.Replace(bare, "access = false, ", "", 1)+shortLimits)
	h := s.start()
	for scheme, dial := range map[string]func() (net.Conn, error){
		"http":  func() (net.Conn, error) { return net.Dial("tcp", h.http) },
		"https": func() (net.Conn, error) { return tls.Dial("tcp", h.https, s.client("shop.test")) },
	} {
		for name, c := range map[string]struct {
			say    string // at once
			again  string // and then, ten times in a second
			status string // of the one answer; "" for none
			cause  string // in the log; "" for nothing there
		}{
			"nothing":        {},
			"head_time":      {say: "GET /head HTTP/1.1\r\nHost: shop.test\r\n", again: "A: b\r\n", status: "408", cause: "head not complete within limits.head_time"},
			"body_idle":      {say: "POST /idle HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 9\r\n\r\nhalf", status: "408", cause: "body silent for limits.body_idle"},
			"body_rate":      {say: "POST /rate HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 9999\r\n\r\n", again: "x", status: "408", cause: "body slower than limits.body_rate"},
			"keepalive_idle": {say: "GET /idle HTTP/1.1\r\nHost: shop.test\r\n\r\n", status: "200"},
		} {
			t.Run(name+"/"+scheme, func(t *testing.T) {
				conn, err := dial()
				s.must(err)
				defer conn.Close()
				s.must(conn.SetDeadline(time.Now().Add(patience)))
				before := len(h.find("request answered", "cause="+c.cause)) + len(h.find("request refused", "cause="+c.cause))
				if status := slowly(t, conn, c.say, c.again); status != c.status {
					t.Errorf("answer %q, want %q", status, c.status)
				}
				if c.cause == "" {
					return
				}
				logged := func() int {
					return len(h.find("request answered", "cause="+c.cause)) + len(h.find("request refused", "cause="+c.cause)) - before
				}
				await(t, "a line with the cause "+c.cause, func() bool { return logged() > 0 })
				if n := logged(); n != 1 {
					t.Errorf("%d lines with the cause %s", n, c.cause)
				}
			})
		}
		t.Run("write_idle/"+scheme, func(t *testing.T) {
			conn, err := dial()
			s.must(err)
			defer conn.Close()
			_, err = io.WriteString(conn, "GET /large HTTP/1.1\r\nHost: shop.test\r\n\r\n")
			s.must(err)
			h.wait(t, "request answered", "target=/large", "tls="+map[string]string{"http": "false", "https": "true"}[scheme], "cause=client gone")
			// What is in the sockets can still be read; that it is not all shows.
			s.must(conn.SetDeadline(time.Now().Add(patience)))
			if n, err := io.Copy(io.Discard, conn); err == nil || errors.Is(err, syscall.ETIMEDOUT) || n >= 100<<20 {
				t.Errorf("%d bytes: %v", n, err)
			}
		})
	}
	for name, hello := range map[string]string{"nothing": "", "half a handshake": "\x16\x03\x01\x02\x00\x01\x00"} {
		t.Run(name+"/tcp to https", func(t *testing.T) {
			conn, err := net.Dial("tcp", h.https)
			s.must(err)
			defer conn.Close()
			s.must(conn.SetDeadline(time.Now().Add(patience)))
			if status := slowly(t, conn, hello, ""); status != "" {
				t.Errorf("answer %q", status)
			}
		})
	}
	if err := busy(h.http, nil, 4, 10); err != nil {
		t.Errorf("a client that is not slow: %v", err)
	}
}

// slowly says something, and something else again and again, and returns the status of
// the answer, once the connection is closed from the other side.
func slowly(t *testing.T, conn net.Conn, say, again string) (status string) {
	t.Helper()
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	beaten := make(chan struct{})
	go func() { // until over
		defer close(beaten)
		beat := time.NewTicker(100 * time.Millisecond)
		defer beat.Stop()
		for again != "" {
			select {
			case <-beat.C:
				_, _ = io.WriteString(conn, again) // it may be closed by now, which is what is waited for
			case <-over:
				return
			}
		}
	}()
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err == nil {
		status = resp.Status[:3]
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err == nil {
		_, err = in.ReadByte()
	}
	close(over)
	<-beaten
	late, is := err.(net.Error)
	if err == nil || is && late.Timeout() {
		t.Errorf("the connection goes on: %v", err)
	}
	return status
}
