package h3

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/proxy/message"
)

// An input is what has come of a request and was not used; buf[from:to].
type input struct {
	source  io.Reader // the stream
	buf     []byte
	from    int
	to      int
	ended   bool   // nothing comes behind it
	skipped uint64 // bytes of frames that nobody knows
}

// atEnd reports whether all was used.
func (in *input) atEnd() bool { return in.ended && in.from == in.to }

// skippedMost bounds the frames of one request that are of no use.
const skippedMost = 64 << 10

// fill reads more, behind what is there. It returns io.EOF when nothing comes any more.
func (s *stream) fill() error {
	in := &s.in
	switch {
	case in.ended:
		return io.EOF
	case in.from < in.to:
		in.to = copy(in.buf, in.buf[in.from:in.to])
		in.from = 0
	case s.body.got >= firstBytes && len(in.buf) < chunkBytes:
		s.conn.engine.buffers.give(in.buf)
		*in = input{source: in.source, buf: s.conn.engine.buffers.takeChunk(), skipped: in.skipped}
	case in.buf == nil:
		in.buf = s.conn.engine.buffers.takeFirst()
	default:
		in.from, in.to = 0, 0
	}
	n, err := in.source.Read(in.buf[in.to:])
	in.to += n
	if err == io.EOF {
		in.ended = true
		s.whole.Store(true)
	}
	if n > 0 {
		return nil
	}
	return err
}

// nextFrame takes the header of a frame. It returns io.EOF when no other comes.
func (s *stream) nextFrame() (kind, n uint64, err error) {
	in := &s.in
	for {
		b := in.buf[in.from:in.to]
		kind, used := parseVarint(b)
		if used > 0 {
			n, more := parseVarint(b[used:])
			if more > 0 {
				in.from += used + more
				return kind, n, nil
			}
		}
		if err := s.fill(); err != nil {
			if err == io.EOF && in.from < in.to {
				// "a frame [...] truncated by the end of the stream MUST be treated as a
				// connection error of type H3_FRAME_ERROR" RFC 9114, section 7.1
				err = errFrame
			}
			return 0, 0, err
		}
	}
}

// take takes n bytes, which are valid until the next fill.
func (s *stream) take(n int) ([]byte, error) {
	in := &s.in
	if there := in.to - in.from; there >= n {
		in.from += n
		return in.buf[in.from-n : in.from], nil
	}
	long := make([]byte, 0, min(n, firstBytes)) // grows with what comes, not with what was announced
	for {
		k := min(n-len(long), in.to-in.from)
		long = append(long, in.buf[in.from:in.from+k]...)
		if in.from += k; len(long) == n {
			return long, nil
		}
		if err := s.fill(); err == io.EOF {
			return nil, errFrame
		} else if err != nil {
			return nil, err
		}
	}
}

// passOver skips a frame that is of no use, unless it has no place here: "Receipt of an invalid
// sequence of frames MUST be treated as a connection error" RFC 9114, section 4.1.
func (s *stream) passOver(kind, n uint64) error {
	switch {
	case kind == kindCancelPush, kind == kindSettings, kind == kindGoAway, kind == kindMaxPushID, kind == kindPushPromise, isOfHTTP2(kind):
		return errFrameUnexpected
	case s.in.skipped+n > skippedMost || n > skippedMost:
		return errControls
	}
	if f := s.conn.countControl(); f != nil {
		return f
	}
	in := &s.in
	in.skipped += n
	for n > 0 {
		if in.from == in.to {
			if err := s.fill(); err == io.EOF {
				return errFrame
			} else if err != nil {
				return err
			}
		}
		k := min(n, uint64(in.to-in.from))
		in.from += int(k)
		n -= k
	}
	return nil
}

// A body is that of a request, as far as it has come.
type body struct {
	left   uint64 // of the DATA frame
	length int64  // by Content-Length, 0 where there is none to come; -1 when only its end will tell
	got    int64  // bytes that were handed out, or are held
	ended  bool   // no more comes: all is here, and in order
	behind bool   // the trailer came
	held   bool   // the last byte is in last
	last   [1]byte
	pace   message.Rate
	err    error // what every further Next returns
}

// advance gets to the next bytes of the body, which are in[from:to], and left of them. It
// returns io.EOF behind the last one.
func (s *stream) advance() error {
	b := &s.body
	for {
		if b.left > 0 {
			if s.in.from < s.in.to {
				return nil
			}
			if err := s.fillBody(); err == io.EOF {
				return errFrame
			} else if err != nil {
				return err
			}
			continue
		}
		if !s.in.atEnd() && s.in.from == s.in.to {
			if err := s.fillBody(); err != nil && err != io.EOF {
				return err
			}
		}
		kind, n, err := s.nextFrame()
		switch {
		case err == io.EOF:
			return s.endBody()
		case err == nil:
			err = s.takeFrame(kind, n)
		}
		if err != nil {
			return err
		}
	}
}

