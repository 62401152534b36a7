package h2

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// A ClientConn is a connection of a client. Three kinds of goroutines touch it, each only
// while it has something to do:
//
//	reader    takes the frames that have come, and never waits (read.go, head.go)
//	streams   one for each, run the exchanges and wait for their clients (stream.go, reply.go)
//	flusher   sends what the others have left in out (write.go)
//
// It is closed when none of them is left and none can come.
type ClientConn struct {
	engine  *Engine
	peer    message.Peer
	conn    net.Conn
	raw     *loop.Conn    // what conn is, or is made on
	records *loop.Records // between the two, if conn is a TLS session
	resume  func()        // serve, made once
	flush   func()        // flushOut, made once

	mu sync.Mutex

	in      input
	head    head
	out     output
	line    line
	ending  ending
	limited limited
	streams []*stream // that have a goroutine, by rising id
	last    uint32    // the highest id that a stream of the client had
	served  int       // streams
	closed  [16]past  // streams that have ended lately
	pasts   int       // that were put there
	resets  account
	control account
}

// An input is what came from the client.
type input struct {
	buf      []byte // buf[from:to] is unused; of the reader alone
	from     int
	to       int
	full     bool // the last read found no end of what was there
	greeted  bool // the preface has come
	settled  bool // so have the first settings
	partial  bool // a frame has come in part
	block    block
	data     data
	window   int // what the client may send of bodies
	consumed int // of bodies, and not given back to window
	lent     int // given back, but not read
}

// A limited is which limit stands on the next read.
type limited uint8

const (
	limitNone limited = iota
	limitIdle
	limitHead
	limitKnows // for lastPing to come back, when the engine is to end
)

// An ending is how a connection comes to its end:
//
//	open ── away ──► final ──► closing ──► closed
//	  └──── fatal ───────────────▲
//	  └──── broken ────────────────────────▲
type ending struct {
	away     bool  // the client was told to go elsewhere with what is new
	crossed  bool  // what the client sent before it knew that is here
	answered bool  // since then a stream had its exchange, or has
	looked   bool  // while draining, since the last stream
	final    bool  // the client was told which stream is the last
	fatal    bool  // it broke the protocol: it is told, and nothing of it is read any more
	closing  bool  // all was said
	lingered int   // bytes read since
	eof      bool  // no reader comes any more
	broken   error // nothing can be sent any more
	over     bool
}

// A past is a stream that has ended.
type past struct {
	id   uint32
	ours bool // we reset it: what the client has sent by then is no mistake
}

// An account counts what a client does within accountTime.
type account struct {
	since int64
	count int
}

const accountTime = int64(10 * time.Second)

// over counts one more, and reports whether that is more than most.
func (a *account) over(now int64, most int) bool {
	if now-a.since >= accountTime {
		a.since, a.count = now, 0
	}
	a.count++
	return a.count > most
}

