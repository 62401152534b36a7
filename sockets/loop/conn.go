package loop

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Conn is a stream socket that a Loop watches; it is a net.Conn. One goroutine
// may read while another writes. Close is for the one that is left; to end the waits of
// the others there are deadlines and Cut.
type Conn struct {
	loop *Loop
	fd   int
	turn int32 // of its events

	reading side
	writing side

	ended atomic.Bool // by the peer: reads go on until they see it
	cut   atomic.Bool // by Cut

	instant bool // Read returns ErrWouldBlock instead of waiting; only the reader's business
	armed   bool // the loop watches for room; only the writer's business

	stall   time.Duration // only the writer's business
	stalled func()        // likewise; see OnStall
}

// A side is one direction of a Conn.
type side struct {
	mu       sync.Mutex
	ready    bool          // since the last call there may be something to do
	waiting  bool          // a goroutine is parked in wake
	idle     func()        // what a worker calls instead; nil when not idle
	deadline int64         // by the loop's clock; 0: none
	wake     chan struct{} // 1 slot; made when it is first needed
}

// ErrWouldBlock is what Read returns in a Try that finds nothing. It is temporary,
// which keeps crypto/tls from taking it for the end of its connection.
var ErrWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "loop: nothing to read" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// Adopt makes c a connection: it takes over a connected, non-blocking stream socket
// and has the loop watch it. c may be the zero Conn, or one that was closed. After an
// error fd is closed, and c is a closed Conn.
func (l *Loop) Adopt(c *Conn, fd int) error {
	c.loop, c.fd, c.instant, c.armed, c.stalled = l, fd, false, false, nil
	c.ended.Store(false)
	c.cut.Store(false)
	c.reading.reset(false)
	c.writing.reset(true) // until a write falls short
	if err := l.watch(c); err != nil {
		c.fd = -1 // the number is somebody else's now
		unix.Close(fd)
		return err
	}
	return nil
}

func (s *side) reset(ready bool) {
	s.mu.Lock()
	s.ready, s.waiting, s.idle, s.deadline = ready, false, nil, 0
	s.mu.Unlock()
}

// Read is net.Conn. It waits until there are bytes, the end, or the deadline.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if err := c.await(&c.reading, c.instant); err != nil {
			return 0, err
		}
		n, errno := rawRead(c.fd, p)
		switch {
		case errno == unix.EINTR:
			c.reading.again()
		case errno == unix.EAGAIN:
		case errno != 0:
			return 0, os.NewSyscallError("recvfrom", errno)
		case n == 0:
			c.reading.again() // it stays the end
			return 0, io.EOF
		default:
			// A full read may have left something, and an end shows only when it is read.
			if n == len(p) || c.ended.Load() {
				c.reading.again()
			}
			return n, nil
		}
	}
}

// Try lets reads return ErrWouldBlock instead of waiting, or not any more.
func (c *Conn) Try(on bool) { c.instant = on }

// Look has the next Read ask the kernel, whether or not the loop has heard of bytes.
func (c *Conn) Look() { c.reading.again() }

// Ready reports whether the next Read would not wait: the loop has heard of bytes or of the
// end, the last Read left some, the deadline has passed, or the connection was cut. Who
// is called by Idle finds it so.
func (c *Conn) Ready() bool {
	s := &c.reading
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready || s.overdue(c.loop.clock.Load()) || c.cut.Load()
}

// Run has a worker call resume now.
func (c *Conn) Run(resume func()) { c.loop.workers.run(resume) }

// Idle has resume called by a worker when there are bytes, the end or the deadline,
// once. The caller forgets the connection until then: it may have been called before
// Idle returns.
func (c *Conn) Idle(resume func()) {
	s := &c.reading
	s.mu.Lock()
	if s.ready || s.overdue(c.loop.clock.Load()) || c.cut.Load() { // as Ready says
		s.mu.Unlock()
		c.loop.workers.run(resume)
		return
	}
	s.idle = resume
	s.mu.Unlock()
}

