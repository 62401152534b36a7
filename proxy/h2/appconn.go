package h2

import (
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"sallyport/conf"
	"sallyport/sockets/loop"
)

// This file is the connection of the side that speaks to apps; what comes on it is in
// appread.go, what becomes of one request in call.go and callreply.go.

// Apps are what connections to apps share. The zero value is ready.
type Apps struct{ buffers buffers }

// An AppConn is a connection to an app that speaks HTTP/2 without having been asked ("prior
// knowledge", RFC 9113, section 3.3). It carries many calls at a time. As at a ClientConn, a
// reader takes what has come, and a flusher sends what calls have left, while there is
// something to do; the calls wait in their callers' goroutines.
//
//	open ── GOAWAY, Retire ──► away ── no call ──► closed
//	  └── idle for too long, broken, or by a rule that the app broke ──▲
type AppConn struct {
	// Raw is the connection. It is made before Start.
	Raw loop.Conn

	apps   *Apps
	limits *conf.Limits  // of heads
	idle   time.Duration // of a write without progress
	resume func()        // serve, made once
	flush  func()        // flushOut, made once
	closed func()        // told when it is over

	mu sync.Mutex

	in      input
	head    head
	out     output
	waiting []*Call // for room or a window, in their order
	early   []*Call // for the app's first word
	calls   []*Call // that have begun, by rising id
	next    uint32  // id of the next call
	taken   int     // by calls that have yet to begin
	said    settings
	control account

	away     bool // no more room is kept
	refuses  bool // the app has said so: calls for which room was kept are not to begin either
	parked   bool // without a call: a limit is on the reader
	fault    fault
	mute     error  // nothing can be sent any more
	unsent   uint64 // the batch that was not, and all behind it; 0: all were
	ended    error  // nothing comes any more
	eof      bool   // no reader comes any more
	over     bool
	lastSize int // bytes of the batch that was sent last
}

const (
	// callsMost bounds the calls of one connection, if the app lets more.
	callsMost = 1000
	// callsAtFirst is how many there may be before the app has said how many it takes: "It
	// is recommended that this value be no smaller than 100" RFC 9113, section 6.5.2.
	callsAtFirst = 100
	// appWindow is what the app may send of all bodies before the reader has come. Those that
	// nobody reads are bounded by the windows of their own.
	appWindow = 4 << 20
	// appControls is how many frames an app may send within accountTime that carry nothing.
	appControls = 10_000
	// AppIdle is how long a connection without a call is kept. That the app may end it
	// just then costs nothing: what it has not read is sent once more.
	AppIdle = 10 * time.Second
)

var (
	errIdle    = errors.New("h2: connection idle")
	errRetired = errors.New("h2: connection retired")
)

// A GreetingError is the end of a connection whose app has not said one word of HTTP/2.
type GreetingError struct{ Err error }

func (e *GreetingError) Error() string { return e.Err.Error() }

// Unwrap returns how it ended.
func (e *GreetingError) Unwrap() error { return e.Err }

// Start speaks HTTP/2 on c.Raw. A write that makes no progress for idle ends the connection.
// closed is told when c is over; it may lock what is locked around Reserve and Retire.
// There is room for one call, as if reserved, so that c is not over before that.
//
// Until the app has said how many calls it takes, there is room for first; 0 is as many as
// every app should take.
func (c *AppConn) Start(apps *Apps, limits *conf.Limits, idle time.Duration, first int, closed func()) {
	c.apps, c.limits, c.idle, c.closed = apps, limits, idle, closed
	c.resume, c.flush = c.serve, c.flushOut
	c.head.start(limits, true)
	if first == 0 {
		first = callsAtFirst
	}
	c.next, c.said = 1, settings{window: windowAtFirst, streams: first}
	c.in.greeted, c.in.window = true, appWindow
	c.out = output{pool: &apps.buffers, window: windowAtFirst, streamWindow: windowAtFirst, batch: 1}
	b := append(c.out.take(headRoom), preface...)
	start := len(b)
	b = appendHeader(b, 0, kindSettings, 0, 0)
	b = appendSetting(b, settingPush, 0)
	b = appendSetting(b, settingWindow, streamWindow)
	b = appendSetting(b, settingListBytes, uint32(limits.HeadBytes))
	b[start+2] = byte(len(b) - start - headerBytes)
	c.out.buf = appendWindow(b, 0, appWindow-windowAtFirst) // it goes with the first call
	c.Raw.Try(true)                                         // nobody waits in a read
	c.taken = 1
	c.Raw.Idle(c.resume)
}

