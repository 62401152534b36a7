package h3

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"

	"sallyport/proxy/message"
)

// A stream is one exchange of a connection, and its message.Stream. It has a goroutine, a
// worker, from its first byte until it is over:
//
//	head ─┬─► serving ──► finished or aborted ──► gone
//	      └─► refused ───────────▲
//
// Its input belongs to whoever reads the request, its reply to whoever answers.
type stream struct {
	conn     *ClientConn
	qs       *quic.Stream
	ctx      context.Context // of qs: over when nothing can be sent any more
	run      func()          // serve, made once
	exchange message.Exchange
	opening  message.Opening
	section  message.Section
	refusal  *message.Refusal // of the head; nil if it is in order
	counted  bool             // in engine.tunnels; guarded by engine.mu

	in       input
	body     body
	expects  expectation
	whole    atomic.Bool // all of the request was read
	unruly   atomic.Bool // it broke a rule
	reply    reply
	tunnel   atomic.Bool // 101 was answered: bytes now
	gone     atomic.Bool // the client has reset it
	aborted  atomic.Bool // we have, or the connection is over
	stopped  atomic.Bool // nobody is to wait for the body any more
	finished bool        // all of the answer was handed on
	parted   bool        // its end is the flusher's, with the stream's credit
}

// What a stream comes to.
var (
	errReset      = errors.New("h3: stream reset")
	errStalled    = errors.New("h3: the client takes nothing for limits.write_idle")
	errIncomplete = errors.New("h3: request without a head")
)

// newStream readies a stream for a request.
func (c *ClientConn) newStream(qs *quic.Stream) *stream {
	s, ok := c.engine.streams.Get().(*stream)
	if !ok {
		s = new(stream)
		s.run = s.serve
	}
	s.conn, s.qs, s.ctx, s.in.source = c, qs, qs.Context(), qs
	limits := &c.engine.Limits
	s.body.pace = message.NewRate(limits.BodyRate, limits.BodyIdle)
	ex := &s.exchange
	ex.Request.Reset()
	ex.Request.Secure = true
	ex.Peer, ex.Protocol, ex.Stream, ex.Begun = c.peer, "HTTP/3", s, time.Now()
	ex.Peer.Addr = addrOf(c.conn)
	return s
}

// recycle gives s back, which nobody knows of any more.
func (s *stream) recycle() {
	e := s.conn.engine
	e.buffers.give(s.in.buf)
	e.buffers.give(s.reply.buf)
	s.exchange.Stream, s.conn, s.qs, s.ctx, s.refusal = nil, nil, nil, nil, nil
	s.in, s.body, s.reply, s.finished, s.parted = input{}, body{}, reply{}, false, false
	s.expects.done()
	s.whole.Store(false)
	s.unruly.Store(false)
	s.tunnel.Store(false)
	s.gone.Store(false)
	s.aborted.Store(false)
	s.stopped.Store(false)
	e.streams.Put(s)
}

// serve runs the exchange.
func (s *stream) serve() {
	c := s.conn
	s.run1()
	if s.tunnel.Load() {
		c.engine.leave(s)
	}
	c.remove(s)
	if !s.parted {
		s.qs.ReleaseStreamCredit()
	}
	s.recycle()
	c.running.Done()
}

// run1 reads the head and has it answered.
func (s *stream) run1() {
	c := s.conn
	switch err := s.begin(); {
	case err != nil:
		c.failOn(err)
		code := codeCancelled
		if err == errIncomplete {
			code = codeIncomplete
		}
		s.abort(code)
	case s.refusal != nil:
		s.refuse()
	default:
		c.engine.Handler.Serve(&s.exchange)
	}
	if !s.finished {
		s.abort(codeInternal)
	}
}

// begin reads the head. A rule that it breaks is in refusal, an error ends the stream.
func (s *stream) begin() error {
	if limit := s.conn.engine.Limits.HeadTime; limit > 0 {
		_ = s.qs.SetReadDeadline(s.exchange.Begun.Add(limit)) // never fails
	}
	err := s.beginHead()
	if err == nil && s.refusal == nil {
		err = s.beginBody()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.refusal, err = message.ErrHeadTime, nil
	}
	_ = s.qs.SetReadDeadline(time.Time{}) // never fails
	return s.clientError(err)
}