// Write is net.Conn. It waits until all of p is taken, or the deadline.
func (c *Conn) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		if err := c.await(&c.writing, false); err != nil {
			return sent, err
		}
		n, errno := rawWrite(c.fd, p[sent:])
		if errno == 0 {
			sent += n
		}
		if err := c.afterWrite("sendto", errno); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// afterWrite readies c for the write that follows one that ended with errno, or says why
// there can be none.
func (c *Conn) afterWrite(call string, errno syscall.Errno) error {
	switch errno {
	case 0, unix.EINTR:
		c.writing.again()
		return nil
	case unix.EAGAIN:
		return c.awaitRoom()
	}
	return os.NewSyscallError(call, errno)
}

// awaitRoom has the loop tell when a peer that took less than it was given has room
// again. Once is enough: the edge comes after each write that fell short (epoll(7)).
func (c *Conn) awaitRoom() error {
	if c.armed {
		return nil
	}
	c.armed = true
	return c.loop.control(unix.EPOLL_CTL_MOD, c.fd, c.turn, writeEvents)
}

// await waits until s may be ready, and takes the readiness.
func (c *Conn) await(s *side, instant bool) error {
	for {
		s.mu.Lock()
		switch {
		case c.cut.Load():
			s.mu.Unlock()
			return net.ErrClosed
		case s.overdue(c.loop.clock.Load()):
			s.mu.Unlock()
			return os.ErrDeadlineExceeded
		case s.ready:
			s.ready = false // before the call: an edge that comes during it counts
			s.mu.Unlock()
			return nil
		case instant:
			s.mu.Unlock()
			return ErrWouldBlock
		}
		if s.wake == nil {
			s.wake = make(chan struct{}, 1)
		}
		s.waiting = true
		s.mu.Unlock()
		if s == &c.writing && c.stalled != nil {
			c.awaitStall()
		} else {
			<-s.wake
		}
	}
}

// OnStall has a write that finds no room for wait call stalled, once, before it waits on.
// The writer sets it, and nil ends it.
func (c *Conn) OnStall(wait time.Duration, stalled func()) { c.stall, c.stalled = wait, stalled }

// awaitStall waits to be woken for a write.
func (c *Conn) awaitStall() {
	timer, ok := c.loop.timers.Get().(*time.Timer)
	if ok {
		timer.Reset(c.stall)
	} else {
		timer = time.NewTimer(c.stall)
	}
	select {
	case <-c.writing.wake:
		timer.Stop()
	case <-timer.C:
		c.stalled()
		<-c.writing.wake
	}
	c.loop.timers.Put(timer)
}

// again says that the next call need not wait.
func (s *side) again() {
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
}

// overdue reports whether the deadline has passed; s.mu is held.
func (s *side) overdue(now int64) bool {
	return s.deadline != 0 && s.deadline <= now
}

// late reports whether somebody waits beyond the deadline.
func (s *side) late(now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline != 0 && s.deadline <= now && (s.waiting || s.idle != nil)
}

// rouse wakes whoever waits for s, after it was marked ready if that is so.
func (c *Conn) rouse(s *side, ready bool) {
	s.mu.Lock()
	s.ready = s.ready || ready
	idle := s.idle
	s.idle = nil
	if s.waiting {
		s.waiting = false
		s.wake <- struct{}{} // empty: only who waits has asked for it
	}
	s.mu.Unlock()
	if idle != nil {
		c.loop.workers.run(idle)
	}
}

// happened takes the events of epoll.
func (c *Conn) happened(events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.ended.Store(true)
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.rouse(&c.reading, true)
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.rouse(&c.writing, true)
	}
}

// expire wakes who waits beyond a deadline.
func (c *Conn) expire(now int64) {
	if c.reading.late(now) {
		c.rouse(&c.reading, false)
	}
	if c.writing.late(now) {
		c.rouse(&c.writing, false)
	}
}

