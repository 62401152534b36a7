package loop

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sweepEvery is how exact deadlines are. Limits are seconds; a tenth of one costs
// ten thousand idle connections about a thousandth of a CPU.
const sweepEvery = 100 * time.Millisecond

// eventsMax is how many events one wait takes.
const eventsMax = 128

// A Loop watches descriptors and wakes whoever waits for them.
type Loop struct {
	epoll   *os.File // in Go's poller
	number  int      // of epoll
	raw     syscall.RawConn
	timers  sync.Pool // of *time.Timer that nobody waits for
	workers workers
	closing sync.Once
	pipes   pipes
	stop    chan struct{} // closed by Close
	zero    time.Time     // of the clock
	clock   atomic.Int64  // nanoseconds since zero, as of the last events or the last sweep

	mu        sync.Mutex
	conns     []*Conn     // by descriptor; nil where none is watched
	listeners []*Listener // few
	turn      int32       // of the descriptor that was adopted last
}

// pastMax is how long ago a deadline may be that is set.
const pastMax = 24 * time.Hour

// moment is t by the loop's clock, which goes on evenly when that of the machine is set, and
// never stands at 0.
func (l *Loop) moment(t time.Time) int64 { return max(1, int64(t.Sub(l.zero))) }

// New makes a Loop and starts it. Close ends it.
func New() (*Loop, error) {
	number, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("loop: epoll: %w", err)
	}
	if err := unix.SetNonblock(number, true); err != nil { // which makes os take it for pollable
		unix.Close(number)
		return nil, fmt.Errorf("loop: epoll: %w", err)
	}
	l := &Loop{epoll: os.NewFile(uintptr(number), "epoll"), number: number, stop: make(chan struct{})}
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		l.epoll.Close()
		return nil, fmt.Errorf("loop: epoll: %w", err)
	}
	l.zero = time.Now().Add(-pastMax)
	l.clock.Store(l.moment(time.Now()))
	go l.waitLoop()
	go l.sweepLoop()
	return l, nil
}

// Run has a worker do a job now.
func (l *Loop) Run(job func()) { l.workers.run(job) }

// Close ends the loop. Connections that it watches are not closed, and never
// woken again: whoever closes a loop has closed them.
func (l *Loop) Close() (err error) {
	l.closing.Do(func() {
		close(l.stop)
		l.workers.close()
		l.pipes.close()
		err = l.epoll.Close() // waits for whoever dispatches an event, who may need mu
	})
	return err
}

// waitLoop takes events as they come, until Close. It runs inside one call of
// RawConn.Read: returning false parks the goroutine in Go's poller until an edge comes,
// which it does for each event behind those that were taken: asking once more before
// would be a system call in vain, one per three requests.
func (l *Loop) waitLoop() {
	events := make([]unix.EpollEvent, eventsMax)
	_ = l.raw.Read(func(fd uintptr) bool { // its only error is that of Close
		for {
			n, err := epollWait(int(fd), events)
			if err != nil {
				return true // EBADF: closed
			}
			if n > 0 {
				l.clock.Store(l.moment(time.Now()))
			}
			more := n == len(events)
			for i := range events[:n] {
				more = l.dispatch(&events[i]) || more
			}
			if !more {
				return false
			}
		}
	})
}

// epollWait is epoll_wait(2) that never blocks, and so needs no help of the scheduler.
func epollWait(fd int, events []unix.EpollEvent) (int, error) {
	for {
		n, errno := rawEpollWait(fd, events)
		if errno != unix.EINTR {
			return n, errnoError(errno)
		}
	}
}

func errnoError(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// dispatch gives an event to whom it is for, and reports whether only the next wait can
// tell that it is dealt with: a listener is level-triggered, and clients whom it has left
// there are no edge.
func (l *Loop) dispatch(event *unix.EpollEvent) (again bool) {
	if listener := l.tell(event); listener != nil {
		listener.accept()
		return true
	}
	return false
}

// tell gives an event to its connection, or returns its listener. An event of a
// connection that was closed since says nothing of the one that has the number now.
func (l *Loop) tell(event *unix.EpollEvent) *Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	fd := int(event.Fd)
	if fd < len(l.conns) && l.conns[fd] != nil {
		if c := l.conns[fd]; c.turn == event.Pad {
			c.happened(event.Events)
		}
		return nil
	}
	for _, listener := range l.listeners {
		if listener.number == fd {
			return listener
		}
	}
	return nil
}

// sweepLoop wakes whoever has waited for too long, until Close.
func (l *Loop) sweepLoop() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	var late []*Conn
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
			now := l.moment(time.Now())
			l.clock.Store(now)
			late = l.late(late[:0], now)
			for _, c := range late {
				c.expire(now)
			}
			clear(late)
			for _, a := range l.listening() {
				a.resume()
			}
		}
	}
}

// listening are the listeners that are not closed.
func (l *Loop) listening() []*Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listeners // never changed in place
}

// dismiss forgets a listener.
func (l *Loop) dismiss(a *Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listeners = slices.DeleteFunc(slices.Clone(l.listeners), func(other *Listener) bool { return other == a })
}

// late are the connections with a deadline that has passed.
func (l *Loop) late(found []*Conn, now int64) []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		if c != nil && (c.reading.late(now) || c.writing.late(now)) {
			found = append(found, c)
		}
	}
	return found
}

// watch begins to watch c.
func (l *Loop) watch(c *Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.turn++
	l.conns[c.fd], c.turn = c, l.turn
	err := l.control(unix.EPOLL_CTL_ADD, c.fd, c.turn, readEvents)
	if err != nil {
		l.conns[c.fd] = nil
	}
	return err
}

// forget ends watching. The number must not be closed before: it could be
// somebody else's at once.
func (l *Loop) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c.fd] = nil
}

const (
	readEvents  = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	writeEvents = readEvents | unix.EPOLLOUT
)

// control is epoll_ctl(2). turn comes back with each event.
func (l *Loop) control(op, fd int, turn int32, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: turn}
	if err := unix.EpollCtl(l.number, op, fd, &event); err != nil {
		return fmt.Errorf("loop: epoll_ctl: %w", err)
	}
	return nil
}
