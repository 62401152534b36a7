package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// orderTime is how long a caller of the control socket may take to speak. One is
// heard after the other.
const orderTime = time.Second

// controlPause is how long the loop waits for descriptors or memory.
const controlPause = 100 * time.Millisecond

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
	wish    chan<- petition // who sends one has no further business with the caller
	callers []waiting
	along   int // comes with a status; 0: nothing does
}

// A waiting is a caller who waits for the end. To ask the file for its descriptor
// would make it blocking.
type waiting struct {
	*os.File
	fd int
}

// left reports whether the caller has gone, and closes our side then.
func (w waiting) left() bool {
	poll := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(poll, 0)
	if n != 1 || err != nil {
		return false
	}
	w.Close()
	return true
}

// A question is asked by a caller for the state of things, and answered once; to the caller
// in pieces.
type question chan []byte

// loop hears one caller after the other and sends orders on. It ends with the process.
func (c *control) loop(orders chan<- order) {
	for {
		fd, err := c.accept()
		if momentary(err) {
			time.Sleep(controlPause)
			continue
		}
		if err != nil {
			c.log.Error("control socket lost", "error", err)
			c.socket.Close() // who calls is to know
			return
		}
		caller := os.NewFile(uintptr(fd), "caller")
		o, parcel, err := c.hear(fd, caller)
		switch {
		case errors.Is(err, io.EOF): // who looks whether anybody is here: BindPath
		case err != nil:
			c.log.Warn("order refused", "error", err)
		case o == orderStatus:
			err = c.report(caller)
			if err != nil {
				c.log.Warn("status not told", "error", err)
			}
		case o == orderReload, o == orderPlan:
			c.wish <- petition{caller: caller, parcel: parcel, asks: o == orderPlan}
			continue
		default:
			orders <- o
			c.callers = append(c.callers, waiting{caller, fd})
			continue
		}
		caller.Close()
	}
}

// report tells a caller how things are.
func (c *control) report(caller *os.File) error {
	answer := make(question, 1)
	c.ask <- answer
	along := c.along
	for piece := range slices.Chunk(<-answer, statusPiece) {
		var err error
		if along > 0 {
			err = sendTo(caller, piece, along)
		} else {
			_, err = caller.Write(piece)
		}
		if err != nil {
			return err
		}
		along = 0
	}
	return nil
}

// momentary reports whether an accept failed for want of what will be there again.
// accept(2) names these, and ECONNABORTED for a caller who left too early.
func momentary(err error) bool {
	return slices.ContainsFunc([]error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.ECONNABORTED},
		func(want error) bool { return errors.Is(err, want) })
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

// hear reads the order of a caller who has the right to give one, with what comes
// along, and confirms those that take their time. fd is the descriptor of caller: to ask the
// file for it would make it blocking.
func (c *control) hear(fd int, caller *os.File) (o order, parcel int, err error) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return "", 0, err
	}
	if peer.Uid != 0 && int(peer.Uid) != c.starter {
		return "", 0, fmt.Errorf("uid %d (pid %d) is neither root nor who started this", peer.Uid, peer.Pid)
	}
	if err := caller.SetDeadline(time.Now().Add(orderTime)); err != nil {
		return "", 0, err
	}
	message, descriptors, err := receiveOn(caller, make([]byte, orderBytesMax))
	if err != nil {
		return "", 0, err
	}
	o, err = parseOrder(message, controlOrders())
	switch {
	case err == nil && len(descriptors) == 1 && o == orderReload:
		parcel = descriptors[0]
	case err == nil && len(descriptors) > 0:
		err = fmt.Errorf("%s with %d descriptors", o, len(descriptors))
	}
	if err == nil {
		err = c.confirm(o, caller)
	}
	if err != nil {
		sockets.CloseAll(descriptors)
		return "", 0, err
	}
	return o, parcel, nil
}

// confirm tells a caller that the order counts, if it takes its time.
func (c *control) confirm(o order, caller *os.File) error {
	if o == orderStatus || o == orderPlan {
		return nil // the answer will
	}
	if o == orderStop {
		c.callers = slices.DeleteFunc(c.callers, waiting.left)
		if len(c.callers) >= callersMax {
			return errors.New("too many callers are waiting")
		}
	}
	_, err := caller.Write([]byte(o))
	return err
}
