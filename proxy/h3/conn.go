package h3

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/proxy/message"
)

// A ClientConn is a connection of a client. It has a goroutine that takes new streams, one
// that takes the streams that carry no request, and one for the client's control stream;
// each exchange has a worker of its own (stream.go). It is closed when none of them is left.
type ClientConn struct {
	engine  *Engine
	conn    *quic.Conn
	peer    message.Peer // when the handshake was over; a client may move since
	awaited bool         // its socket is: it ends early once the engine retires
	control *quic.SendStream
	running sync.WaitGroup // streams that have a goroutine, of either kind, and the flusher
	flush   func()         // flushOut, made once

	mu sync.Mutex

	streams  map[*stream]struct{} // that have an exchange
	next     int64                // the id of the stream that comes next
	served   int                  // streams
	away     bool                 // the client was told to go elsewhere with what is new
	answered bool                 // since then a stream had its exchange, or has
	final    bool                 // the client was told that the stream next is not looked at
	failed   bool                 // it broke the protocol
	resets   account
	controls account
	since    time.Time   // no stream has an exchange
	timer    *time.Timer // of the end; nil if idle connections may stay
	partings []parting
	flushing bool // the flusher is there, or about to be
	slow     int  // answers that are over but for their ends, for which the client has no room
}

// An account counts what a client does within accountTime.
type account struct {
	since time.Time
	count int
}

const accountTime = 10 * time.Second

// over counts one more, and reports whether that is more than most.
func (a *account) over(most int) bool {
	if now := time.Now(); now.Sub(a.since) >= accountTime {
		a.since, a.count = now, 0
	}
	a.count++
	return a.count > most
}

// goneMost is the id that no request has (RFC 9114, section 5.2).
const goneMost = 1<<62 - 4

// serve takes streams until the connection ends, and returns when the last exchange is over.
func (c *ClientConn) serve() {
	if err := c.greet(); err == nil {
		c.running.Go(c.uniLoop)
		c.acceptLoop()
	}
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// greet opens our control stream: "Each side MUST initiate a single control stream at the
// beginning of the connection and send its SETTINGS frame as the first frame on this stream"
// RFC 9114, section 6.2.1. There is no table, so no streams for one: "An endpoint MAY avoid
// creating an encoder stream if it will not be used" RFC 9204, section 4.2.
func (c *ClientConn) greet() error {
	control, err := c.conn.OpenUniStream()
	if err != nil {
		_ = c.conn.CloseWithError(quic.ApplicationErrorCode(codeStreamCreation), "") // it is gone either way
		return err
	}
	settings := appendVarint(nil, settingSectionMax)
	settings = appendVarint(settings, uint64(c.engine.Limits.HeadBytes))
	settings = appendVarint(settings, settingConnect)
	settings = appendVarint(settings, 1)
	b := appendVarint(nil, streamControl)
	b = appendHeader(b, kindSettings, uint64(len(settings)))
	if err := control.TryWriteAll(append(b, settings...)); err != nil {
		_ = c.conn.CloseWithError(quic.ApplicationErrorCode(codeStreamCreation), "") // likewise
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control = control
	c.streams = make(map[*stream]struct{})
	c.since = time.Now()
	c.limit()
	switch {
	case c.engine.draining.Load(), c.awaited && c.engine.retired.Load():
		c.endSoon()
	case c.engine.retired.Load():
		c.retire()
	}
	return nil
}

func (c *ClientConn) acceptLoop() {
	for {
		qs, err := c.conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		c.take(qs)
	}
}

// take has a stream served, unless the client knows that nobody looks at it: such a request
// "can be treated [...] as though it had never been sent" RFC 9114, section 4.1.1.
func (c *ClientConn) take(qs *quic.Stream) {
	c.mu.Lock()
	id := int64(qs.StreamID())
	if c.final && id >= c.next || c.failed {
		c.mu.Unlock()
		reject(qs)
		return
	}
	c.next = max(c.next, id+4)
	s := c.newStream(qs)
	c.streams[s] = struct{}{}
	c.served++
	c.answered = true
	if most := c.engine.Limits.RequestsPerConnection; most > 0 && c.served == most {
		c.sayLast()
	}
	c.mu.Unlock()
	c.running.Add(1)
	c.engine.Run(s.run)
}

func reject(qs *quic.Stream) {
	qs.CancelRead(quic.StreamErrorCode(codeRejected))
	qs.CancelWrite(quic.StreamErrorCode(codeRejected))
	qs.ReleaseStreamCredit()
}

// remove takes a stream off the connection, whose exchange is over.
func (c *ClientConn) remove(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s)
	if s.gone.Load() && c.resets.over(c.engine.Limits.StreamResets) {
		c.fail(errResets)
	}
	c.rest()
}

// busy reports whether the client waits for something, or makes us wait.
func (c *ClientConn) busy() bool { return len(c.streams) > 0 || c.slow > 0 }

// rest is when something is over: that may have been the last.
func (c *ClientConn) rest() {
	if c.busy() {
		return
	}
	c.since = time.Now()
	if wait := c.engine.Limits.KeepaliveIdle; c.served == 1 && wait > 0 && c.timer != nil {
		c.timer.Reset(wait) // until now limits.head_time stood
	}
	if c.engine.draining.Load() || c.final || c.away && c.answered {
		c.endSoon()
	}
}

// countControl counts a frame that carries no request and no body.
func (c *ClientConn) countControl() *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.controls.over(c.engine.Limits.ControlFrames) {
		return errControls
	}
	return nil
}

