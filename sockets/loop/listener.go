package loop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// acceptMax bounds the connections that one event takes: those that are there
// have their turn too.
const acceptMax = 64

// A Listener accepts connections on a descriptor that other processes may accept
// on as well.
type Listener struct {
	loop    *Loop
	number  int                              // of the descriptor, also when it is closed
	welcome func(fd int, from unix.Sockaddr) // called by the loop: must not wait
	failed  func(error)                      // likewise; told of a pause, not of each failure in it

	mu     sync.Mutex // held while accepting; taken before loop.mu
	closed bool
	paused bool
}

// Listen accepts on fd, which it takes over, also when it fails: a listening,
// non-blocking socket.
// Whoever is welcomed owns the new descriptor, which is non-blocking and closes on
// exec. One of all processes that wait is woken (EPOLLEXCLUSIVE, epoll_ctl(2)).
func (l *Loop) Listen(fd int, welcome func(fd int, from unix.Sockaddr), failed func(error)) (*Listener, error) {
	listener := &Listener{loop: l, number: fd, welcome: welcome, failed: failed}
	l.mu.Lock()
	l.listeners = append(slices.Clone(l.listeners), listener)
	l.mu.Unlock()
	if err := l.control(unix.EPOLL_CTL_ADD, fd, 0, listenEvents); err != nil {
		l.dismiss(listener)
		unix.Close(fd)
		return nil, err
	}
	return listener, nil
}

func (a *Listener) accept() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range acceptMax {
		if a.closed {
			return
		}
		fd, from, err := rawAccept(a.number)
		switch {
		case err == nil:
			a.welcome(fd, from)
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		case errors.Is(err, unix.EAGAIN):
			return
		default:
			a.pause(err)
			return
		}
	}
}

// pause stops accepting until the next sweep: out of descriptors or memory, those
// who are served must end first, and the event would not go away by itself.
func (a *Listener) pause(err error) {
	a.paused = true
	_ = a.loop.control(unix.EPOLL_CTL_DEL, a.number, 0, 0) // it was added
	a.failed(fmt.Errorf("loop: accept: %w", err))
}

// resume ends a pause.
func (a *Listener) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paused && !a.closed && a.loop.control(unix.EPOLL_CTL_ADD, a.number, 0, listenEvents) == nil {
		a.paused = false
	}
}

// listenEvents are level-triggered: what one event leaves, the next one takes.
const listenEvents = unix.EPOLLIN | unix.EPOLLEXCLUSIVE

// Close stops accepting: nobody is welcomed after it. Another process that has the
// socket goes on.
func (a *Listener) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return net.ErrClosed
	}
	a.closed = true
	a.loop.dismiss(a)
	if !a.paused {
		_ = a.loop.control(unix.EPOLL_CTL_DEL, a.number, 0, 0) // close alone does not: others share the socket
	}
	return os.NewSyscallError("close", unix.Close(a.number))
}

// DialUnix connects c to the listening socket at path. It does not wait: a full
// backlog is EAGAIN (connect(2)).
func (l *Loop) DialUnix(c *Conn, path *unix.SockaddrUnix) error {
	fd, err := rawStream()
	if err != nil {
		return fmt.Errorf("loop: socket: %w", err)
	}
	if err := rawConnect(fd, path.Name); err != nil {
		unix.Close(fd)
		return fmt.Errorf("loop: connect: %w", err)
	}
	return l.Adopt(c, fd)
}
