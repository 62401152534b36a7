package h1

import (
	"errors"
	"io"
	"os"
	"time"

	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// A reply is the answer of one exchange, as far as it has come.
type reply struct {
	minor     int  // the client's version
	keep      bool // the connection goes on after this exchange
	head      bool // the request was HEAD
	continues bool // the request expects 100: ours to say
	begun     bool // a final head was sent
	finished  bool // all of it was sent
	tunnel    bool // 101 was sent: bytes now
	chunked   bool
	bodiless  bool  // whatever is written is not sent
	copied    bool  // there was no pipe for the body, and it is not asked for again
	left      int64 // of a Content-Length; -1: until close or last chunk
	out       []byte
}

// Next is message.Source: the request's body, or the client's bytes after 101.
func (c *ClientConn) Next() ([]byte, error) {
	if err := c.sendContinue(); err != nil {
		return nil, err
	}
	piece, err := c.body.Next()
	if c.body.done() {
		c.received.Store(true)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.reply.tunnel {
		err = message.ErrBodyIdle
	}
	return piece, err
}

// Ready is message.Source.
func (c *ClientConn) Ready() bool { return c.body.Ready() }

// Whole is message.Stream.
func (c *ClientConn) Whole() bool { return c.body.isHere() }

// sendContinue sends the 100 that a client waits for before it sends a body. The
// app never sees the expectation: unicorn and thin answer it wrongly, and others
// only when the body is read.
func (c *ClientConn) sendContinue() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.expect {
		return nil
	}
	c.expect = false
	if c.reply.begun || len(c.in.unused()) > 0 {
		return nil
	}
	c.reply.out = append(c.takeOut(), "HTTP/1.1 100 Continue\r\n\r\n"...)
	return c.Flush()
}

// Reply is message.Stream.
func (c *ClientConn) Reply(resp *message.Response) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.reply
	if resp.Interim() {
		return c.replyInterim(resp)
	}
	r.begun = true
	if c.expect || !c.received.Load() || c.engine.retired.Load() {
		// The rest of the body is not wanted any more, and without it there is no
		// telling where the next request begins.
		r.keep = false
	}
	b := appendStatusLine(c.takeOut(), resp.Status)
	b = appendFields(b, &resp.Fields)
	if _, ok := resp.Fields.Value(message.Date); !ok {
		b = append(b, "Date: "...)
		b = append(b, c.engine.date.Date(time.Now())...)
		b = append(b, "\r\n"...)
	}
	if resp.Status == 101 {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, c.exchange.Request.Upgrade...)
		r.out = append(b, "\r\n\r\n"...)
		r.tunnel, r.keep, r.left = true, false, -1
		c.beginTunnel()
		return nil
	}
	if resp.Upgrade != nil {
		// "A server that sends a 426 (Upgrade Required) response MUST send an Upgrade
		// header field to indicate the acceptable protocols" RFC 9110, section 7.8
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, resp.Upgrade...)
		b = append(b, "\r\n"...)
	}
	b = c.frame(b, resp)
	switch {
	case !r.keep:
		b = append(b, "Connection: close\r\n"...)
	case r.minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	r.out = append(b, "\r\n"...)
	return nil
}

// beginTunnel makes the client's bytes, from now on, the body. How long it may be
// silent is for whoever reads it to decide, who sees both ends.
func (c *ClientConn) beginTunnel() {
	c.body.settle()
	c.body.toClose()
	c.received.Store(false) // so that Finish ends the reading
	c.in.pace(0, message.Rate{})
	c.engine.enter(c)
}

func (c *ClientConn) replyInterim(resp *message.Response) error {
	// "A proxy MUST forward 1xx responses unless the proxy itself requested the
	// generation of the 1xx response" RFC 9110, section 15.2; "a server MUST NOT
	// send a 1xx response to an HTTP/1.0 client" ibid.
	if c.reply.minor == 0 || c.reply.continues && resp.Status == 100 {
		return nil
	}
	b := appendStatusLine(c.takeOut(), resp.Status)
	b = appendFields(b, &resp.Fields)
	c.reply.out = append(b, "\r\n"...)
	return c.Flush()
}

// frame decides how the end of the body is told (RFC 9112, section 6.3).
func (c *ClientConn) frame(b []byte, resp *message.Response) []byte {
	r := &c.reply
	r.left = resp.Length
	switch {
	case resp.Status == 204:
		r.bodiless = true
	case r.head, resp.Status == 304:
		r.bodiless = true
		if resp.Length >= 0 {
			b = appendLength(b, resp.Length)
		}
	case resp.Length >= 0:
		b = appendLength(b, resp.Length)
	case r.minor == 1:
		r.chunked = true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	default:
		r.keep = false
	}
	return b
}

// Write is message.Stream.
func (c *ClientConn) Write(p []byte) (int, error) {
	r := &c.reply
	switch {
	case len(p) == 0, r.bodiless:
		return len(p), nil
	case r.chunked:
		r.out = appendChunk(c.takeOut(), len(p))
	case r.left >= 0:
		if int64(len(p)) > r.left {
			return 0, errTooLong
		}
		r.left -= int64(len(p))
	}
	if err := c.put(p); err != nil {
		return 0, err
	}
	if r.chunked {
		r.out = append(r.out, "\r\n"...)
	}
	return len(p), nil
}

