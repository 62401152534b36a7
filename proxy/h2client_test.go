package proxy_test

import (
	"bytes"
	"encoding/binary"
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

	"golang.org/x/net/http2/hpack"
)

// An h2Client tells the stories, which are written in HTTP/1.1, to an engine of HTTP/2: it is
// a gateway. What is written to it becomes streams, one after the other, by the time Write
// returns; what comes on them is read from it as an HTTP/1.1 server would have sent it. A
// reply that ends before its request, and one behind a GOAWAY, says Connection: close, for
// so does a server that cannot go on.
type h2Client struct {
	net.Conn

	mu      sync.Mutex
	changed *sync.Cond
	wire    bytes.Buffer // what is to be sent
	encoder *hpack.Encoder
	section bytes.Buffer
	decoder *hpack.Decoder
	window  int
	initial int

	said   []byte // by the story, and not sent
	last   uint32 // stream
	stream h2Stream

	heard  bytes.Buffer // for the story
	owed   int          // of windows, until the story has heard it
	away   bool         // GOAWAY came
	over   bool         // nothing comes behind heard
	late   bool
	silent bool // CloseWrite was called
	timer  *time.Timer
}

// An h2Stream is the stream that goes on.
type h2Stream struct {
	open    bool // its reply is not complete
	method  string
	tunnel  string // the protocol asked for
	is      bool   // a tunnel
	window  int
	left    int  // of a body with a length; -1: chunked
	chunk   int  // left of the chunk
	inChunk bool // whose size line has come
	sent    bool // the whole request
	dead    bool // nobody wants the rest of it
	replied bool // the head that counts came
	chunked bool
	last    bool         // the reply says Connection: close
	held    bytes.Buffer // an error page, until it is known how it ends
	holds   bool
}

const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

func newH2Client(conn net.Conn) (*h2Client, error) {
	c := &h2Client{Conn: conn, window: 65535, initial: 65535}
	c.changed = sync.NewCond(&c.mu)
	c.encoder = hpack.NewEncoder(&c.section)
	c.decoder = hpack.NewDecoder(4096, nil)
	c.wire.WriteString(h2Preface)
	c.frame(4, 0, 0, []byte{0, 2, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0}) // no push, and a window of 64 KiB
	c.initial = 1 << 16
	if err := c.flush(); err != nil {
		return nil, err
	}
	go c.readLoop()
	return c, nil
}

func (c *h2Client) frame(kind, flags byte, stream uint32, payload []byte) {
	n := len(payload)
	c.wire.Write([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags})
	_ = binary.Write(&c.wire, binary.BigEndian, stream)
	c.wire.Write(payload)
}

func (c *h2Client) flush() error {
	if c.silent {
		c.wire.Reset()
		return nil
	}
	_, err := c.Conn.Write(c.wire.Bytes())
	c.wire.Reset()
	return err
}

// Write is net.Conn.
func (c *h2Client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, p...)
	for {
		if c.stream.dead {
			return len(p), nil // the reply is complete, and the last one
		}
		err := c.pump()
		if flushed := c.flush(); err == nil {
			err = flushed
		}
		switch {
		case c.over || c.late || err != errH2Window:
			if err == errH2Window {
				err = os.ErrDeadlineExceeded
			}
			return len(p), err
		}
		c.changed.Wait()
	}
}

var errH2Window = errors.New("h2 client: window")

// pump sends what can be sent.
func (c *h2Client) pump() error {
	for {
		s := &c.stream
		switch {
		case c.over:
			return nil
		case !s.open:
			if more, err := c.begin(); !more || err != nil {
				return err
			}
		case s.dead:
			c.said = nil
			return nil
		case s.is:
			return c.data(len(c.said), false)
		case s.sent:
			return nil // the next request waits for this one's reply
		case s.left >= 0:
			n := min(s.left, len(c.said))
			if n == 0 {
				return nil
			}
			if err := c.data(n, n == s.left); err != nil {
				return err
			}
		default:
			if more, err := c.pumpChunk(); !more || err != nil {
				return err
			}
		}
	}
}

// data sends n bytes that were said, as the body.
func (c *h2Client) data(n int, end bool) error {
	s := &c.stream
	for n > 0 {
		part := min(n, 16384, c.window, s.window)
		if part <= 0 {
			return errH2Window
		}
		flags := byte(0)
		if end && part == n {
			flags = 1
			s.sent = true
		}
		c.frame(0, flags, c.last, c.said[:part])
		c.said = c.said[part:]
		c.window -= part
		s.window -= part
		s.left -= part
		s.chunk -= part
		n -= part
	}
	return nil
}

