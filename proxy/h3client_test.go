package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// An h3Client tells the stories to an engine of HTTP/3, as h2Client does to one of HTTP/2: what is
// written to it becomes streams, one after the other, and what comes on them is read from it as
// an HTTP/1.1 server would have sent it.
type h3Client struct {
	conn      *quic.Conn
	transport *quic.Transport
	tasks     sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	said    []byte // by the story, and not sent
	sending bool   // somebody does
	stream  h3Stream

	heard bytes.Buffer // for the story
	away  bool         // GOAWAY came
	over  bool         // nothing comes behind heard
	late  bool
	timer *time.Timer
}

// An h3Stream is the stream that goes on.
type h3Stream struct {
	qs      *quic.Stream
	open    bool // its reply is not complete
	method  string
	tunnel  string // the protocol asked for
	is      bool   // a tunnel
	left    int    // of a body with a length; -1: chunked
	chunk   int    // left of the chunk
	inChunk bool   // whose size line has come
	early   bool   // the reply came before the request was sent
	sent    bool   // the whole request
	dead    bool   // nobody wants the rest of it
	replied bool   // the head that counts came
	chunked bool
	last    bool         // the reply says Connection: close
	held    bytes.Buffer // an error page, until it is known how it ends
	holds   bool
}

// h3HeardMost is how much the client reads ahead of its story.
const h3HeardMost = 64 << 10

func newH3Client(address net.Addr) (*h3Client, error) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	c := &h3Client{transport: &quic.Transport{Conn: udp}}
	c.changed = sync.NewCond(&c.mu)
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "app.test", NextProtos: []string{"h3"}}
	c.conn, err = c.transport.Dial(context.Background(), address, config, &quic.Config{
		InitialStreamReceiveWindow: h3HeardMost, MaxStreamReceiveWindow: h3HeardMost, MaxIdleTimeout: patience,
	})
	if err == nil {
		var control *quic.SendStream
		if control, err = c.conn.OpenUniStream(); err == nil {
			_, err = control.Write([]byte{0, 4, 0})
		}
	}
	if err != nil {
		c.transport.Close()
		udp.Close()
		return nil, err
	}
	c.tasks.Go(c.controlLoop)
	return c, nil
}

// controlLoop reads the server's control stream.
func (c *h3Client) controlLoop() {
	defer c.end()
	qs, err := c.conn.AcceptUniStream(context.Background())
	if err != nil {
		return
	}
	r := bufio.NewReader(qs)
	if kind, err := quicvarint.Read(r); err != nil || kind != 0 {
		return
	}
	for {
		kind, err := quicvarint.Read(r)
		if err != nil {
			return
		}
		n, _ := quicvarint.Read(r)
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
			return
		}
		if kind == 7 {
			c.mu.Lock()
			c.away = true
			c.mu.Unlock()
		}
	}
}

// end ends what the story hears.
func (c *h3Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.changed.Broadcast()
}

// Write is net.Conn.
func (c *h3Client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, p...)
	if err := c.pump(); err != nil {
		return len(p), err
	}
	return len(p), nil
}

// pump sends what can be sent.
func (c *h3Client) pump() error {
	if c.sending {
		return nil
	}
	c.sending = true
	defer func() { c.sending = false }()
	for {
		s := &c.stream
		switch {
		case c.over, c.late:
			return nil
		case !s.open:
			if more, err := c.begin(); !more || err != nil {
				return err
			}
		case s.dead:
			c.said = nil
			return nil
		case s.is:
			if len(c.said) == 0 {
				return nil
			}
			return c.data(len(c.said))
		case s.sent:
			return nil // the next request waits for this one's reply
		case s.left >= 0:
			n := min(s.left, len(c.said))
			if n == 0 {
				return nil
			}
			s.left -= n
			err := c.data(n)
			if s.left == 0 && err == nil {
				s.sent = true
				err = s.qs.Close()
			}
			if err != nil {
				return c.early(err)
			}
		default:
			if more, err := c.pumpChunk(); err != nil {
				return c.early(err)
			} else if !more {
				return nil
			}
		}
	}
}

// early is an error of a request whose reply came before it was sent: none, then.
func (c *h3Client) early(err error) error {
	reset, ok := errors.AsType[*quic.StreamError](err)
	if ok && reset.Remote || strings.Contains(err.Error(), "canceled stream") { // so Close says it
		c.said = nil
		c.stream.sent, c.stream.early = true, true
		return nil
	}
	return err
}

// data sends n bytes that were said, as a frame.
func (c *h3Client) data(n int) error {
	part := c.said[:n:n]
	c.said = c.said[n:]
	return c.send(append(h3Header(0, n), part...))
}

// send sends b, and lets others on meanwhile.
func (c *h3Client) send(b []byte) error {
	qs := c.stream.qs
	c.mu.Unlock()
	_, err := qs.Write(b)
	c.mu.Lock()
	return err
}

func h3Header(kind, n int) []byte {
	return quicvarint.Append(quicvarint.Append(nil, uint64(kind)), uint64(n))
}

