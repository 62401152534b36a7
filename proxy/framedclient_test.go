package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

// A framedClient is what the clients of HTTP/2 and HTTP/3 have in common. They tell the stories,
// which are written in HTTP/1.1, to an engine that has frames: they are gateways. What is written
// to one becomes streams, one after the other; what comes on them is read from it as an HTTP/1.1
// server would have sent it. A reply that ends before its request, and one behind a GOAWAY, says
// Connection: close, for so does a server that cannot go on.
type framedClient struct {
	frames framing
	scheme string

	mu      sync.Mutex // guards all below
	changed *sync.Cond
	said    []byte // by the story, and not sent
	sending bool   // somebody does
	stream  framedStream

	heard bytes.Buffer // for the story
	away  bool         // GOAWAY came
	over  bool         // nothing comes behind heard
	late  bool
	timer *time.Timer
}

// A framing is how one of the protocols sends; mu is held when it is called, and when it is back.
type framing interface {
	open() error                                     // makes the next stream the one that goes on
	head(fields []hpack.HeaderField, end bool) error // or a trailer
	data(n int, end bool) error                      // what cut gives of n bytes
}

// A framedStream is the stream that goes on.
type framedStream struct {
	open    bool // its reply is not complete
	method  string
	tunnel  string       // the protocol asked for
	is      bool         // a tunnel
	left    int          // of the body, or of its chunk
	chunks  bool         // are what the body comes in
	inChunk bool         // whose size line has come
	early   bool         // the reply came before the request was sent
	sent    bool         // the whole request
	dead    bool         // nobody wants the rest of it
	replied bool         // the head that counts came
	chunked bool         // is the reply
	last    bool         // the reply says Connection: close
	held    bytes.Buffer // an error page, until it is known how it ends
	holds   bool
}

func (c *framedClient) begins(frames framing, scheme string) {
	c.frames, c.scheme = frames, scheme
	c.changed = sync.NewCond(&c.mu)
}

// pump sends what can be sent.
func (c *framedClient) pump() error {
	if c.sending {
		return nil
	}
	c.sending = true
	defer func() { c.sending = false }()
	for {
		if more, err := c.step(); !more || err != nil {
			return err
		}
	}
}

func (c *framedClient) step() (more bool, err error) {
	s := &c.stream
	n := len(c.said)
	switch {
	case c.over, c.late:
		return false, nil
	case !s.open:
		return c.begin()
	case s.dead:
		c.said = nil
		return false, nil
	case s.is:
	case s.sent: // the next request waits for this one's reply
		return false, nil
	case s.left > 0:
		n = min(n, s.left)
	case s.chunks:
		return c.between()
	default: // a tunnel that does not stand yet
		return false, nil
	}
	if n == 0 {
		return false, nil
	}
	end := !s.is && !s.chunks && n == s.left
	err = c.frames.data(n, end)
	s.sent = s.sent || end && err == nil
	return true, err
}

// cut takes the next n bytes that were said, which are part of a body.
func (c *framedClient) cut(n int) []byte {
	part := c.said[:n:n]
	c.said = c.said[n:]
	c.stream.left -= n
	return part
}

// between takes what is between the chunks of a body, or behind them.
func (c *framedClient) between() (more bool, err error) {
	s := &c.stream
	if s.inChunk { // the CRLF behind it
		if len(c.said) < 2 {
			return false, nil
		}
		c.said, s.inChunk = c.said[2:], false
	}
	line, rest, ok := bytes.Cut(c.said, []byte("\r\n")) // 10 MiB, perhaps: not copied
	if !ok {
		return false, nil
	}
	size, _, _ := strings.Cut(string(line), ";")
	n, err := strconv.ParseInt(size, 16, 32)
	if err != nil {
		return false, err
	}
	if n > 0 {
		c.said, s.left, s.inChunk = rest, int(n), true
		return true, nil
	}
	trailer, after, ok := bytes.Cut(rest, []byte("\r\n\r\n"))
	switch {
	case bytes.HasPrefix(rest, []byte("\r\n")):
		c.said = rest[2:]
		err = c.frames.data(0, true)
	case ok:
		c.said = after
		err = c.frames.head(regular(strings.Split(string(trailer), "\r\n")), true)
	default:
		return false, nil
	}
	s.sent = err == nil
	return true, err
}

// begin sends the head of a request.
func (c *framedClient) begin() (more bool, err error) {
	c.said = bytes.TrimPrefix(c.said, []byte("\r\n"))
	head, _, ok := strings.Cut(string(c.said), "\r\n\r\n")
	if !ok {
		return false, nil
	}
	c.said = c.said[len(head)+4:]
	req, err := http.ReadRequest(newReader(head+"\r\n\r\n", strings.NewReader("")))
	if err != nil {
		return false, fmt.Errorf("%T: %q: %w", c.frames, head, err)
	}
	s := &c.stream
	*s = framedStream{open: true, method: req.Method, chunks: len(req.TransferEncoding) > 0}
	if !s.chunks {
		s.left = int(max(req.ContentLength, 0))
	}
	if strings.Contains(strings.ToLower(req.Header.Get("Connection")), "upgrade") {
		s.tunnel = req.Header.Get("Upgrade")
	}
	s.sent = !s.chunks && s.left == 0 && s.tunnel == ""
	if err := c.frames.open(); err != nil {
		return false, err
	}
	lines := strings.Split(head, "\r\n")
	return true, c.frames.head(append(c.pseudo(req), regular(lines[1:])...), s.sent)
}