// serve takes what has come, until nothing is left, and parks. The loop calls it again
// when there is more.
func (c *ClientConn) serve() {
	for {
		err := c.fill()
		switch {
		case err == nil:
			c.report(c.take())
		case err == loop.ErrWouldBlock:
			if c.park() {
				return
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			refusal, over := c.timeUp()
			c.report(refusal)
			if over {
				c.endReading()
				return
			}
		default:
			c.endReading()
			return
		}
	}
}

// report tells why a connection is to end, if there is a reason that is no request's.
func (c *ClientConn) report(refusal *message.Refusal) {
	if refusal != nil {
		c.engine.Refused(&message.Exchange{Peer: c.peer}, refusal)
	}
}

// fill reads what is there, and does not wait.
func (c *ClientConn) fill() error {
	in := &c.in
	room := in.room(&c.engine.buffers)
	if c.drained() {
		return loop.ErrWouldBlock
	}
	n, err := c.conn.Read(room)
	in.to += n
	in.full = in.to == len(in.buf)
	if n > 0 {
		return nil
	}
	return err
}

// room is where more goes.
func (in *input) room(pool *buffers) []byte {
	if in.buf == nil {
		in.buf = pool.takeIn()
	}
	switch {
	case in.from == in.to:
		in.from, in.to = 0, 0
	case in.from > 0:
		in.to = copy(in.buf, in.buf[in.from:in.to])
		in.from = 0
	}
	return in.buf[in.to:]
}

// drained reports whether a read would find nothing. It is worth to know of a TLS session,
// which allocates to find out.
func (c *ClientConn) drained() bool {
	return c.records != nil && !c.in.full && c.records.Drained() && !c.raw.Ready()
}

// park leaves the connection to the loop, and reports whether it has. One that is to end
// because it is idle is looked at once more before: what has come by then is answered.
func (c *ClientConn) park() bool {
	c.mu.Lock()
	in := &c.in
	last := c.engine.draining.Load() && len(c.streams) == 0 && !c.crossing()
	if last && !c.ending.looked {
		c.ending.looked = true
		c.mu.Unlock()
		c.raw.Look()
		return false
	}
	in.partial = in.from < in.to
	if !in.partial {
		c.engine.buffers.give(in.buf)
		in.buf = nil
	}
	if last {
		c.sayLast(c.last, codeNone)
		c.kick()
	}
	c.limit()
	c.mu.Unlock()
	c.raw.Idle(c.resume)
	return true
}

// limit sets the limit for the next bytes, where another one is due than stands. Bytes
// that are no request do not extend it.
func (c *ClientConn) limit() {
	if c.ending.fatal || c.ending.closing {
		return // linger has its own
	}
	want, wait := limitIdle, c.engine.Limits.KeepaliveIdle
	switch {
	case c.in.block.open || c.in.partial && c.in.data.left == 0:
		want, wait = limitHead, c.engine.Limits.HeadTime
	case len(c.streams) > 0:
		want, wait = limitNone, 0
	case c.crossing() && c.engine.draining.Load():
		want, wait = limitKnows, lingerTime
	case c.served == 0:
		wait = c.engine.Limits.HeadTime
	}
	if want != c.limited {
		c.limited = want
		c.raw.LimitRead(wait)
	}
}

// timeUp is when nothing came in time. It returns why, if that is the client's fault, and
// whether nothing more is to be read.
func (c *ClientConn) timeUp() (refusal *message.Refusal, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.kick()
	switch {
	case c.ending.closing, c.ending.fatal:
		return nil, true
	case c.limited == limitHead:
		c.abandon(codeEnhanceCalm)
		return message.ErrHeadTime, false
	}
	c.raw.LimitRead(lingerTime) // for what is still to be sent
	if c.ending.away || !c.in.greeted {
		c.sayLast(c.last, codeNone)
	}
	c.retire()
	c.ending.answered = true
	return nil, false
}

// endReading is when no more bytes come.
func (c *ClientConn) endReading() {
	c.mu.Lock()
	c.engine.buffers.give(c.in.buf)
	c.in.buf = nil
	c.ending.eof = true
	for _, s := range c.streams {
		s.wake()
	}
	c.mu.Unlock()
	c.endIfOver()
}

// endIfOver closes the connection if nobody is left to use it.
func (c *ClientConn) endIfOver() {
	c.mu.Lock()
	over := c.ending.eof && !c.out.flushing && len(c.streams) == 0 && !c.ending.over
	c.ending.over = c.ending.over || over
	if over {
		c.engine.buffers.give(c.out.buf)
		c.out.buf = nil
	}
	c.mu.Unlock()
	if over {
		c.engine.end(c)
	}
}

// abandon ends the connection because of what the client did: "An endpoint that encounters
// a connection error SHOULD first send a GOAWAY frame [...] the endpoint MUST close the TCP
// connection" RFC 9113, section 5.4.1.
func (c *ClientConn) abandon(why code) {
	c.sayLast(c.last, why)
	c.ending.fatal = true
	c.in.from = c.in.to
	c.raw.LimitRead(lingerTime)
	for _, s := range c.streams {
		s.gone = true
		s.wake()
	}
}

// sayLast says which stream is the last one that is looked at, once.
func (c *ClientConn) sayLast(last uint32, why code) {
	if c.ending.final && why == codeNone || c.ending.fatal {
		return
	}
	c.ending.away, c.ending.final = true, true
	if c.in.greeted {
		c.out.buf = appendGoAway(c.takeOut(), last, why)
	}
}

// fail is when nothing can be sent any more: by a failure, or by a cut.
func (c *ClientConn) fail(err error) {
	if c.ending.broken != nil {
		return
	}
	c.ending.broken = err
	c.out.buf = c.out.buf[:0]
	for _, s := range c.streams {
		s.wake()
	}
	c.raw.Cut() // the reader sees it, and ends
}

// find is the stream id, nil if it has no goroutine.
func (c *ClientConn) find(id uint32) *stream {
	i, ok := c.position(id)
	if !ok {
		return nil
	}
	return c.streams[i]
}

func (c *ClientConn) position(id uint32) (int, bool) {
	return slices.BinarySearchFunc(c.streams, id, func(s *stream, id uint32) int { return int(s.id) - int(id) })
}

// remember notes that a stream has ended.
func (c *ClientConn) remember(id uint32, ours bool) {
	c.closed[c.pasts%len(c.closed)] = past{id, ours}
	c.pasts++
}

// recall is what is known of a stream that has no goroutine.
func (c *ClientConn) recall(id uint32) (p past, ok bool) {
	for _, p := range c.closed {
		if p.id == id {
			return p, true
		}
	}
	return past{}, false
}

// remove takes a stream off the connection, whose exchange is over.
func (c *ClientConn) remove(s *stream) {
	c.mu.Lock()
	i, _ := c.position(s.id)
	c.streams = slices.Delete(c.streams, i, i+1)
	c.remember(s.id, s.ours)
	if len(c.streams) == 0 {
		if cap(c.streams) > streamsKept {
			c.streams = nil
		}
		c.emptied()
	}
	c.kick()
	c.mu.Unlock()
	c.endIfOver()
}

// streamsKept is how long a list of streams an idle connection keeps.
const streamsKept = 4

// Bounds of what is read of a connection behind its end; see h1's linger. A client of
// HTTP/2 that was told to go does so at once.
const (
	lingerBytes = 4 << 20
	lingerTime  = time.Second
)
