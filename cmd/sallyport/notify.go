package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// This file is what a service manager is told, sd_notify(3): that the service is ready,
// replaces its cores, or ends. Boot makes the socket, and the main warden, which has the
// pid that the service manager knows, writes to it.

// notifyVariable is where the socket is. Nobody but the main warden is to use it: "the
// variable ... should be unset", for its children are not the service.
const notifyVariable = "NOTIFY_SOCKET"

// openNotify makes the socket. Without it the service manager waits in vain, and says so.
func (b *boot) openNotify() {
	path := os.Getenv(notifyVariable)
	if path == "" {
		return
	}
	_ = os.Unsetenv(notifyVariable) // it fails for names that are none
	fd, err := dialNotify(path)
	if err != nil {
		b.log.Warn("service manager not told", "socket", path, "error", err)
		return
	}
	b.links = append(b.links, sockets.Gift{Name: "notify", FD: fd})
}

// dialNotify connects to a datagram socket: "the first character is either @ or /".
func dialNotify(path string) (int, error) {
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") {
		return -1, fmt.Errorf("%s is neither a path nor abstract", notifyVariable)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil { // which turns @ into a zero
		unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// A notice is what the service manager was told last.
type notice string

const (
	noticeNone      notice = ""
	noticeReady     notice = "READY=1"
	noticeReloading notice = "RELOADING=1"
	noticeStopping  notice = "STOPPING=1"
)

// A notifier tells the service manager what is new.
type notifier struct {
	fd   int // -1 when there is nobody to tell
	said notice
}

// notice is how things are now.
func (w *warden) notice() notice {
	switch {
	case w.state >= draining:
		return noticeStopping
	case w.state == starting:
		return noticeNone
	case len(w.reload.petitions) > 0:
		return noticeReloading
	default:
		return noticeReady
	}
}

// tell sends n, unless that was the last. What finds no room is sent when the warden looks
// around the next time.
func (n *notifier) tell(now notice, log *slog.Logger) {
	if n.fd < 0 || n.said == now {
		return
	}
	text := string(now)
	if now == noticeReloading {
		// "RELOADING=1 ... should be sent together with MONOTONIC_USEC=", sd_notify(3).
		var since unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &since); err == nil {
			text += fmt.Sprintf("\nMONOTONIC_USEC=%d", since.Nano()/1000)
		}
	}
	_, err := unix.Write(n.fd, []byte(text))
	switch err {
	case nil:
		n.said = now
	case unix.EAGAIN, unix.ENOBUFS, unix.EINTR:
	default:
		log.Warn("service manager not told", "notice", string(now), "error", err)
		unix.Close(n.fd)
		n.fd = -1
	}
}
