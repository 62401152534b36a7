package main

import (
	"errors"
	"fmt"
	"io"
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
	ask     chan<- question
	callers []*os.File // who wait for the end
}

// A question is asked by a caller for the state of things, and answered once.
type question chan []byte

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
		switch {
		case errors.Is(err, io.EOF): // who looks whether anybody is here: BindPath
		case err != nil:
			c.log.Warn("order refused", "error", err)
		case o == orderStatus:
			err = c.report(caller)
			if err != nil {
				c.log.Warn("status not told", "error", err)
			}
		default:
			orders <- o
			c.callers = append(c.callers, caller)
			continue
		}
		caller.Close()
	}
}

// report tells a caller how things are.
func (c *control) report(caller *os.File) error {
	answer := make(question, 1)
	c.ask <- answer
	_, err := caller.Write(<-answer)
	return err
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
// that to stop. fd is the descriptor of caller: to ask the file for it would make it blocking.
func (c *control) hear(fd int, caller *os.File) (order, error) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return "", err
	}
	if peer.Uid != 0 && int(peer.Uid) != c.starter {
		return "", fmt.Errorf("uid %d (pid %d) is neither root nor who started this", peer.Uid, peer.Pid)
	}
	if err := caller.SetDeadline(time.Now().Add(orderTime)); err != nil {
		return "", err
	}
	message := make([]byte, orderBytesMax)
	n, err := caller.Read(message)
	if err != nil {
		return "", err
	}
	o, err := parseOrder(message[:n], controlOrders())
	if err != nil || o != orderStop {
		return o, err
	}
	if len(c.callers) >= callersMax {
		return "", errors.New("too many callers are waiting")
	}
	_, err = caller.Write([]byte(o))
	return o, err
}
