package h2

import (
	"errors"
	"strconv"
	"time"

	"sallyport/proxy/message"
)

// A reply is the answer of one exchange, as far as it has come.
type reply struct {
	begun    bool   // a final head was handed on
	bodiless bool   // whatever is written is not sent
	left     int64  // of a Content-Length; -1: until the stream ends
	window   int    // what the client takes of the body
	pending  []byte // what a Write that waits has left; guarded by conn.mu, its bytes are the writer's
	queued   bool   // in conn.out.waiting
	head     bool   // what waits there is a head, for room
	flags    int    // where the flags of the last frame are in conn.out.buf; 0: nowhere
	batch    uint64 // of conn.out, that they are in
	priority message.Priority
	turn     uint64 // when it was last served among those of its urgency
	writer   waiter
}

// Faults of the one that answers, not of the client.
var (
	errTooLong  = errors.New("h2: body longer than its content-length")
	errTooShort = errors.New("h2: body shorter than its content-length")
)

// sendable is nil as long as the client may get more of s.
func (s *stream) sendable() error {
	switch end := &s.conn.ending; {
	case end.broken != nil:
		return end.broken
	case s.gone || end.fatal:
		return errReset
	}
	return nil
}

// Reply is message.Stream.
func (s *stream) Reply(resp *message.Response) error {
	c := s.conn
	if resp.Status == 101 && !s.opening.Accepts(resp) {
		return message.ErrUpgradeNotAsked
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.awaitRoom(); err != nil {
		return err
	}
	switch {
	case resp.Interim():
		s.replyInterim(resp)
		return nil
	case resp.Status == 101:
		s.replyTunnel(resp)
		c.mu.Unlock()
		c.engine.enter(s)
		c.mu.Lock()
		return nil
	}
	r := &s.reply
	r.begun = true
	s.opening.Expect = false
	r.left = resp.Length
	r.bodiless = resp.Status == 204 || resp.Status == 304 || string(s.exchange.Request.Method) == "HEAD"
	start := s.beginHead()
	b := appendStatus(c.out.buf, s.statusOf(resp))
	b = appendFields(b, &resp.Fields)
	if _, ok := resp.Fields.Value(message.Date); !ok {
		b = appendLiteral(b, indexDate, c.engine.date.Date(time.Now()))
	}
	if resp.Length >= 0 && resp.Status != 204 {
		var digits [20]byte
		b = appendLiteral(b, indexContentLength, strconv.AppendInt(digits[:0], resp.Length, 10))
	}
	c.out.buf = b
	s.endHead(start, false)
	return nil
}

// statusOf is the status for the client: to an extended CONNECT 2xx means that the tunnel
// stands (RFC 8441, section 5), which an app that answers so has not said.
func (s *stream) statusOf(resp *message.Response) int {
	if s.opening.Connect && resp.Status/100 == 2 {
		return 502
	}
	return resp.Status
}

// replyInterim sends 1xx. What the client expects is ours to say.
func (s *stream) replyInterim(resp *message.Response) {
	if resp.Status == 100 {
		return
	}
	start := s.beginHead()
	s.conn.out.buf = appendFields(appendStatus(s.conn.out.buf, resp.Status), &resp.Fields)
	s.endHead(start, false)
	s.conn.kick()
}

// sendContinue sends the 100 that a client waits for before it sends a body.
func (s *stream) sendContinue() {
	if !s.opening.Expect {
		return
	}
	s.opening.Expect = false
	if s.reply.begun || s.body.got > 0 || s.sendable() != nil {
		return
	}
	start := s.beginHead()
	s.conn.out.buf = appendStatus(s.conn.out.buf, 100)
	s.endHead(start, false)
	s.conn.kick()
}

// replyTunnel answers an extended CONNECT that the app has taken up. Its 101 is 200 here,
// and what belongs to the handshake of HTTP/1 is not passed on: "the Upgrade and Connection
// header fields [...] Sec-WebSocket-Key and Sec-WebSocket-Accept" RFC 8441, section 5.
func (s *stream) replyTunnel(resp *message.Response) {
	c := s.conn
	s.tunnel, s.reply.begun, s.reply.left = true, true, -1
	start := s.beginHead()
	b := appendStatus(c.out.buf, 200)
	for i := range resp.Fields.Len() {
		if _, key, value := resp.Fields.Line(i); !message.IsAccept(key) {
			b = appendField(b, key, value)
		}
	}
	c.out.buf = b
	s.endHead(start, false)
}

// Write is message.Stream.
func (s *stream) Write(p []byte) (int, error) {
	c, r := s.conn, &s.reply
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(p) == 0, r.bodiless:
		return len(p), nil
	case r.left >= 0:
		if int64(len(p)) > r.left {
			return 0, errTooLong
		}
		r.left -= int64(len(p))
	}
	if err := s.sendable(); err != nil {
		return 0, err
	}
	rest := p
	if len(c.line.waiting) == 0 {
		rest = c.frame(s, p)
	}
	if len(rest) == 0 {
		if len(c.out.buf) > outBytes {
			c.kick()
		}
		return len(p), nil
	}
	r.pending = rest
	err := s.awaitTurn()
	left := len(r.pending)
	r.pending = nil
	return len(p) - left, err
}