// Reserve keeps room for one call, which Open takes up. It reports whether there was any.
func (c *AppConn) Reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away || c.mute != nil || c.ended != nil || len(c.calls)+c.taken >= min(c.said.streams, callsMost) {
		return false
	}
	c.taken++
	c.park()
	return true
}

// Most is how many calls the app takes at a time on this connection, 0 if it has not said so.
func (c *AppConn) Most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.in.settled {
		return 0
	}
	return min(c.said.streams, callsMost)
}

// Retire takes no new calls, and ends the connection with the last that it has.
func (c *AppConn) Retire() {
	c.mu.Lock()
	c.leave(errRetired)
	c.mu.Unlock()
}

// leave takes no new calls, and ends the connection when it has none.
func (c *AppConn) leave(why error) {
	c.away = true
	if len(c.calls)+c.taken == 0 {
		c.cut(why)
	}
}

// park sets the limit of a connection without calls, or takes it away.
func (c *AppConn) park() {
	parked := len(c.calls)+c.taken == 0
	switch {
	case parked == c.parked:
	case parked:
		c.Raw.LimitRead(AppIdle)
	default:
		c.Raw.LimitRead(0)
	}
	c.parked = parked
}

// dismiss is when a call has come to its end, or has never begun.
func (c *AppConn) dismiss() {
	c.park()
	if c.away {
		c.leave(errRetired)
	}
}

// serve takes what has come, until nothing is left, and parks.
func (c *AppConn) serve() {
	for {
		n, err := c.Raw.Read(c.room())
		switch {
		case n > 0:
			c.take(n)
		case err == loop.ErrWouldBlock:
			c.mu.Lock()
			if c.in.from == c.in.to {
				c.apps.buffers.give(c.in.buf)
				c.in.buf = nil
			}
			c.mu.Unlock()
			c.Raw.Idle(c.resume)
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.timeUp()
		default:
			c.endReading(err)
			return
		}
	}
}

func (c *AppConn) room() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.room(&c.apps.buffers)
}

// timeUp is when a connection had no call for AppIdle.
func (c *AppConn) timeUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parked {
		c.leave(errIdle)
	}
}

// endReading is when nothing comes any more, because of err.
func (c *AppConn) endReading(err error) {
	c.mu.Lock()
	c.apps.buffers.give(c.in.buf)
	c.in.buf = nil
	if c.ended == nil {
		c.ended = err
	}
	if c.mute == nil {
		c.mute = c.ended
	}
	c.eof, c.away = true, true
	c.failCalls()
	c.mu.Unlock()
	c.endIfOver()
}

// failCalls ends all calls of a connection that has ended. The flusher, if it is there, is
// about to find out what the app cannot have read.
func (c *AppConn) failCalls() {
	if !c.eof || c.out.flushing {
		return
	}
	why := c.ended
	if !c.in.settled && c.fault.refusal == nil {
		why = &GreetingError{why}
	}
	c.wakeEarly()
	reset := errors.Is(why, syscall.ECONNRESET)
	for _, k := range c.calls {
		k.fail(why, c.isUnread(k, reset))
	}
}

// isUnread reports whether the app can have read no whole head of k: it was not sent, or
// ended with the last byte that was, and the app has closed with bytes unread, of which that
// is one; see Lease.repeatable of package upstream. What stands before other frames may be
// begun with, however few bytes all of them are: Go's server reads one frame at a time.
func (c *AppConn) isUnread(k *Call, reset bool) bool {
	if c.unsent > 0 && k.batch >= c.unsent || len(c.out.buf) > 0 && k.batch == c.out.batch {
		return true
	}
	return reset && k.batch == c.out.batch-1 && k.headEnd == c.lastSize
}