// Ended reports whether the peer has closed its side, as far as the loop knows.
func (c *Conn) Ended() bool { return c.ended.Load() }

// Cut ends the connection under whoever reads or writes it: their waits, now and
// later, fail with net.ErrClosed. Close is still due.
func (c *Conn) Cut() {
	c.cut.Store(true)
	_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // of a connection that is gone: fine
	c.rouse(&c.reading, true)
	c.rouse(&c.writing, true)
}

// Close is net.Conn. Nobody may be reading or writing. A second Close is
// net.ErrClosed, and no harm to whoever has the number by then.
func (c *Conn) Close() error {
	if c.fd < 0 {
		return net.ErrClosed
	}
	fd := c.fd
	c.cut.Store(true) // nobody would wake a later wait
	c.loop.forget(c)
	c.fd = -1
	return os.NewSyscallError("close", errnoError(rawClose(fd)))
}

// CloseWrite tells the peer that nothing more comes.
func (c *Conn) CloseWrite() error {
	return os.NewSyscallError("shutdown", unix.Shutdown(c.fd, unix.SHUT_WR))
}

// SetReadDeadline is net.Conn; it is kept to within a tenth of a second.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.limit(&c.reading, c.nanoseconds(t))
	return nil
}

// SetWriteDeadline is net.Conn; it is kept to within a tenth of a second.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.limit(&c.writing, c.nanoseconds(t))
	return nil
}

// SetDeadline is net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.limit(&c.reading, c.nanoseconds(t))
	c.limit(&c.writing, c.nanoseconds(t))
	return nil
}

// LimitRead sets the read deadline to wait from now, by the loop's own clock; 0 is
// none, and less than 0 the past.
func (c *Conn) LimitRead(wait time.Duration) { c.limit(&c.reading, c.after(wait)) }

// LimitWrite is LimitRead for writes.
func (c *Conn) LimitWrite(wait time.Duration) { c.limit(&c.writing, c.after(wait)) }

// renewWrite is LimitWrite if the write deadline has passed; nobody may be writing.
func (c *Conn) renewWrite(wait time.Duration) {
	s := &c.writing
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.overdue(c.loop.clock.Load()) {
		s.deadline = c.after(wait)
	}
}

// Clock is the loop's own clock, in nanoseconds: the moment of the last event or
// sweep, which is at most a tenth of a second ago.
func (c *Conn) Clock() int64 { return c.loop.clock.Load() }

func (c *Conn) after(wait time.Duration) int64 {
	switch {
	case wait == 0:
		return 0
	case wait < 0:
		return 1
	}
	return c.loop.clock.Load() + int64(wait)
}

func (c *Conn) nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return c.loop.moment(t)
}

func (c *Conn) limit(s *side, deadline int64) {
	s.mu.Lock()
	s.deadline = deadline
	overdue := s.overdue(c.loop.clock.Load()) && (s.waiting || s.idle != nil)
	s.mu.Unlock()
	if overdue {
		c.rouse(s, false)
	}
}

// SetLinger with 0 has Close send a reset instead of an end: what was sent is a
// fragment (SO_LINGER, socket(7)). With more, Close would wait, and is made never to.
func (c *Conn) SetLinger(seconds int) error {
	linger := unix.Linger{Onoff: 1, Linger: int32(seconds)}
	return os.NewSyscallError("setsockopt", unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &linger))
}

// LocalAddr is net.Conn, which crypto/tls asks for.
func (c *Conn) LocalAddr() net.Addr { return addrOf(unix.Getsockname(c.fd)) }

// RemoteAddr is net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return addrOf(unix.Getpeername(c.fd)) }

func addrOf(name unix.Sockaddr, err error) net.Addr {
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: name.Addr[:], Port: name.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: name.Addr[:], Port: name.Port}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: name.Name, Net: "unix"}
	}
	return &net.UnixAddr{Net: "unix"} // err, or a family that we never listen on
}

var _ net.Conn = (*Conn)(nil)