// pumpChunk sends one chunk of a chunked body.
func (c *h3Client) pumpChunk() (more bool, err error) {
	s := &c.stream
	if s.inChunk && s.chunk > 0 {
		n := min(s.chunk, len(c.said))
		if n == 0 {
			return false, nil
		}
		s.chunk -= n
		return true, c.data(n)
	}
	if s.inChunk { // the CRLF behind it
		if len(c.said) < 2 {
			return false, nil
		}
		c.said, s.inChunk = c.said[2:], false
	}
	line, rest, ok := bytes.Cut(c.said, []byte("\r\n"))
	if !ok {
		return false, nil
	}
	size, _, _ := strings.Cut(string(line), ";")
	n, err := strconv.ParseInt(size, 16, 32)
	if err != nil {
		return false, err
	}
	if n > 0 {
		c.said, s.chunk, s.inChunk = rest, int(n), true
		return true, nil
	}
	trailer, after, ok := bytes.Cut(rest, []byte("\r\n\r\n"))
	switch {
	case bytes.HasPrefix(rest, []byte("\r\n")):
		c.said = rest[2:]
	case ok:
		c.said = after
		var e h3Encoder
		e.fields(strings.Split(string(trailer), "\r\n"))
		if err := c.send(e.frame()); err != nil {
			return false, err
		}
	default:
		return false, nil
	}
	s.sent = true
	if err := s.qs.Close(); err != nil {
		return true, c.early(err)
	}
	return true, nil
}

// An h3Encoder makes a HEADERS frame.
type h3Encoder struct{ section bytes.Buffer }

func (e *h3Encoder) field(name, value string) {
	encoder := qpack.NewEncoder(e)
	_ = encoder.WriteField(qpack.HeaderField{Name: name, Value: value})
}

// Write takes a field; the prefix of a section comes once.
func (e *h3Encoder) Write(p []byte) (int, error) {
	if e.section.Len() > 0 && bytes.HasPrefix(p, []byte{0, 0}) {
		p = p[2:]
	}
	return e.section.Write(p)
}

func (e *h3Encoder) fields(lines []string) {
	named := "connection,keep-alive,proxy-connection,transfer-encoding,upgrade,host,te,http2-settings,sec-websocket-key"
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Connection") {
			named += "," + strings.ToLower(strings.NewReplacer(" ", "", "\t", "").Replace(value))
		}
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		if !strings.Contains(","+named+",", ","+name+",") {
			e.field(name, strings.TrimSpace(value))
		}
	}
}

func (e *h3Encoder) frame() []byte { return append(h3Header(1, e.section.Len()), e.section.Bytes()...) }

// begin sends the head of a request.
func (c *h3Client) begin() (more bool, err error) {
	c.said = bytes.TrimPrefix(c.said, []byte("\r\n"))
	head, _, ok := strings.Cut(string(c.said), "\r\n\r\n")
	if !ok {
		return false, nil
	}
	c.said = c.said[len(head)+4:]
	lines := strings.Split(head, "\r\n")
	words := strings.Split(lines[0], " ")
	req, err := http.ReadRequest(newReader(head+"\r\n\r\n", strings.NewReader("")))
	if err != nil {
		return false, fmt.Errorf("h3 client: %q: %w", head, err)
	}
	s := &c.stream
	*s = h3Stream{open: true, method: words[0], left: -1}
	if s.qs, err = c.conn.OpenStream(); err != nil {
		return false, err
	}
	path := words[1]
	if _, rest, ok := strings.Cut(path, "://"); ok && !strings.HasPrefix(path, "/") {
		authority, below, slash := strings.Cut(rest, "/")
		path = "/" + below
		if !slash && s.method == "OPTIONS" {
			path = "*"
		}
		req.Host = authority
	}
	var e h3Encoder
	upgrade := req.Header.Get("Upgrade")
	switch {
	case strings.Contains(strings.ToLower(req.Header.Get("Connection")), "upgrade") && upgrade != "":
		s.tunnel = upgrade
		e.field(":method", "CONNECT")
		e.field(":protocol", upgrade)
	default:
		e.field(":method", s.method)
	}
	e.field(":scheme", "https")
	e.field(":authority", req.Host)
	e.field(":path", path)
	e.fields(lines[1:])
	if len(req.TransferEncoding) == 0 {
		s.left = int(max(req.ContentLength, 0))
	}
	s.sent = s.left == 0 && s.tunnel == ""
	qs, whole := s.qs, s.sent
	c.tasks.Go(func() { c.readLoop(qs) })
	err = c.send(e.frame())
	if whole && err == nil {
		err = qs.Close()
	}
	if err != nil {
		return true, c.early(err)
	}
	return true, nil
}

// Read is net.Conn.
func (c *h3Client) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.heard.Len() == 0 {
		switch {
		case c.over:
			return 0, io.EOF
		case c.late:
			return 0, os.ErrDeadlineExceeded
		}
		c.changed.Wait()
	}
	n, err := c.heard.Read(p)
	c.changed.Broadcast()
	return n, err
}

// SetDeadline is net.Conn.
func (c *h3Client) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(time.Until(t), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.late = true
		c.changed.Broadcast()
		if c.stream.qs != nil {
			_ = c.stream.qs.SetWriteDeadline(time.Now())
		}
	})
	return nil
}

// SetReadDeadline and SetWriteDeadline are net.Conn.
func (c *h3Client) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c *h3Client) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// LocalAddr and RemoteAddr are net.Conn.
func (c *h3Client) LocalAddr() net.Addr  { return h3Addr(c.conn.LocalAddr()) }
func (c *h3Client) RemoteAddr() net.Addr { return h3Addr(c.conn.RemoteAddr()) }

// h3Addr is an address as the stories know them.
func h3Addr(a net.Addr) net.Addr { return net.TCPAddrFromAddrPort(a.(*net.UDPAddr).AddrPort()) }

// CloseWrite ends a tunnel's half, or the request.
func (c *h3Client) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream.qs == nil {
		return c.conn.CloseWithError(0x100, "")
	}
	return c.stream.qs.Close()
}

// Close is net.Conn.
func (c *h3Client) Close() error {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.end()
	err := c.conn.CloseWithError(0x100, "")
	c.tasks.Wait()
	c.transport.Close()
	c.transport.Conn.Close()
	return err
}
