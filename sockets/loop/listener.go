package loop

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// acceptMax bounds the connections that one event takes: those that are there
// have their turn too.
const acceptMax = 64

// A Listener accepts connections on a descriptor that other processes may accept
// on as well.
type Listener struct {
	loop    *Loop
	fd      int
	welcome func(fd int, from unix.Sockaddr) // called by the loop: must not wait
	failed  func(error)                      // likewise; told of a pause, not of each failure in it
	paused  bool                             // guarded by loop.mu
}

// Listen accepts on fd, which it takes over: a listening, non-blocking socket.
// Whoever is welcomed owns the new descriptor, which is non-blocking and closes on
// exec. One of all processes that wait is woken (EPOLLEXCLUSIVE, epoll_ctl(2)).
func (l *Loop) Listen(fd int, welcome func(fd int, from unix.Sockaddr), failed func(error)) (*Listener, error) {
	listener := &Listener{loop: l, fd: fd, welcome: welcome, failed: failed}
	l.mu.Lock()
	l.listeners = append(l.listeners, listener)
	l.mu.Unlock()
	if err := l.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE); err != nil {
		return nil, err
	}
	return listener, nil
}

func (a *Listener) accept() {
	for range acceptMax {
		fd, from, err := unix.Accept4(a.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
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
	l := a.loop
	l.mu.Lock()
	closed := a.fd < 0
	a.paused = !closed
	l.mu.Unlock()
	if closed {
		return
	}
	_ = l.control(unix.EPOLL_CTL_DEL, a.fd, 0) // it was added
	a.failed(fmt.Errorf("loop: accept: %w", err))
}

// resumeListeners ends the pauses.
func (l *Loop) resumeListeners() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.listeners {
		if a.paused && l.control(unix.EPOLL_CTL_ADD, a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE) == nil {
			a.paused = false
		}
	}
}

// Close stops accepting. Another process that has the socket goes on.
func (a *Listener) Close() error {
	l := a.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.listeners {
		if l.listeners[i] == a {
			l.listeners = append(l.listeners[:i:i], l.listeners[i+1:]...)
			break
		}
	}
	if !a.paused {
		_ = l.control(unix.EPOLL_CTL_DEL, a.fd, 0) // close alone does not: others share the socket
	}
	fd := a.fd
	a.fd, a.paused = -1, false
	return unix.Close(fd)
}

// DialUnix connects c to the listening socket at path. It does not wait: a full
// backlog is EAGAIN (connect(2)).
func (l *Loop) DialUnix(c *Conn, path *unix.SockaddrUnix) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loop: socket: %w", err)
	}
	if err := unix.Connect(fd, path); err != nil {
		unix.Close(fd)
		return fmt.Errorf("loop: connect: %w", err)
	}
	return l.Adopt(c, fd)
}