// errTooLong and errTooShort are faults of the one that answers, not of the client.
var (
	errTooLong  = errors.New("h1: body longer than its content-length")
	errTooShort = errors.New("h1: body shorter than its content-length")
)

// put appends p to what is buffered if that keeps it small, and else sends both.
func (c *ClientConn) put(p []byte) error {
	r := &c.reply
	if r.out = c.takeOut(); len(r.out)+len(p)+chunkFrame <= cap(r.out) {
		r.out = append(r.out, p...)
		return nil
	}
	if err := c.Flush(); err != nil {
		return err
	}
	_, err := c.write(p)
	return err
}

// ReadFrom is message.Stream.
func (c *ClientConn) ReadFrom(source message.Source) (int64, error) {
	sent := int64(0)
	spliceable, _ := source.(message.Spliceable)
	c.watchStall(source)
	for {
		n, err := c.carry(source, spliceable)
		sent += n
		switch {
		case err == io.EOF:
			return sent, nil
		case err != nil:
			return sent, err
		}
	}
}

// stallTime is how long a client may take nothing before it is behind.
const stallTime = 10 * time.Millisecond

// watchStall lets source know when the client is behind, until the answer is finished or
// aborted.
func (c *ClientConn) watchStall(source message.Source) {
	var ok bool
	if c.source, ok = source.(message.Drainable); ok && c.in.raw != nil {
		c.in.raw.OnStall(stallTime, c.behind)
	}
}

func (c *ClientConn) endStall() {
	if c.source != nil && c.in.raw != nil {
		c.in.raw.OnStall(0, nil)
	}
	c.source = nil
}

// carry sends the next piece of source, or by a pipe as much as can go that way.
func (c *ClientConn) carry(source message.Source, spliceable message.Spliceable) (int64, error) {
	if spliceable != nil {
		if n, err := c.spliceFrom(spliceable); n > 0 || err != nil {
			return n, err
		}
	}
	if !source.Ready() {
		if err := c.Flush(); err != nil {
			return 0, err
		}
	}
	piece, err := source.Next()
	if err != nil {
		return 0, sourceError(err)
	}
	n, err := c.Write(piece)
	return int64(n), err
}

// Flush is message.Stream.
func (c *ClientConn) Flush() error {
	r := &c.reply
	if len(r.out) == 0 {
		return nil
	}
	_, err := c.write(r.out)
	r.out = r.out[:0]
	return err
}

// Finish is message.Stream.
func (c *ClientConn) Finish(trailer *message.Fields) error {
	r := &c.reply
	if !r.bodiless && r.left > 0 {
		c.Abort(message.Reason{Cause: "reply too short"})
		return errTooShort
	}
	if r.chunked {
		r.out = appendLastChunk(c.takeOut(), trailer)
	}
	err := c.Flush()
	c.endStall()
	r.finished = err == nil
	c.giveOut()
	if !c.received.Load() {
		c.in.stop() // whoever still reads the body is in the way
	}
	return err
}

// Abort is message.Stream. The connection is reset when Serve returns. A 100 Continue
// that a reader of the body is sending is waited for, as Reply does: it is in the buffer
// that is given back here.
func (c *ClientConn) Abort(message.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expect = false // nor may one begin
	c.reply.finished = false
	c.endStall()
	c.giveOut()
	c.in.stop()
}

// Left is message.Stream. What the loop has seen is the connection's end, or half of it;
// inside of TLS nobody looks.
func (c *ClientConn) Left() bool { return c.in.raw != nil && c.in.raw.Ended() }

// takeOut is the buffer of the answer; it is only held while there is one.
func (c *ClientConn) takeOut() []byte {
	if c.reply.out == nil {
		c.reply.out = c.engine.Buffers.takeOut()
	}
	return c.reply.out
}

func (c *ClientConn) giveOut() {
	c.engine.Buffers.give(c.reply.out)
	c.reply.out = nil
}

// write sends all of p, within limits.write_idle between two steps.
func (c *ClientConn) write(p []byte) (int, error) {
	if c.in.records != nil && len(p) > loop.RecordBytes {
		return c.writeRecords(p)
	}
	return c.in.wire.write(p, c.engine.Limits.WriteIdle)
}

// writeRecords is write for more than one TLS record: as many as fit a buffer go in one
// call. Each alone cost a fifth more processor time of a large body.
func (c *ClientConn) writeRecords(p []byte) (int, error) {
	buffer := c.engine.Buffers.takeSealed()
	defer c.engine.Buffers.give(buffer)
	idle := c.engine.Limits.WriteIdle
	sent := 0
	for sent < len(p) {
		c.in.records.Gather(buffer)
		if idle > 0 {
			c.in.limitWrite(idle) // a reader's record may take room, and what does not fit is sent
		}
		n, err := c.in.conn.Write(p[sent:min(sent+largeBytes, len(p))])
		if flushed := c.in.records.Flush(idle); err == nil {
			err = flushed
		}
		if err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

var _ message.Stream = (*ClientConn)(nil)