// limit has the connection end when it was idle for long enough. The timer is not set anew for
// every stream: it looks when the last one has ended, and goes on.
func (c *ClientConn) limit() {
	if l := &c.engine.Limits; l.HeadTime > 0 || l.KeepaliveIdle > 0 {
		c.timer = time.AfterFunc(cmp.Or(c.patience(), idleLeast), c.timeUp)
	}
}

// patience is how long the connection may be idle; 0 is no limit.
func (c *ClientConn) patience() time.Duration {
	if c.served == 0 {
		return c.engine.Limits.HeadTime
	}
	return c.engine.Limits.KeepaliveIdle
}

func (c *ClientConn) timeUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := c.patience()
	left := wait
	if !c.busy() {
		left = wait - time.Since(c.since)
	}
	switch {
	case c.final:
	case wait == 0:
		c.timer.Reset(idleLeast) // it may be another one by then
	case left <= 0:
		c.endSoon()
	default:
		c.timer.Reset(left)
	}
}

// sayLast tells the client which stream is the last that is looked at, once.
func (c *ClientConn) sayLast() {
	if !c.final {
		c.away, c.final = true, true
		c.goAway(uint64(c.next))
	}
}

// retire tells the client to go elsewhere with what is new: "a server SHOULD send an initial
// GOAWAY frame with [...] 2^62-4" RFC 9114, section 5.2. What comes by then is answered.
func (c *ClientConn) retire() {
	if c.away || c.streams == nil {
		return
	}
	c.away, c.answered = true, c.busy()
	c.goAway(goneMost)
}

func (c *ClientConn) goAway(id uint64) {
	payload := appendVarint(nil, id)
	b := appendHeader(nil, kindGoAway, uint64(len(payload)))
	_ = c.control.TryWriteAll(append(b, payload...)) // a client that has no room for 10 bytes sees the end
}

// lingerTime is how long a connection stays behind its last answer, at least: what is on its way
// must arrive, and be sent again if it does not.
const lingerTime = 500 * time.Millisecond

// endSoon tells the client to go, and closes the connection when what was sent has arrived by all
// odds, and what its client sent before it knew. Who has read the GOAWAY closes sooner.
func (c *ClientConn) endSoon() {
	if c.streams == nil {
		return // greet sees to it
	}
	c.retire()
	time.AfterFunc(max(lingerTime, 6*c.conn.ConnectionStats().SmoothedRTT), c.close)
}

// close ends the connection, if no exchange is left.
func (c *ClientConn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy() {
		_ = c.conn.CloseWithError(quic.ApplicationErrorCode(codeNone), "") // it is gone either way
	}
}

// cut ends the connection now.
func (c *ClientConn) cut() {
	_ = c.conn.CloseWithError(quic.ApplicationErrorCode(codeNone), "") // it is gone either way
}

// fail ends the connection because of what the client did, and says why; mu is held.
func (c *ClientConn) fail(f *fault) {
	if c.failed {
		return
	}
	c.failed = true
	_ = c.conn.CloseWithError(quic.ApplicationErrorCode(f.code), f.cause.Cause) // it is gone either way
	c.engine.Refused(&message.Exchange{Peer: c.peer}, f.cause)
}

// failOn is fail for an error that is a fault.
func (c *ClientConn) failOn(err error) {
	if f, ok := errors.AsType[*fault](err); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fail(f)
	}
}

// addrOf is where the other end of conn is now.
func addrOf(conn *quic.Conn) netip.AddrPort {
	addr, ok := conn.RemoteAddr().(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := addr.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
