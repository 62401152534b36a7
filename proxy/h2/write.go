package h2

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"

	"sallyport/sockets/loop"
)

// This file is how the frames of all streams go out: whoever has some puts them into one
// buffer, and has the flusher come, who lets everybody else who can run do the same before
// it sends. One write, and one record of TLS, carries the answers of a turn of the loop.

// An output is what goes to a peer.
type output struct {
	pool         *buffers
	buf          []byte
	batch        uint64 // number of buf
	owed         int    // bytes of buf that answer frames
	sent         uint64 // batches
	flushing     bool   // the flusher is there, or about to be
	window       int    // what the peer takes of all bodies
	bodies       int    // bytes of them that were put into batches
	streamWindow int    // of one that begins
	tableSaid    bool   // that we put nothing into the peer's table
}

// A line is who waits for room or a window.
type line struct {
	waiting []*stream
	turn    uint64
}

// headRoom is room that takeOut leaves for a head: more than most need.
const headRoom = 4 << 10

// unreadMost bounds the answers to frames that are kept for a client that sends and does not
// read.
const unreadMost = 2 * largeBytes

var errUnread = errors.New("h2: answers are not read")

// takeOut is the buffer, with room for a head nearly always.
func (c *ClientConn) takeOut() []byte { return c.out.take(headRoom) }

// take is the buffer, with room for more bytes, up to largeBytes.
func (o *output) take(more int) []byte {
	switch {
	case o.buf == nil && more <= outBytes:
		o.buf = o.pool.takeOut()
	case o.buf == nil:
		o.buf = o.pool.takeLarge()
	case cap(o.buf)-len(o.buf) < more && cap(o.buf) < largeBytes:
		large := append(o.pool.takeLarge(), o.buf...)
		o.pool.give(o.buf)
		o.buf = large
	}
	return o.buf
}

// beginHead begins a field section of s. What it consists of is appended to out.buf.
func (s *stream) beginHead() (start int) { return s.conn.out.beginHead(s.id) }

func (o *output) beginHead(stream uint32) (start int) {
	b := o.take(headRoom)
	start = len(b)
	b = appendHeader(b, 0, kindHeaders, flagEndHeaders, stream)
	if !o.tableSaid {
		o.tableSaid = true
		b = append(b, 0x20) // a table of 0 bytes (RFC 7541, section 6.3)
	}
	o.buf = b
	return start
}

// endHead ends what beginHead has begun, and the stream if that is its last.
func (s *stream) endHead(start int, last bool) {
	c := s.conn
	b := c.out.buf
	s.reply.flags, s.reply.batch = start+flagsAt, c.out.batch
	if last {
		b[start+flagsAt] |= flagEndStream
	}
	c.out.buf = closeSection(b, start, s.id)
}

// closeSection sets the length of the HEADERS frame that b ends with from start on, and
// makes several frames of it if it is too long for one.
func closeSection(b []byte, start int, stream uint32) []byte {
	if n := len(b) - start - headerBytes; n <= frameBytesLeast {
		putLength(b[start:], n)
		return b
	}
	section := slices.Clone(b[start+headerBytes:])
	b[start+flagsAt] &^= flagEndHeaders
	putLength(b[start:], frameBytesLeast)
	b = b[:start+headerBytes+frameBytesLeast]
	for section = section[frameBytesLeast:]; len(section) > 0; {
		n, flags := min(len(section), frameBytesLeast), uint8(0)
		if n == len(section) {
			flags = flagEndHeaders
		}
		b = append(appendHeader(b, n, kindContinuation, flags, stream), section[:n]...)
		section = section[n:]
	}
	return b
}

// putLength sets the length of the frame that begins with b.
func putLength(b []byte, n int) {
	b[0] = byte(n >> 16)
	binary.BigEndian.PutUint16(b[1:], uint16(n))
}

// frame puts as much of p into the buffer as fits that and the windows, and returns the rest.
func (c *ClientConn) frame(s *stream, p []byte) []byte {
	r := &s.reply
	for len(p) > 0 {
		at := len(c.out.buf) + flagsAt
		n := c.out.data(s.id, p, &r.window)
		if n == 0 {
			return p
		}
		r.flags, r.batch = at, c.out.batch
		p = p[n:]
		c.control.earn(n)
		if r.priority.Incremental && len(c.line.waiting) > 0 {
			return p
		}
	}
	return p
}

// data puts a frame with the beginning of p into the buffer, as much as fits that and the
// windows, and returns how much that was.
func (o *output) data(stream uint32, p []byte, window *int) int {
	room := largeBytes - len(o.buf) - headerBytes
	n := min(len(p), frameBytesLeast, *window, o.window)
	if n > room && room < frameBytesLeast/4 {
		return 0 // small frames would be no help
	}
	if n = min(n, room); n <= 0 {
		return 0
	}
	b := appendHeader(o.take(n+headerBytes), n, kindData, 0, stream)
	o.buf = append(b, p[:n]...)
	*window -= n
	o.window -= n
	o.bodies += n
	return n
}