// cut ends the connection under everybody.
func (c *AppConn) cut(why error) {
	c.away = true
	if c.mute == nil {
		c.mute = why
	}
	c.wakeEarly()
	if c.ended == nil {
		c.ended = why
		c.Raw.Cut() // the reader sees it, and ends
	}
}

// abandon ends the connection because of what the app did.
func (c *AppConn) abandon(f fault) {
	if c.fault.refusal != nil {
		return
	}
	c.fault, c.away = f, true
	c.in.from = c.in.to
	c.out.buf = appendGoAway(c.out.take(headRoom), 0, f.code)
	c.wakeEarly()
	for _, k := range c.calls {
		k.fail(f.refusal, false)
	}
	c.Raw.LimitRead(0)
	if c.kick(); c.mute != nil {
		c.cut(f.refusal)
	}
}

// endIfOver closes the connection if nobody is left to use it.
func (c *AppConn) endIfOver() {
	c.mu.Lock()
	over := c.eof && !c.out.flushing && len(c.calls)+c.taken == 0 && !c.over
	c.over = c.over || over
	if over {
		c.apps.buffers.give(c.out.buf)
		c.out.buf = nil
	}
	c.mu.Unlock()
	if over {
		c.Raw.Close()
		c.closed()
	}
}

// kick has the flusher come, if there is something for it.
func (c *AppConn) kick() {
	if c.out.flushing || c.mute != nil || len(c.out.buf) == 0 {
		return
	}
	c.out.flushing = true
	c.Raw.Run(c.flush)
}

// flushOut sends what is there until nothing is left.
func (c *AppConn) flushOut() {
	runtime.Gosched() // first everybody who has something to add
	c.mu.Lock()
	for c.mute == nil && len(c.out.buf) > 0 {
		batch, number := c.out.buf, c.out.batch
		c.out.buf, c.out.owed = nil, 0
		c.out.batch++
		c.lastSize = len(batch)
		c.wakeWaiting()
		c.mu.Unlock()
		n, err := c.Raw.WriteSteps(batch, c.idle)
		c.apps.buffers.give(batch)
		c.mu.Lock()
		c.out.sent++
		if err != nil {
			c.failSending(err, n == 0, number)
		}
	}
	if c.fault.refusal != nil {
		c.cut(c.fault.refusal)
	}
	c.out.flushing = false
	c.failCalls()
	c.mu.Unlock()
	c.endIfOver()
}

// failSending is when a batch could not be sent. What the app has said before it closed is
// still to be read.
func (c *AppConn) failSending(err error, nothing bool, batch uint64) {
	c.unsent = batch + 1
	if nothing {
		c.unsent = batch
	}
	c.away = true
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		c.cut(err)
	}
	if c.mute == nil {
		c.mute = err
	}
	for _, k := range c.calls {
		k.writer.signal()
	}
}

// wakeWaiting has everybody look who waits for room or a window.
func (c *AppConn) wakeWaiting() {
	for _, k := range c.waiting {
		k.writer.signal()
	}
	c.waiting = c.waiting[:0]
}

// wakeEarly has those look who wait for the app's first word.
func (c *AppConn) wakeEarly() {
	for _, k := range c.early {
		k.reader.signal()
	}
}

// find is the call with this id, nil if it has ended.
func (c *AppConn) find(id uint32) *Call {
	if i, ok := c.position(id); ok {
		return c.calls[i]
	}
	return nil
}

func (c *AppConn) position(id uint32) (int, bool) {
	return slices.BinarySearchFunc(c.calls, id, func(k *Call, id uint32) int { return int(k.id) - int(id) })
}

// sendable is nil as long as something can be sent.
func (c *AppConn) sendable() error {
	switch {
	case c.fault.refusal != nil:
		return c.fault.refusal
	case c.mute != nil && c.mute != io.EOF:
		return c.mute
	case c.mute != nil:
		return syscall.EPIPE
	}
	return nil
}
