package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// spliceBytes is how much must be left of a body for a pipe to pay.
const spliceBytes = 64 << 10

// unbounded is the Ahead of a body that only its end will end.
const unbounded = 1 << 62

// ahead is message.Spliceable's Ahead for the bytes of b. A body that ends with its
// connection is long when it has filled a large buffer's worth: before, it may be over.
func (b *body) ahead() int64 {
	left := b.left
	switch {
	case !b.in.direct() || len(b.in.unused()) > b.taken:
		return 0
	case b.state == untilClose && (b.splicing || len(b.in.buf) >= largeBytes):
		return unbounded
	case b.state != inPiece || left < spliceBytes && !b.splicing:
		return 0
	}
	return left
}

// splice is message.Spliceable's Splice.
func (b *body) splice(pipe, most int) (int, error) {
	b.settle()
	b.in.release()
	b.splicing = true
	if b.state == inPiece {
		most = int(min(int64(most), b.left))
	}
	n, err := b.in.splice(pipe, most)
	switch {
	case err == nil:
		b.use(n)
	case b.state == untilClose && isClosed(err):
		b.state = ended
		err = io.EOF
	case b.state == inPiece:
		err = truncated(err)
	}
	return n, err
}

// splice is fill into a pipe.
func (r *reader) splice(pipe, most int) (int, error) {
	if r.idle > 0 {
		r.limitRead(r.idle)
	}
	if r.stopped.Load() { // as in fill
		return 0, os.ErrDeadlineExceeded
	}
	return r.raw.SpliceTo(pipe, most)
}

// direct reports whether the bytes of the connection are those of its socket.
func (w *wire) direct() bool { return w.raw != nil && w.conn == net.Conn(w.raw) }

// drain is write for what is in a pipe.
func (w *wire) drain(pipe *loop.Pipe, idle time.Duration) (int, error) {
	sent := 0
	for {
		if idle > 0 {
			w.limitWrite(idle)
		}
		n, err := pipe.DrainTo(w.raw)
		sent += n
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return sent, err
		}
	}
}

// Ahead is message.Spliceable.
func (a *AppConn) Ahead() int64 { return a.body.ahead() }

// Splice is message.Spliceable.
func (a *AppConn) Splice(pipe, most int) (int, error) { return a.body.splice(pipe, most) }

// spliceFrom sends what source has ahead, if it is allowed to and there is a pipe for
// it. It returns as ReadFrom does, but for io.EOF, which is that of the source; what comes
// after it is for Next.
func (c *ClientConn) spliceFrom(source message.Spliceable) (sent int64, err error) {
	r := &c.reply
	ahead := source.Ahead()
	if ahead == 0 || r.copied || r.bodiless || !c.in.direct() || r.left >= 0 && ahead > r.left {
		return 0, nil
	}
	pipe := c.in.raw.TakePipe()
	if pipe == nil {
		r.copied = true // to ask with each piece would cost more than the pipe saves
		return 0, nil
	}
	defer pipe.Give()
	if err := c.Flush(); err != nil {
		return 0, err
	}
	// Asked again: a client that has fallen behind at the flush may have made the source have
	// the rest drained by somebody else.
	for ahead = source.Ahead(); ahead > 0; ahead = source.Ahead() {
		n, err := source.Splice(pipe.In(), int(min(ahead, int64(pipe.Size()))))
		if err != nil {
			return sent, sourceError(err)
		}
		pipe.Filled(n)
		n, err = c.sendPipe(pipe)
		sent += int64(n)
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// sendPipe is Write for what is in a pipe.
func (c *ClientConn) sendPipe(pipe *loop.Pipe) (int, error) {
	r := &c.reply
	switch {
	case r.chunked:
		r.out = appendChunk(c.takeOut(), pipe.Held())
		if err := c.Flush(); err != nil {
			return 0, err
		}
	case r.left >= 0:
		r.left -= int64(pipe.Held())
	}
	n, err := c.in.drain(pipe, c.engine.Limits.WriteIdle)
	if r.chunked && err == nil {
		r.out = append(r.out, "\r\n"...)
	}
	return n, err
}

// sourceError is err as one of the source of a body, not of its stream.
func sourceError(err error) error {
	if err == io.EOF {
		return err
	}
	return &message.SourceError{Err: err}
}

var _ message.Spliceable = (*AppConn)(nil)