// earn lets the client answer a DATA frame of n bytes by WINDOW_UPDATEs: two, and one for
// each KiB, for Go's own client sends two for every 4 KiB that are read.
func (a *account) earn(n int) { a.count = max(a.count-2-n/1024, 0) }

// fillOut puts what waits into the buffer, in its order, as far as there is room.
func (c *ClientConn) fillOut() {
	for {
		s := c.nextWaiting()
		if s == nil {
			return
		}
		r := &s.reply
		if r.head {
			if len(c.out.buf) >= largeBytes-headRoom {
				return
			}
			c.unqueue(s)
			r.writer.signal()
			continue
		}
		before := len(r.pending)
		r.pending = c.frame(s, r.pending)
		switch len(r.pending) {
		case 0:
			c.unqueue(s)
			r.writer.signal()
		case before:
			return // no room
		}
		c.line.turn++
		r.turn = c.line.turn
	}
}

// nextWaiting is the stream that is to be served next, of those that can be: nil if none.
func (c *ClientConn) nextWaiting() *stream {
	var best *stream
	for _, s := range c.line.waiting {
		r := &s.reply
		if !r.head && (r.window <= 0 || c.out.window <= 0) {
			continue
		}
		if best == nil || r.before(&best.reply, s.id < best.id) {
			best = s
		}
	}
	return best
}

// before reports whether r is to be served before o: "in ascending order of urgency", and
// among those alike the whole of a response that is of no use in parts, "in the order [...]
// requested", before those of which each part is, who take turns (RFC 9218, section 10).
func (r *reply) before(o *reply, earlier bool) bool {
	switch {
	case r.priority.Urgency != o.priority.Urgency:
		return r.priority.Urgency < o.priority.Urgency
	case r.priority.Incremental != o.priority.Incremental:
		return o.priority.Incremental
	case r.priority.Incremental && r.turn != o.turn:
		return r.turn < o.turn
	}
	return earlier
}

// unqueue takes s out of those that wait.
func (c *ClientConn) unqueue(s *stream) {
	if !s.reply.queued {
		return
	}
	s.reply.queued = false
	if i := slices.Index(c.line.waiting, s); i >= 0 {
		c.line.waiting = slices.Delete(c.line.waiting, i, i+1)
	}
}

// kick has the flusher come, if there is something for it.
func (c *ClientConn) kick() {
	if c.out.flushing || c.ending.broken != nil {
		return
	}
	if len(c.out.buf) == 0 && !c.isSaid() && c.nextWaiting() == nil {
		return
	}
	c.out.flushing = true
	c.raw.Run(c.flush)
}

// isSaid reports whether all that is to be said was, and the end of it is due.
func (c *ClientConn) isSaid() bool {
	e := &c.ending
	return !e.closing && (e.fatal || e.final && len(c.streams) == 0)
}

// flushOut sends what is there until nothing is left.
func (c *ClientConn) flushOut() {
	runtime.Gosched() // first everybody who has something to add
	c.mu.Lock()
	for c.ending.broken == nil {
		c.fillOut()
		if len(c.out.buf) == 0 {
			if !c.isSaid() {
				break
			}
			c.ending.closing = true
			c.mu.Unlock()
			err := c.closeWrite()
			c.mu.Lock()
			if err != nil {
				c.fail(err)
			}
			continue
		}
		batch := c.out.buf
		c.out.buf, c.out.owed = nil, 0
		c.out.batch++
		c.mu.Unlock()
		err := c.send(batch)
		c.engine.buffers.give(batch)
		c.mu.Lock()
		c.out.sent++
		if err != nil {
			c.fail(err)
		}
	}
	c.out.flushing = false
	if len(c.streams) == 0 {
		c.line.waiting = nil
	}
	c.mu.Unlock()
	c.endIfOver()
}

// closeWrite tells the client that nothing more comes, and gives it a moment to do the same.
func (c *ClientConn) closeWrite() error {
	c.raw.LimitRead(lingerTime)
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.raw.CloseWrite()
}

// send sends p, within limits.write_idle between two steps.
func (c *ClientConn) send(p []byte) error {
	idle := c.engine.Limits.WriteIdle
	if c.records == nil {
		_, err := c.raw.WriteSteps(p, idle)
		return err
	}
	if len(p) <= loop.RecordBytes {
		if idle > 0 {
			c.raw.LimitWrite(idle)
		}
		_, err := c.conn.Write(p)
		return err
	}
	buffer := c.engine.buffers.takeSealed()
	defer c.engine.buffers.give(buffer)
	for len(p) > 0 {
		c.records.Gather(buffer)
		if idle > 0 {
			c.raw.LimitWrite(idle)
		}
		n, err := c.conn.Write(p[:min(len(p), largeBytes)])
		if flushed := c.records.Flush(idle); err == nil {
			err = flushed
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