func (c *h2Client) pumpChunk() (more bool, err error) {
	s := &c.stream
	if s.inChunk && s.chunk > 0 {
		n := min(s.chunk, len(c.said))
		left := s.left
		err := c.data(n, false)
		s.left = left
		return n > 0 && err == nil, err
	}
	text := c.said // 10 MiB, perhaps: not copied
	if s.inChunk { // the CRLF behind it
		if len(text) < 2 {
			return false, nil
		}
		c.said, s.inChunk = c.said[2:], false
		return true, nil
	}
	line, rest, ok := bytes.Cut(text, []byte("\r\n"))
	if !ok {
		return false, nil
	}
	size, _, _ := strings.Cut(string(line), ";")
	n, err := strconv.ParseInt(size, 16, 32)
	if err != nil {
		return false, err
	}
	if n > 0 {
		c.said, s.chunk, s.inChunk = c.said[len(text)-len(rest):], int(n), true
		return true, nil
	}
	if bytes.HasPrefix(rest, []byte("\r\n")) {
		c.said = c.said[len(text)-len(rest)+2:]
		c.frame(0, 1, c.last, nil)
		s.sent = true
		return true, nil
	}
	trailer, rest, ok := bytes.Cut(rest, []byte("\r\n\r\n"))
	if !ok {
		return false, nil
	}
	c.said = c.said[len(text)-len(rest):]
	c.section.Reset()
	c.fields(strings.Split(string(trailer), "\r\n"))
	c.frame(1, 5, c.last, c.section.Bytes())
	s.sent = true
	return true, nil
}

// begin sends the head of a request.
func (c *h2Client) begin() (more bool, err error) {
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
		return false, fmt.Errorf("h2 client: %q: %w", head, err)
	}
	s := &c.stream
	*s = h2Stream{open: true, method: words[0], window: c.initial, left: -1}
	path := words[1]
	if _, rest, ok := strings.Cut(path, "://"); ok && !strings.HasPrefix(path, "/") {
		authority, below, slash := strings.Cut(rest, "/")
		path = "/" + below
		if !slash && s.method == "OPTIONS" {
			path = "*"
		}
		req.Host = authority
	}
	c.section.Reset()
	upgrade := req.Header.Get("Upgrade")
	switch {
	case strings.Contains(strings.ToLower(req.Header.Get("Connection")), "upgrade") && upgrade != "":
		s.tunnel = upgrade
		c.field(":method", "CONNECT")
		c.field(":protocol", upgrade)
	default:
		c.field(":method", s.method)
	}
	c.field(":scheme", "http")
	c.field(":authority", req.Host)
	c.field(":path", path)
	c.fields(lines[1:])
	flags := byte(4)
	if !strings.Contains(req.Header.Get("Connection"), "chunked") && len(req.TransferEncoding) == 0 {
		s.left = int(max(req.ContentLength, 0))
	}
	if s.left == 0 && s.tunnel == "" {
		flags, s.sent = 5, true
	}
	c.last += 2
	if c.last == 2 {
		c.last = 1
	}
	section := c.section.Bytes()
	kind := byte(1)
	for len(section) > 16384 {
		c.frame(kind, flags&1, c.last, section[:16384])
		section, kind, flags = section[16384:], 9, flags&^1
	}
	c.frame(kind, flags, c.last, section)
	return true, nil
}

func (c *h2Client) field(name, value string) {
	_ = c.encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
}

// fields sends lines, without those that are for a connection of HTTP/1.
func (c *h2Client) fields(lines []string) {
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
			c.field(name, strings.TrimSpace(value))
		}
	}
}

// Read is net.Conn.
func (c *h2Client) Read(p []byte) (int, error) {
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
	give := min(n, c.owed)
	if c.heard.Len() == 0 {
		give = c.owed
	}
	if c.owed -= give; give > 0 && !c.over {
		more := binary.BigEndian.AppendUint32(nil, uint32(give))
		c.frame(8, 0, 0, more)
		if c.stream.open {
			c.frame(8, 0, c.last, more)
		}
		_ = c.flush() // a connection that is gone ends the loop
	}
	return n, err
}

// SetDeadline is net.Conn.
func (c *h2Client) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(time.Until(t), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.late = true
		c.changed.Broadcast()
	})
	return c.Conn.SetDeadline(t)
}

// CloseWrite ends a tunnel's half, or the connection's.
func (c *h2Client) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream.is {
		c.frame(0, 1, c.last, nil)
		return c.flush()
	}
	c.silent = true
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// Close is net.Conn.
func (c *h2Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.end()
	return c.Conn.Close()
}
