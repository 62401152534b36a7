package app

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// events is how many descriptors one turn of the loop looks at.
const events = 256

// A loop is the whole app: one thread, and a table of what its descriptors are
// in the middle of.
type loop struct {
	keep     bool // connections stay open
	listener int
	epoll    int
	conns    map[int]*conn
	scratch  []byte // what one read may bring
	filler   []byte // what large bodies are made of
	asked    int    // requests answered, but for those for the counters
	accepted int    // connections that brought one of these
}

// Serve answers on a listening unix socket until the process is ended. The
// answers of an app that does not keep are the last ones on their connection.
func Serve(listener *os.File, keep bool) error {
	runtime.LockOSThread()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("app: epoll: %w", err)
	}
	l := &loop{
		keep:     keep,
		listener: int(listener.Fd()),
		epoll:    epoll,
		conns:    map[int]*conn{},
		scratch:  make([]byte, 256<<10),
		filler:   filler(),
	}
	defer runtime.KeepAlive(listener)
	if err := unix.SetNonblock(l.listener, true); err != nil {
		return fmt.Errorf("app: listener: %w", err)
	}
	if err := l.watch(unix.EPOLL_CTL_ADD, l.listener, unix.EPOLLIN); err != nil {
		return err
	}
	ready := make([]unix.EpollEvent, events)
	for {
		n, err := unix.EpollWait(epoll, ready, -1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("app: wait: %w", err)
		}
		for i := range max(n, 0) {
			l.turn(int(ready[i].Fd), ready[i].Events)
		}
	}
}

func (l *loop) watch(op, fd int, what uint32) error {
	if err := unix.EpollCtl(l.epoll, op, fd, &unix.EpollEvent{Events: what, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("app: watch descriptor %d: %w", fd, err)
	}
	return nil
}

// turn does what a descriptor is ready for.
func (l *loop) turn(fd int, what uint32) {
	if fd == l.listener {
		l.accept()
		return
	}
	c, ok := l.conns[fd]
	if !ok {
		return // closed earlier in this turn
	}
	more := true
	if what&unix.EPOLLOUT != 0 {
		more = l.write(c)
	} else {
		more = l.read(c)
	}
	if !more {
		delete(l.conns, fd)
		unix.Close(fd)
	}
}

// accept takes every connection that waits.
func (l *loop) accept() {
	for {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if l.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
			unix.Close(fd)
			continue
		}
		l.conns[fd] = &conn{fd: fd}
	}
}

// read takes what has come, once, and says whether the connection goes on.
func (l *loop) read(c *conn) bool {
	n, err := unix.Read(c.fd, l.scratch)
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	complete, err := c.take(l.scratch[:n])
	if err != nil {
		return false
	}
	if !complete {
		return true
	}
	l.answer(c)
	return l.write(c)
}

// write sends what the answer still has, as far as the socket takes it, and
// says whether the connection goes on.
func (l *loop) write(c *conn) bool {
	for len(c.out) > 0 || c.filler > 0 {
		piece := c.out
		if len(piece) == 0 {
			piece = l.filler[:min(c.filler, int64(len(l.filler)))]
		}
		n, err := unix.Write(c.fd, piece)
		if err == unix.EAGAIN {
			c.blocked = true
			return l.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLOUT) == nil
		}
		if err != nil {
			return false
		}
		if len(c.out) > 0 {
			c.out = c.out[n:]
		} else {
			c.filler -= int64(n)
		}
	}
	if c.last {
		return false
	}
	if c.blocked {
		c.blocked = false
		return l.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLIN) == nil
	}
	return true
}

func filler() []byte {
	content := make([]byte, 256<<10)
	for i := range content {
		content[i] = byte(i ^ i>>8)
	}
	return content
}
