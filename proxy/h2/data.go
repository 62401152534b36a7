package h2

import (
	"io"
	"os"
	"time"

	"sallyport/proxy/message"
)

// What a client may send before the app, or the spool, has taken it: so much of a body, and of
// all bodies of a connection. 128 KiB at a time are 1.3 MB/s from the other side of the earth.
//
// A few bodies that wait for an app could keep the whole window of a connection from one that
// does not, and on which, in a full spool, they wait themselves. So what arrives does not
// count against the window of its connection as long as all connections together have no
// more than lentMost unread.
const (
	connWindow   = 512 << 10
	streamWindow = 128 << 10
	lentMost     = 64 << 20
)

// A data is the DATA frame that comes now.
type data struct {
	stream  uint32
	left    int // of the payload
	padding int // of that, at its end
	end     bool
}

// beginData takes the header of a DATA frame, and the length of its padding.
func (c *ClientConn) beginData(h *header, payload []byte) (more bool, f fault) {
	if h.stream == 0 || c.isIdle(h.stream) {
		return false, protocolFault
	}
	d, used, ok, f := newData(h, payload)
	if !ok {
		return false, f
	}
	// "The entire DATA frame payload is included in flow control, including the Pad Length
	// and Padding fields" RFC 9113, section 6.1
	if h.length > c.in.window {
		return false, fault{codeFlowControl, message.ErrWindow}
	}
	c.in.window -= h.length
	c.in.from += used
	if d.left == d.padding && !d.end && c.control.over(c.raw.Clock(), c.engine.Limits.ControlFrames) {
		return false, fault{codeEnhanceCalm, message.ErrControls}
	}
	padding := h.length - (d.left - d.padding)
	if f := c.admitData(h, padding); f.refusal != nil {
		return false, f
	}
	c.credit(padding)
	c.in.data = d
	if d.left == 0 {
		c.endData()
	}
	return true, noFault
}

// newData reads the length of the padding of a DATA frame, if it is there. used is how much
// comes before its content.
func newData(h *header, payload []byte) (d data, used int, ok bool, f fault) {
	d = data{stream: h.stream, left: h.length, end: h.has(flagEndStream)}
	if !h.has(flagPadded) {
		return d, headerBytes, true, noFault
	}
	switch {
	case h.length == 0:
		return d, 0, false, sizeFault
	case len(payload) == 0:
		return d, 0, false, noFault
	case int(payload[0]) >= h.length:
		return d, 0, false, protocolFault
	}
	d.padding = int(payload[0])
	d.left--
	return d, headerBytes + 1, true, noFault
}

// admitData checks whether a stream may have a DATA frame, and resets it if not.
func (c *ClientConn) admitData(h *header, padding int) fault {
	s := c.find(h.stream)
	if s == nil {
		if p, ok := c.recall(h.stream); ok && p.ours {
			return noFault // it crossed our reset
		}
		return c.resetStream(h.stream, codeStreamClosed)
	}
	switch {
	case s.gone && s.ours:
		return noFault
	case s.gone, s.body.ended:
		return c.resetStream(h.stream, codeStreamClosed)
	case h.length > s.body.window:
		return c.resetStream(h.stream, codeFlowControl)
	}
	s.body.window -= h.length
	s.returnWindow(padding)
	return noFault
}

// takeData takes what is there of a DATA frame.
func (c *ClientConn) takeData() (more bool, f fault) {
	content, more := c.in.piece()
	if !more {
		return false, noFault
	}
	if s := c.find(c.in.data.stream); s != nil && s.takes() {
		c.arrive(len(content))
		s.receive(content)
	} else {
		c.credit(len(content))
	}
	if c.in.data.left == 0 {
		c.endData()
	}
	return true, noFault
}

// piece takes what is there of a DATA frame, without its padding.
func (in *input) piece() (content []byte, more bool) {
	d := &in.data
	n := min(in.to-in.from, d.left)
	content = in.buf[in.from : in.from+min(n, max(d.left-d.padding, 0))]
	in.from += n
	d.left -= n
	return content, n > 0
}

// endData is when a DATA frame is over.
func (c *ClientConn) endData() {
	if s := c.find(c.in.data.stream); c.in.data.end && s != nil && s.takes() {
		s.endBody()
	}
}

// credit gives the client n bytes of the connection's window back, by and by.
func (c *ClientConn) credit(n int) {
	if c.in.consumed += n; c.in.consumed >= connWindow/4 {
		c.out.buf = appendWindow(c.takeOut(), 0, uint32(c.in.consumed))
		c.in.window += c.in.consumed
		c.in.consumed = 0
	}
}

// arrive counts n bytes of a body that is to be read, and lends them.
func (c *ClientConn) arrive(n int) {
	if c.engine.unread.Add(int64(n)) <= lentMost {
		c.in.lent += n
		c.credit(n)
	}
}

// leave counts n bytes of a body that nobody has to read any more.
func (c *ClientConn) leave(n int) {
	c.engine.unread.Add(int64(-n))
	back := min(n, c.in.lent)
	c.in.lent -= back
	c.credit(n - back)
}