// pseudo is the first line of a request, and its Host, as the fields ahead of all others.
func (c *framedClient) pseudo(req *http.Request) (fields []hpack.HeaderField) {
	authority, method, path := req.Host, req.Method, req.RequestURI
	if _, rest, ok := strings.Cut(path, "://"); ok && !strings.HasPrefix(path, "/") {
		var below string
		var slash bool
		authority, below, slash = strings.Cut(rest, "/")
		path = "/" + below
		if !slash && method == "OPTIONS" {
			path = "*"
		}
	}
	if tunnel := c.stream.tunnel; tunnel != "" {
		fields, method = []hpack.HeaderField{{Name: ":protocol", Value: tunnel}}, "CONNECT"
	}
	return append(fields, hpack.HeaderField{Name: ":method", Value: method}, hpack.HeaderField{Name: ":scheme", Value: c.scheme},
		hpack.HeaderField{Name: ":authority", Value: authority}, hpack.HeaderField{Name: ":path", Value: path})
}

// regular is what lines say, without those that are for a connection of HTTP/1.
func regular(lines []string) (fields []hpack.HeaderField) {
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
			fields = append(fields, hpack.HeaderField{Name: name, Value: strings.TrimSpace(value)})
		}
	}
	return fields
}

// Read is net.Conn.
func (c *framedClient) Read(p []byte) (int, error) {
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
	defer c.changed.Broadcast() // there is room
	return c.heard.Read(p)
}

// expire has the story be late at t, and then calls also.
func (c *framedClient) expire(t time.Time, also func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(time.Until(t), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.late = true
		c.changed.Broadcast()
		also()
	})
}

// end ends what the story hears.
func (c *framedClient) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.changed.Broadcast()
}

// leave is the first half of Close.
func (c *framedClient) leave() {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.end()
}

// hearData takes a part of a reply's body.
func (c *framedClient) hearData(p []byte) {
	s := &c.stream
	out := &c.heard
	if s.holds {
		out = &s.held
	}
	switch {
	case len(p) == 0:
	case s.chunked:
		fmt.Fprintf(out, "%x\r\n%s\r\n", len(p), p)
	default:
		out.Write(p)
	}
}

func hearFields(out *bytes.Buffer, fields []hpack.HeaderField) {
	for _, f := range fields {
		fmt.Fprintf(out, "%s: %s\r\n", http.CanonicalHeaderKey(f.Name), f.Value)
	}
}

// hearHead takes the head of a reply, or its trailer. bare: it is known to have no body.
func (c *framedClient) hearHead(fields []hpack.HeaderField, bare bool) {
	s := &c.stream
	out := &c.heard
	if s.replied {
		if s.chunked {
			out.WriteString("0\r\n")
			hearFields(out, fields)
			out.WriteString("\r\n")
			s.chunked = false
		}
		return
	}
	status, _ := strconv.Atoi(fields[0].Value)
	s.is = status == 200 && s.tunnel != ""
	if s.is {
		status = 101
	}
	s.replied = status >= 200 || s.is
	if status >= 400 {
		s.holds, out = true, &s.held
	}
	fmt.Fprintf(out, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	hearFields(out, fields[1:])
	framed := slices.ContainsFunc(fields, func(f hpack.HeaderField) bool { return f.Name == "content-length" })
	switch {
	case s.is:
		fmt.Fprintf(out, "Connection: Upgrade\r\nUpgrade: %s\r\n", s.tunnel)
	case !s.replied, framed, status == 204, status == 304, s.method == "HEAD":
	case bare:
		out.WriteString("Content-Length: 0\r\n")
	default:
		s.chunked = true
		out.WriteString("Transfer-Encoding: chunked\r\n")
	}
	s.last = s.replied && !s.is && (c.away || !s.sent || s.early)
	switch {
	case s.holds:
		out.WriteString("\x00") // where the empty line will be
	case s.last:
		out.WriteString("Connection: close\r\n\r\n")
	default:
		out.WriteString("\r\n")
	}
}

// hearEnd is when a reply has come to its end. Nothing comes behind the last.
func (c *framedClient) hearEnd() (last bool) {
	s := &c.stream
	if s.holds {
		farewell := "\r\n"
		if s.last = s.last || c.away; s.last {
			farewell = "Connection: close\r\n\r\n"
		}
		c.heard.WriteString(strings.Replace(s.held.String(), "\x00", farewell, 1))
	}
	if s.chunked {
		c.heard.WriteString("0\r\n\r\n")
	}
	s.dead = s.last || s.is
	s.open = s.dead
	return s.dead
}
