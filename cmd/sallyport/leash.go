package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// An order is a word that a warden obeys: on the leash, from the main warden;
// on the control socket, from an operator.
type order string

const (
	orderStop   order = "stop"   // let the wards finish, then end
	orderStatus order = "status" // say how things are; on the control socket
	orderReload order = "reload" // begin a new generation of cores; likewise. With a parcel, on another plan
	orderPlan   order = "plan"   // say which plan is in force; likewise
)

// orderBytesMax bounds a message that may be an order.
const orderBytesMax = 64

// controlOrders are the orders of an operator.
func controlOrders() []order { return []order{orderStop, orderStatus, orderReload, orderPlan} }

// leashOrders are the orders of the main warden: to stop, and the signals that
// it got for the ward.
func leashOrders() []order {
	orders := []order{orderStop}
	for _, s := range passedSignals() {
		orders = append(orders, orderOf(s))
	}
	return orders
}

// passedSignals are what an app may be sent by way of the main warden, whose pid
// is the one that is known: the usual app servers reload, reopen and count their
// workers by them.
func passedSignals() []unix.Signal {
	return []unix.Signal{unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTTIN, unix.SIGTTOU, unix.SIGWINCH}
}

// orderOf is a signal as an order: "SIGHUP".
func orderOf(s unix.Signal) order { return order(unix.SignalName(s)) }

// parseOrder reads a message. There is no order but those that are known.
func parseOrder(message []byte, known []order) (order, error) {
	o := order(message)
	if !slices.Contains(known, o) {
		return "", fmt.Errorf("no order: %q", message[:min(len(message), orderBytesMax)])
	}
	return o, nil
}

// leashed are where what comes over a leash goes.
type leashed struct {
	orders    chan<- order
	adoptions chan<- adoption
	keepings  chan<- keeping
}

// leashLoop obeys the leash until it is cut, which it says by closing orders:
// the main warden is gone, and with it the right to run. It ends then, or with
// the process.
//
// The leash exists because neither kill(2) nor a parent-death signal crosses uids.
func leashLoop(leash *os.File, to leashed) {
	defer close(to.orders)
	buffer := make([]byte, orderBytesMax)
	for {
		message, descriptors, err := receiveOn(leash, buffer)
		if err != nil {
			return
		}
		if sockets.IsAdoption(message) {
			a, err := sockets.ParseAdoption(message)
			if err != nil || len(descriptors) != 1 {
				return // as below
			}
			to.adoptions <- adoption{a, descriptors[0]}
			continue
		}
		if sockets.IsKeeping(message) {
			k, err := sockets.ParseKeeping(message)
			if alone := k.Forget || k.Like != 0; err != nil || (len(descriptors) == 1) == alone || len(descriptors) > 1 {
				return // as below
			}
			to.keepings <- keeping{k, append(descriptors, -1)[0]}
			continue
		}
		o, err := parseOrder(message, leashOrders())
		if err != nil || len(descriptors) > 0 {
			return // only the main warden holds the other end: it cannot be that
		}
		to.orders <- o
	}
}

// receiveOn waits for a message, without a thread.
func receiveOn(socket *os.File, buffer []byte) (message []byte, descriptors []int, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var n int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, descriptors, failed = sockets.Receive(int(fd), buffer)
		return !errors.Is(failed, unix.EAGAIN)
	})
	return buffer[:n], descriptors, errors.Join(err, failed)
}

// pollable makes a file of a socket, on which a read waits without a thread.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
