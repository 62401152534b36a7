package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A side is one end of a story.
type side struct {
	*world
	net.Conn
	r      *bufio.Reader
	client bool // runs on the goroutine of the test
}

// fail ends the side that it is called on.
func (s *side) fail(format string, args ...any) {
	s.Helper()
	s.Errorf(format, args...)
	s.Close()
	if s.client {
		s.FailNow()
	}
	runtime.Goexit()
}

func (s *side) say(parts ...string) {
	s.Helper()
	if _, err := io.WriteString(s.Conn, strings.Join(parts, "")); err != nil {
		s.fail("%T: say %.60q: %v", s.Conn, parts, err)
	}
}

// head reads as far as an empty line.
func (s *side) head() string {
	s.Helper()
	var b strings.Builder
	for !strings.HasSuffix(b.String(), "\r\n\r\n") {
		line, err := s.r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			s.fail("head: %v after %q", err, b.String())
		}
	}
	return b.String()
}

// hear reads as much as text has, and wants it to be text.
func (s *side) hear(text string) {
	s.Helper()
	b := make([]byte, len(text))
	if n, err := io.ReadFull(s.r, b); err != nil || string(b) != text {
		s.fail("heard %.200q (%v), want %.200q", b[:n], err, text)
	}
}

// rest reads as far as the end, and wants an orderly one.
func (s *side) rest() string {
	s.Helper()
	b, err := io.ReadAll(s.r)
	if err != nil {
		s.fail("rest: %v after %.200q", err, b)
	}
	return string(b)
}

// ended wants the connection to be over without a further byte.
func (s *side) ended() {
	s.Helper()
	if rest := s.rest(); rest != "" {
		s.fail("the connection goes on with %.200q", rest)
	}
}

// An appSide is one connection to the scripted app.
type appSide struct{ side }

// request reads a whole request: its head as it came, and its body.
func (a *appSide) request() (head, body string, req *http.Request) {
	a.Helper()
	head = a.head()
	req, err := http.ReadRequest(newReader(head, a.r))
	if err != nil {
		a.fail("request: %v in %q", err, head)
	}
	b, err := io.ReadAll(req.Body)
	if err != nil {
		a.fail("request body: %v after %d bytes", err, len(b))
	}
	return head, string(b), req
}

func newReader(head string, rest io.Reader) *bufio.Reader {
	return bufio.NewReader(io.MultiReader(strings.NewReader(head), rest))
}

// A clientSide is one connection of the scripted client.
type clientSide struct{ side }

// reply reads a whole reply to method, whose body is complete.
func (c *clientSide) reply(method string) (*http.Response, string) {
	c.Helper()
	resp, body, err := c.tryReply(method)
	if err != nil {
		c.fail("reply: %v after %.200q", err, body)
	}
	return resp, body
}

func (c *clientSide) tryReply(method string) (*http.Response, string, error) {
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// want reads a reply and compares status and body.
func (c *clientSide) want(method string, status int, body string) *http.Response {
	c.Helper()
	resp, got := c.reply(method)
	if resp.StatusCode != status || got != body {
		c.fail("got %d %.200q (%d bytes), want %d %.200q (%d bytes)", resp.StatusCode, got, len(got), status, body, len(body))
	}
	return resp
}

// broken wants a reply that cannot be taken for a whole one.
func (c *clientSide) broken(method string) {
	c.Helper()
	resp, body, err := c.tryReply(method)
	if err == nil {
		c.fail("a reply that was cut looks whole: %v %.200q", resp, body)
	}
}

// get is a request for / without a body, and with more fields.
func get(fields ...string) string { return request("GET / HTTP/1.1", fields...) }

func request(line string, fields ...string) string {
	return strings.Join(append([]string{line, "Host: app.test"}, fields...), "\r\n") + "\r\n\r\n"
}

// logLines are the lines of a log, for whoever waits for one.
type logLines struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(line)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// logged waits for a line that has all the parts.
func (w *world) logged(parts ...string) {
	w.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
	lines:
		for line := range strings.Lines(w.log.String()) {
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue lines
				}
			}
			return
		}
	}
	w.Errorf("no line of the log has %q:\n%s", parts, w.log)
}

// yield lets others run, for whoever waits for a count.
func (s *side) yield() { runtime.Gosched() }

// trickle sends text, slower than anybody would, until it is over.
func (c *clientSide) trickle(text string, over <-chan struct{}) {
	beat := time.NewTicker(20 * ms)
	defer beat.Stop()
	for ; len(text) > 0; text = text[1:] {
		select {
		case <-beat.C:
			_, _ = io.WriteString(c.Conn, text[:1]) // the test ends with its connection
		case <-over:
			return
		}
	}
}

// answered waits until n exchanges are over, so that the next one finds the app's connection free: a
// stream ends with its last byte, while its exchange is being put away.
func (c *clientSide) answered(n int) {
	c.Helper()
	for deadline := time.Now().Add(patience); strings.Count(c.log.String(), `"request answered"`) < n; c.yield() {
		if time.Now().After(deadline) {
			c.fail("fewer than %d exchanges are over:\n%s", n, c.log)
		}
	}
}

// told waits until the client knows that the connection is to end, where that comes by a stream of
// its own: an answer could be quicker.
func (c *clientSide) told() {
	c.Helper()
	client, ok := c.Conn.(*h3Client)
	if !ok {
		return
	}
	for deadline := time.Now().Add(patience); ; c.yield() {
		client.mu.Lock()
		away := client.away
		client.mu.Unlock()
		if away {
			return
		}
		if time.Now().After(deadline) {
			c.fail("no GOAWAY")
		}
	}
}

// socket is what is below all protocols.
func (c *clientSide) socket() *net.TCPConn {
	conn := c.Conn
	if gateway, ok := conn.(*h2Client); ok {
		conn = gateway.Conn
	}
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	return conn.(*net.TCPConn)
}

// arrived waits until the other end's kernel has all that was said (tcp(7), SIOCOUTQ):
// on a busy machine that is later than the write, on loopback too. A connection of QUIC
// lingers for what is on its way.
func (c *clientSide) arrived() {
	if c.h3 {
		return
	}
	raw, err := c.socket().SyscallConn()
	for left := -1; err == nil && left != 0; c.yield() {
		ctlErr := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		err = errors.Join(err, ctlErr)
	}
	if err != nil {
		c.fail("%v", err)
	}
}

// reset leaves without a farewell, which would wait behind what was not read.
func (c *clientSide) reset() {
	if c.h3 {
		c.Close()
		return
	}
	conn := c.socket()
	if err := conn.SetLinger(0); err != nil {
		c.fail("%v", err)
	}
	conn.Close()
}
