package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// An order is a word that a warden obeys: on the leash, from the main warden;
// on the control socket, from an operator.
type order string

const orderStop order = "stop" // let the wards finish, then end

// orderBytesMax bounds a message that may be an order.
const orderBytesMax = 64

// parseOrder reads a message. There is no order but those that are listed.
func parseOrder(message []byte) (order, error) {
	switch o := order(message); o {
	case orderStop:
		return o, nil
	default:
		return "", fmt.Errorf("no order: %q", message[:min(len(message), orderBytesMax)])
	}
}

// leashLoop obeys the leash until it is cut, which it says by closing orders:
// the main warden is gone, and with it the right to run. It ends then, or with
// the process.
//
// The leash exists because neither kill(2) nor a parent-death signal crosses uids.
func leashLoop(leash *os.File, orders chan<- order) {
	defer close(orders)
	message := make([]byte, orderBytesMax)
	for {
		n, err := leash.Read(message)
		if err != nil {
			return
		}
		o, err := parseOrder(message[:n])
		if err != nil {
			return // only the main warden holds the other end: it cannot be that
		}
		orders <- o
	}
}

// pollable makes a file of a socket, on which a read waits without a thread.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
