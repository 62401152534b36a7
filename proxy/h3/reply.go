package h3

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/proxy/message"
)

// A reply is the answer of one exchange, as far as it has come.
type reply struct {
	buf      []byte // not handed to QUIC
	begun    bool   // a final head was handed on
	bodiless bool   // whatever is written is not sent
	left     int64  // of a Content-Length; -1: until the stream ends
	quick    int    // bytes that were handed to QUIC and may not have been sent
	source   message.Drainable
}

// Faults of the one that answers, not of the client.
var (
	errTooLong  = errors.New("h3: body longer than its content-length")
	errTooShort = errors.New("h3: body shorter than its content-length")
)

// takeOut is the buffer.
func (s *stream) takeOut() []byte {
	if s.reply.buf == nil {
		s.reply.buf = s.conn.engine.buffers.takeOut()
	}
	return s.reply.buf
}

// beginHead begins a HEADERS frame in the buffer, and returns where.
func (s *stream) beginSection() (b []byte, start int) {
	b = s.takeOut()
	start = len(b)
	return beginSection(append(b, 0, 0, 0)), start
}

// Reply is message.Stream.
func (s *stream) Reply(resp *message.Response) error {
	if resp.Status == 101 && !s.opening.Accepts(resp) {
		return message.ErrUpgradeNotAsked
	}
	switch {
	case resp.Interim():
		return s.replyInterim(resp)
	case resp.Status == 101:
		s.replyTunnel(resp)
		return nil
	}
	r := &s.reply
	r.begun = true
	s.expects.done()
	r.left = resp.Length
	r.bodiless = resp.Status == 204 || resp.Status == 304 || string(s.exchange.Request.Method) == "HEAD"
	b, start := s.beginSection()
	b = appendStatus(b, s.statusOf(resp))
	b = appendFields(b, &resp.Fields)
	if _, ok := resp.Fields.Value(message.Date); !ok {
		b = appendLiteral(b, indexDate, s.conn.engine.date.Date(time.Now()))
	}
	if resp.Length >= 0 && resp.Status != 204 {
		var digits [20]byte
		b = appendLiteral(b, indexContentLength, strconv.AppendInt(digits[:0], resp.Length, 10))
	}
	b = endSection(b, start)
	if resp.Length > 0 && !r.bodiless {
		b = appendHeader(b, kindData, uint64(resp.Length)) // one frame for all of the body
	}
	r.buf = b
	return nil
}

// statusOf is the status for the client: to an extended CONNECT 2xx means that the tunnel
// stands (RFC 8441, section 5; RFC 9220, section 3), which an app that answers so has not said.
func (s *stream) statusOf(resp *message.Response) int {
	if s.opening.Connect && resp.Status/100 == 2 {
		return 502
	}
	return resp.Status
}

// replyInterim sends 1xx. What the client expects is ours to say.
func (s *stream) replyInterim(resp *message.Response) error {
	if resp.Status == 100 {
		return nil
	}
	b, start := s.beginSection()
	s.reply.buf = endSection(appendFields(appendStatus(b, resp.Status), &resp.Fields), start)
	return s.Flush()
}

// sendContinue sends the 100 that a client waits for before it sends a body, if none has come.
// It is sent by who reads, before anybody answers.
func (s *stream) sendContinue() {
	if s.body.got > 0 || s.body.left > 0 {
		s.expects.done()
		return
	}
	s.expects.mu.Lock()
	defer s.expects.mu.Unlock()
	if s.expects.is {
		s.expects.is = false
		b := beginSection(make([]byte, sectionRoom, 16))
		_ = s.qs.TryWriteAll(endSection(appendStatus(b, 100), 0)) // a client without room for it does without
	}
}

// An expectation is that of a 100 Continue. Who reads the request may meet it until somebody has
// begun to answer.
type expectation struct {
	mu sync.Mutex
	is bool
}

func (e *expectation) done() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.is = false
}

// replyTunnel answers an extended CONNECT that the app has taken up. Its 101 is 200 here, and
// what belongs to the handshake of HTTP/1 is not passed on (RFC 8441, section 5).
func (s *stream) replyTunnel(resp *message.Response) {
	s.tunnel.Store(true)
	s.reply.begun, s.reply.left = true, -1
	b, start := s.beginSection()
	b = appendStatus(b, 200)
	for i := range resp.Fields.Len() {
		if _, key, value := resp.Fields.Line(i); !message.IsAccept(key) {
			b = appendField(b, key, value)
		}
	}
	s.reply.buf = endSection(b, start)
	s.conn.engine.enter(s)
}