// beginHead reads as far as the end of the head.
func (s *stream) beginHead() error {
	for {
		kind, n, err := s.nextFrame()
		switch {
		case err == io.EOF:
			// "If a server receives a request stream that ends without a complete request,
			// [...] the error code H3_REQUEST_INCOMPLETE" RFC 9114, section 4.1
			return errIncomplete
		case err != nil:
			return err
		case kind == kindHeaders:
			return s.takeHead(n)
		case kind == kindData:
			return errFrameUnexpected // section 4.1
		}
		if err := s.passOver(kind, n); err != nil {
			return err
		}
	}
}

// takeHead takes a head of n bytes.
func (s *stream) takeHead(n uint64) error {
	req := &s.exchange.Request
	if err := s.decode(&req.Fields, n); err != nil {
		return err
	}
	s.refusal = s.opening.Take(req, &s.section, s.in.atEnd())
	if s.expects.is = s.opening.Expect; s.refusal == nil {
		s.body.length = req.Length
		if s.opening.Connect {
			s.body.length = -1
		}
		if s.section.Priority != "" {
			p := message.ParsePriority(s.section.Priority)
			s.qs.SetPriority(int8(p.Urgency), p.Incremental)
		}
	}
	return nil
}

// beginBody finds out whether there is a body, where its client has not said it: that of GET
// has none, but that is known when the stream ends, which may be in a later packet.
func (s *stream) beginBody() error {
	req := &s.exchange.Request
	switch {
	case s.opening.Connect, s.opening.Expect, req.Length > 0:
		return nil
	case req.Length < 0 && !isBodiless(req.Method):
		return nil
	}
	err := s.advance()
	switch refusal, refused := errors.AsType[*message.Refusal](err); {
	case refused:
		s.refusal = refusal
		return nil
	case err == io.EOF && s.body.got == 0:
		req.Length, s.body.length = 0, 0
		return nil
	case err == nil && req.Length == 0:
		s.refusal = message.ErrLengthDisagrees
	}
	return err
}

// isBodiless reports whether requests of a method have no body by custom.
func isBodiless(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "DELETE":
		return true
	}
	return false
}

// sectionMost is how much longer than its fields a section may be. Huffman's code is for text,
// and makes other bytes longer.
const sectionMost = 2

// decode reads and decodes a field section of n bytes into fields, as far as the first field
// that breaks a rule: nothing later depends on it.
func (s *stream) decode(fields *message.Fields, n uint64) error {
	limits := &s.conn.engine.Limits
	s.section.Begin(fields, message.Bounds{HeadBytes: limits.HeadBytes, LineBytes: limits.LineBytes, Fields: limits.Fields})
	if n > sectionMost*uint64(limits.HeadBytes) {
		s.section.Refusal = message.ErrHeadTooLong
		return nil
	}
	section, err := s.take(int(n))
	if err != nil {
		return err
	}
	var decoder qpack.Decoder
	for next := decoder.Decode(section); ; {
		f, err := next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return errCompression
		case !s.section.Add(f.Name, f.Value):
			return nil
		}
	}
}

// clientError is what an error of the client's half means: a fault, or that it has gone.
func (s *stream) clientError(err error) error {
	if err == nil || err == errIncomplete {
		return err
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if reset, ok := errors.AsType[*quic.StreamError](err); ok && reset.Remote {
		s.gone.Store(true)
	}
	return errReset
}

// refuse answers a request that breaks a rule: "For malformed requests, a server MAY send an
// HTTP response indicating the error prior to closing or resetting the stream" RFC 9114,
// section 4.1.2.
func (s *stream) refuse() {
	s.conn.engine.Refused(&s.exchange, s.refusal)
	s.unruly.Store(s.refusal.Status == 400)
	page := message.Page{Status: s.refusal.Status, Text: s.refusal.Cause}
	_ = page.Send(s) // the stream ends either way
}

// abort resets the stream.
func (s *stream) abort(why code) {
	s.aborted.Store(true)
	s.finished = true
	s.qs.CancelWrite(quic.StreamErrorCode(why))
	s.qs.CancelRead(quic.StreamErrorCode(why))
}

// Abort is message.Stream. What the app has said is passed on as h2 does it, by the codes of
// RFC 9114, section 8.1.
func (s *stream) Abort(reason message.Reason) {
	why := codeInternal
	switch {
	case reason.Code == message.CodeEnhanceCalm:
		why = codeExcessiveLoad
	case reason.Code == message.CodeCancel, reason.Code == message.CodeNone && !s.reply.begun:
		why = codeCancelled
	}
	s.abort(why)
}

// Left is message.Stream.
func (s *stream) Left() bool { return s.gone.Load() || s.ctx.Err() != nil }

// Gone is message.Resetter.
func (s *stream) Gone() bool { return s.Left() }

var _ message.Resetter = (*stream)(nil)