// awaitRoom waits until a head may be sent.
func (s *stream) awaitRoom() error {
	if err := s.sendable(); err != nil || len(s.conn.out.buf) < largeBytes {
		return err
	}
	s.reply.head = true
	err := s.awaitTurn()
	s.reply.head = false
	return err
}

// stallTime is how long a client may take nothing before it is behind.
const stallTime = 10 * time.Millisecond

// awaitTurn waits until what is pending was sent, for as long as the client takes something
// of it, or of others where it is those that it waits for.
func (s *stream) awaitTurn() error {
	c, r := s.conn, &s.reply
	c.line.waiting = append(c.line.waiting, s)
	r.queued = true
	c.kick()
	limit := c.engine.Limits.WriteIdle
	moved, waited, behind := s.progress(), time.Duration(0), false
	for r.queued {
		if err := s.unsendable(); err != nil {
			c.unqueue(s)
			return err
		}
		wait := limit
		if !behind && s.source != nil && (limit == 0 || stallTime < limit) {
			wait = stallTime
		}
		begun := time.Now()
		late := r.writer.await(&c.mu, wait)
		if now := s.progress(); now != moved {
			moved, waited = now, 0
			continue
		}
		if waited += time.Since(begun); !late || !r.queued {
			continue
		}
		switch {
		case limit > 0 && waited >= limit:
			c.unqueue(s)
			return errStalled
		case !behind && s.source != nil:
			behind = true
			source := s.source
			c.mu.Unlock()
			source.Behind()
			c.mu.Lock()
		}
	}
	return s.sendable()
}

// progress is a number that changes when s gets on: by what it has sent, or, where only the
// connection keeps it, by what that has.
func (s *stream) progress() uint64 {
	if s.reply.window > 0 || s.reply.head {
		return s.conn.out.sent
	}
	return uint64(len(s.reply.pending))
}

// unsendable is why what is pending can never be sent; nil if it can.
func (s *stream) unsendable() error {
	err := s.sendable()
	if err == nil && s.conn.ending.eof && (s.reply.window <= 0 || s.conn.out.window <= 0) && !s.reply.head {
		return errReset // nobody can open the window any more
	}
	return err
}

// ReadFrom is message.Stream.
func (s *stream) ReadFrom(source message.Source) (int64, error) {
	s.source, _ = source.(message.Drainable)
	return message.Copy(s, source)
}

// Flush is message.Stream. It has the flusher send what is there, and waits for nothing.
func (s *stream) Flush() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.conn.kick()
	return s.sendable()
}

// Finish is message.Stream.
func (s *stream) Finish(trailer *message.Fields) error {
	c, r := s.conn, &s.reply
	c.mu.Lock()
	defer c.mu.Unlock()
	s.source = nil
	switch {
	case !r.bodiless && r.left > 0:
		s.abort(codeInternal)
		return errTooShort
	case trailer != nil && trailer.Len() > 0 && !r.bodiless:
		if err := s.awaitRoom(); err != nil {
			return err
		}
		start := s.beginHead()
		c.out.buf = appendFields(c.out.buf, trailer)
		s.endHead(start, true)
	default:
		if err := s.sendable(); err != nil {
			return err
		}
		s.endStream()
	}
	s.finished, s.stopped = true, true
	if !s.body.ended && !s.gone {
		// "the server MAY request that the client abort transmission of a request without
		// error by sending a RST_STREAM with an error code of NO_ERROR after sending a
		// complete response" RFC 9113, section 8.1
		s.reset(codeNone)
	}
	s.body.reader.signal()
	c.kick()
	return nil
}

// endStream says that the answer is over: in its last frame, if that is still here.
func (s *stream) endStream() {
	c, r := s.conn, &s.reply
	switch {
	case s.isMalformed():
		s.reset(codeProtocol)
		return
	case r.flags > 0 && r.batch == c.out.batch:
		c.out.buf[r.flags] |= flagEndStream
		return
	}
	c.out.buf = appendHeader(c.takeOut(), 0, kindData, flagEndStream, s.id)
}

// isMalformed reports whether the request broke a rule, and no limit. Such a stream has no
// end but a reset: malformed ones "MUST be treated as a stream error [...] of type
// PROTOCOL_ERROR" RFC 9113, section 8.1.1.
func (s *stream) isMalformed() bool {
	return s.refusal != nil && s.refusal.Status == 400 || s.body.refusal != nil && s.body.refusal.Status == 400
}

// reset resets the stream from our side.
func (s *stream) reset(why code) {
	s.conn.out.buf = appendReset(s.conn.takeOut(), s.id, why)
	s.gone, s.ours = true, true
}

// Abort is message.Stream. What the app has said is passed on, but for what speaks of its
// own connection, or would not be true any more.
func (s *stream) Abort(reason message.Reason) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.source = nil
	why := codeInternal
	switch {
	case reason.Code == message.CodeCancel, reason.Code == message.CodeEnhanceCalm:
		why = code(reason.Code)
	case reason.Code == message.CodeNone && !s.reply.begun:
		why = codeCancel
	}
	s.abort(why)
}