// Write is message.Stream. A body with a length is one frame, and its pieces need no copy.
func (s *stream) Write(p []byte) (int, error) {
	r := &s.reply
	switch {
	case len(p) == 0, r.bodiless:
		return len(p), nil
	case r.left >= 0:
		if int64(len(p)) > r.left {
			return 0, errTooLong
		}
		r.left -= int64(len(p))
	default:
		r.buf = appendHeader(s.takeOut(), kindData, uint64(len(p)))
	}
	if len(r.buf)+len(p) <= outBytes {
		r.buf = append(s.takeOut(), p...)
		return len(p), nil
	}
	if err := s.Flush(); err != nil {
		return 0, err
	}
	return s.push(p)
}

// Flush is message.Stream.
func (s *stream) Flush() error {
	r := &s.reply
	if len(r.buf) == 0 {
		return s.sendable()
	}
	_, err := s.push(r.buf)
	if cap(r.buf) > outBytes { // of a head that is longer
		r.buf = nil
	}
	r.buf = r.buf[:0]
	return err
}

// sendable is nil as long as the client may get more.
func (s *stream) sendable() error {
	if s.ctx.Err() != nil && !s.finished {
		return s.writeError(nil)
	}
	return nil
}

// push hands p to QUIC. What is little is copied, and nobody waits; of what is more, all but the
// rest of a packet was sent when it returns.
func (s *stream) push(p []byte) (int, error) {
	r := &s.reply
	if r.quick+len(p) <= outBytes {
		err := s.qs.TryWriteAll(p)
		if err == nil {
			r.quick += len(p)
			return len(p), nil
		}
		if !errors.Is(err, quic.ErrWouldBlock) {
			return 0, s.writeError(err)
		}
	}
	r.quick = 0
	return s.await(p)
}

// stallTime is how long a client may take nothing before it is behind.
const stallTime = 10 * time.Millisecond

// await writes p, for as long as the client takes something of it.
func (s *stream) await(p []byte) (written int, err error) {
	limit, waited, behind := s.conn.engine.Limits.WriteIdle, time.Duration(0), false
	for {
		wait := limit
		if !behind && s.reply.source != nil && (limit == 0 || stallTime < limit) {
			wait = stallTime
		}
		deadline := time.Time{}
		if wait > 0 {
			deadline = time.Now().Add(wait)
		}
		_ = s.qs.SetWriteDeadline(deadline) // never fails
		n, err := s.qs.Write(p[written:])
		written += n
		switch {
		case err == nil:
			return written, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return written, s.writeError(err)
		case n > 0:
			waited = 0
		default:
			waited += wait
		}
		if limit > 0 && waited >= limit {
			return written, errStalled
		}
		if !behind && s.reply.source != nil {
			behind = true
			s.reply.source.Behind()
		}
	}
}

// writeError notes who has ended the stream.
func (s *stream) writeError(err error) error {
	if err == nil {
		err = context.Cause(s.ctx)
	}
	if reset, ok := errors.AsType[*quic.StreamError](err); ok && reset.Remote {
		s.gone.Store(true)
	}
	return errReset
}

// ReadFrom is message.Stream.
func (s *stream) ReadFrom(source message.Source) (int64, error) {
	s.reply.source, _ = source.(message.Drainable)
	return message.Copy(s, source)
}

// Finish is message.Stream.
func (s *stream) Finish(trailer *message.Fields) error {
	r := &s.reply
	r.source = nil
	if !r.bodiless && r.left > 0 {
		s.abort(codeInternal)
		return errTooShort
	}
	if trailer != nil && trailer.Len() > 0 && !r.bodiless {
		b, start := s.beginSection()
		r.buf = endSection(appendFields(b, trailer), start)
	}
	if len(r.buf) > outBytes {
		if err := s.Flush(); err != nil {
			return err
		}
	}
	if err := s.sendable(); err != nil {
		return err
	}
	s.finished, s.parted = true, true
	s.stopped.Store(true)
	p := parting{qs: s.qs, buf: r.buf, stop: s.stopCode()}
	r.buf = nil
	if s.tunnel.Load() {
		s.qs.CancelRead(p.stop) // somebody reads
	}
	s.conn.part(p)
	return nil
}

// stopCode is why the rest of a request is not read; 0 where it is here.
func (s *stream) stopCode() quic.StreamErrorCode {
	switch {
	case s.unruly.Load():
		// "malformed [...] MUST be treated as a stream error of type H3_MESSAGE_ERROR"
		// RFC 9114, section 4.1.2
		return quic.StreamErrorCode(codeMessage)
	case !s.tunnel.Load() && s.whole.Load():
		return 0
	}
	// "the server MAY abort reading the request stream, send a complete response, and cleanly
	// close the sending part of the stream. The error code H3_NO_ERROR SHOULD be used"
	// RFC 9114, section 4.1
	return quic.StreamErrorCode(codeNone)
}