// takeFrame takes a frame behind the head.
func (s *stream) takeFrame(kind, n uint64) error {
	b := &s.body
	switch {
	case kind == kindData && b.behind, kind == kindHeaders && (b.behind || s.tunnel.Load()):
		return errFrameUnexpected // section 4.1; for tunnels section 4.4
	case kind == kindData && n == 0:
		if f := s.conn.countControl(); f != nil {
			return f
		}
		return nil
	case kind == kindData:
		b.left = n
		return nil
	case kind == kindHeaders:
		b.behind = true
		return s.takeTrailer(n)
	}
	return s.passOver(kind, n)
}

// takeTrailer takes the field section behind a body.
func (s *stream) takeTrailer(n uint64) error {
	trailer := &s.exchange.Request.Trailer
	trailer.Reset()
	if err := s.decode(trailer, n); err != nil {
		return err
	}
	if refusal := s.section.Trailer(); refusal != nil {
		trailer.Reset()
		return refusal
	}
	return nil
}

// endBody is when the client has sent all: "A request [...] that is defined as having content
// when it contains a Content-Length header field [...] is malformed if the value [...] does not
// equal the sum of the DATA frame lengths received" RFC 9114, section 4.1.2.
func (s *stream) endBody() error {
	b := &s.body
	if b.length >= 0 && b.got != b.length {
		return message.ErrLengthDisagrees
	}
	b.ended = true
	return io.EOF
}

// fillBody is fill within limits.body_idle, and no longer than limits.body_rate lets it. A
// tunnel has none of them: whoever reads it decides, who sees both ends.
func (s *stream) fillBody() error {
	limits, b := &s.conn.engine.Limits, &s.body
	s.sendContinue()
	if s.tunnel.Load() {
		return s.fill()
	}
	wait := b.pace.Bound(limits.BodyIdle)
	begun := time.Now()
	if wait > 0 {
		_ = s.qs.SetReadDeadline(begun.Add(wait)) // never fails
	}
	before := s.in.to - s.in.from
	err := s.fill()
	if b.pace.Asks() {
		b.pace.Account(time.Since(begun), s.in.to-s.in.from-before)
		if b.pace.Spent() {
			return message.ErrBodyRate
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return message.ErrBodyIdle
	}
	return err
}

// Next is message.Source: the request's body, or the client's bytes once it is a tunnel.
func (s *stream) Next() ([]byte, error) {
	b := &s.body
	if b.err == nil {
		piece, err := s.nextPiece()
		if err == nil {
			return piece, nil
		}
		b.err = s.readError(err)
	}
	return nil, b.err
}

// nextPiece is the next piece. Of a body with a length the last byte stays here until the client
// has said that it is the last: an app that has all bytes of a request acts on it, and what
// comes behind them makes it malformed.
func (s *stream) nextPiece() ([]byte, error) {
	b, in := &s.body, &s.in
	if b.ended && !b.held {
		return nil, io.EOF
	}
	for {
		err := s.advance()
		if err == io.EOF && b.held {
			b.held = false
			return b.last[:], nil
		}
		if err != nil {
			return nil, err
		}
		n := int(min(uint64(in.to-in.from), b.left))
		piece := in.buf[in.from : in.from+n]
		in.from += n
		b.left -= uint64(n)
		b.got += int64(n)
		switch {
		case b.length >= 0 && b.got > b.length:
			return nil, message.ErrLengthDisagrees
		case b.got == b.length && !(b.left == 0 && in.atEnd()):
			b.last[0], b.held = piece[n-1], true
			piece = piece[:n-1]
		}
		if len(piece) > 0 {
			return piece, nil
		}
	}
}

// readError is what an error means for who reads the body.
func (s *stream) readError(err error) error {
	if err == io.EOF {
		return err
	}
	if refusal, ok := errors.AsType[*message.Refusal](err); ok {
		s.unruly.Store(refusal.Status == 400)
		return refusal
	}
	_, ours := errors.AsType[*quic.StreamError](err)
	reset := s.clientError(err)
	s.conn.failOn(reset)
	switch {
	case s.stopped.Load() && s.tunnel.Load():
		return os.ErrDeadlineExceeded // by Finish
	case s.stopped.Load(), errors.Is(err, os.ErrDeadlineExceeded):
		return message.ErrBodyIdle
	case ours || s.aborted.Load() || s.tunnel.Load():
		return errReset
	}
	return message.ErrBodyTruncated // the connection is over
}

// Ready is message.Source. What lies in QUIC's own buffers does not count: nobody can tell.
func (s *stream) Ready() bool {
	b := &s.body
	return b.left > 0 && s.in.from < s.in.to || s.in.ended || b.err != nil
}

// Whole is message.Stream. A body without a length is not whole before somebody has read it:
// it has to be counted for apps that want a length.
func (s *stream) Whole() bool {
	b := &s.body
	there := int64(s.in.to - s.in.from)
	return b.err == nil && b.length >= 0 && s.in.ended && (b.ended || int64(b.left) == there && b.got+there == b.length)
}