// A body is that of a request, as far as it has come.
type body struct {
	chunks   chunks
	taken    int   // of the first chunk, by the last Next
	length   int64 // by Content-Length, 0 where there is none to come; -1 when only its end will tell
	got      int64 // bytes, all in all
	read     int64 // of these, by Next
	paced    int64 // of these, are in pace
	window   int   // what the client may send
	consumed int   // and not given back to window
	ended    bool  // the client has sent all
	dropped  bool  // nobody wants it any more
	refusal  *message.Refusal
	pace     message.Rate
	reader   waiter
}

// takes reports whether what comes of the body is wanted.
func (s *stream) takes() bool {
	return !s.gone && !s.body.dropped && !s.body.ended && s.body.refusal == nil
}

// receive puts p, which has come, behind the body.
func (s *stream) receive(p []byte) {
	b := &s.body
	b.got += int64(len(p))
	if b.length >= 0 && b.got > b.length {
		s.refuseBody(message.ErrLengthDisagrees)
		s.conn.leave(len(p))
		return
	}
	b.chunks.put(p, b.got, &s.conn.engine.buffers)
	b.reader.signal()
}

// endBody is when the client has sent all of the body: "A request [...] is also malformed if
// the value of a Content-Length header field does not equal the sum of the DATA frame
// payload lengths" RFC 9113, section 8.1.1.
func (s *stream) endBody() {
	s.body.ended = true
	if s.body.length >= 0 && s.body.got != s.body.length {
		s.refuseBody(message.ErrLengthDisagrees)
		return
	}
	s.body.reader.signal()
}

// refuseBody is when the body turns out to break a rule. Whoever reads it answers, and the
// stream is reset behind that.
func (s *stream) refuseBody(refusal *message.Refusal) {
	s.body.refusal = refusal
	s.body.reader.signal()
}

// returnWindow gives the client n bytes of the stream's window back, by and by.
func (s *stream) returnWindow(n int) {
	b := &s.body
	b.consumed += n
	if b.ended || b.dropped || s.gone {
		return
	}
	if b.consumed >= streamWindow/4 {
		s.conn.out.buf = appendWindow(s.conn.takeOut(), s.id, uint32(b.consumed))
		b.window += b.consumed
		b.consumed = 0
		s.conn.kick()
	}
}

// settle uses up what the last Next has handed out.
func (s *stream) settle() {
	b := &s.body
	if b.taken == 0 {
		return
	}
	b.chunks.use(b.taken, &s.conn.engine.buffers)
	s.conn.leave(b.taken)
	s.returnWindow(b.taken)
	b.taken = 0
}

// drop throws away what has come of the body, and what will.
func (s *stream) drop() {
	b := &s.body
	b.dropped, b.taken = true, 0
	s.conn.leave(b.chunks.drop(&s.conn.engine.buffers))
}

// Next is message.Source: the request's body, or the client's bytes once it is a tunnel.
func (s *stream) Next() ([]byte, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	s.settle()
	for {
		b := &s.body
		switch {
		case s.aborted:
			return nil, errReset
		case s.stopped:
			return nil, s.idleError()
		case b.refusal != nil:
			return nil, b.refusal
		case s.ahead() > 0:
			piece := b.chunks.first(s.ahead())
			b.taken = len(piece)
			b.read += int64(len(piece))
			return piece, nil
		case b.ended:
			return nil, io.EOF
		case s.gone:
			return nil, errReset
		case c.ending.broken != nil:
			return nil, c.ending.broken
		case c.ending.eof:
			return nil, s.truncated()
		}
		s.sendContinue()
		if err := s.awaitBody(); err != nil {
			return nil, err
		}
	}
}

// truncated is the end of a connection in a body. What ends a tunnel is END_STREAM alone.
func (s *stream) truncated() error {
	if s.tunnel {
		return errReset
	}
	return message.ErrBodyTruncated
}

// awaitBody waits for more of the body, for at most limits.body_idle, and no longer than
// limits.body_rate lets it.
func (s *stream) awaitBody() error {
	b := &s.body
	idle := s.conn.engine.Limits.BodyIdle
	if s.tunnel {
		idle = 0 // is for whoever reads it to decide, who sees both ends
	}
	wait := b.pace.Bound(idle)
	begun := time.Now()
	late := b.reader.await(&s.conn.mu, wait)
	if b.pace.Asks() {
		b.pace.Account(time.Since(begun), int(b.got-b.paced))
		b.paced = b.got
		if b.pace.Spent() {
			return message.ErrBodyRate
		}
	}
	if late {
		return s.idleError()
	}
	return nil
}

// idleError ends a Next that has waited for long enough, or is not to wait any more.
func (s *stream) idleError() error {
	if s.tunnel {
		return os.ErrDeadlineExceeded
	}
	return message.ErrBodyIdle
}

// Ready is message.Source.
func (s *stream) Ready() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.ahead() > 0 || s.body.ended || s.body.refusal != nil
}

// ahead is how much of the body may be read. Of a body with a length the last byte stays here
// until the client has said that it is the last: an app that has all bytes of a request acts on
// it, and what comes behind them makes it malformed.
func (s *stream) ahead() int {
	b := &s.body
	n := int(b.got - b.read)
	if n > 0 && b.got == b.length && !b.ended {
		n--
	}
	return n
}

// Whole is message.Stream. A body without a length is not whole before somebody has read it:
// it has to be counted for apps that want a length.
func (s *stream) Whole() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.body.ended && s.body.refusal == nil && s.body.length >= 0
}
