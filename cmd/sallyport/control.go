package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// orderTime is how long a caller of the control socket may take to speak. One is
// heard after the other.
const orderTime = time.Second

// callersMax bounds the callers that wait for the end of the service.
const callersMax = 16

// A control is the main warden's side of the control socket: orders come in, and
// each connection stays open until the process ends, which is what its caller
// waits for.
type control struct {
	socket  *os.File
	starter int // uid that may give orders, beside 0
	log     *slog.Logger
	callers []*os.File
}

// loop hears one caller after the other and sends orders on. It ends with the process.
func (c *control) loop(orders chan<- order) {
	for {
		fd, err := c.accept()
		if err != nil {
			c.log.Error("control socket lost", "error", err)
			return
		}
		caller := os.NewFile(uintptr(fd), "caller")
		o, err := c.hear(fd, caller)
		if err != nil {
			c.log.Warn("order refused", "error", err)
			caller.Close()
			continue
		}
		orders <- o
		c.callers = append(c.callers, caller)
	}
}

// accept waits for the next caller.
func (c *control) accept() (fd int, err error) {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return -1, err
	}
	var acceptErr error
	err = raw.Read(func(socket uintptr) bool {
		fd, _, acceptErr = unix.Accept4(int(socket), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return !errors.Is(acceptErr, unix.EAGAIN)
	})
	return fd, errors.Join(err, acceptErr)
}

// hear reads the order of a caller who has the right to give one, and confirms
// it. fd is the descriptor of caller: to ask the file for it would make it blocking.
func (c *control) hear(fd int, caller *os.File) (order, error) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return "", err
	}
	if peer.Uid != 0 && int(peer.Uid) != c.starter {
		return "", fmt.Errorf("uid %d (pid %d) is neither root nor who started this", peer.Uid, peer.Pid)
	}
	if len(c.callers) >= callersMax {
		return "", errors.New("too many callers are waiting")
	}
	if err := caller.SetDeadline(time.Now().Add(orderTime)); err != nil {
		return "", err
	}
	message := make([]byte, orderBytesMax)
	n, err := caller.Read(message)
	if err != nil {
		return "", err
	}
	o, err := parseOrder(message[:n])
	if err != nil {
		return "", err
	}
	_, err = caller.Write([]byte(o))
	return o, err
}
