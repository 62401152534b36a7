package sockets

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// passedMax bounds the descriptors of one message; the kernel's own limit
// (SCM_MAX_FD) is 253.
const passedMax = 64

// Link makes a pair of connected SOCK_SEQPACKET sockets: what is sent as one
// message arrives as one message, and the death of a peer is an end of file.
// Both ends are blocking; a reader on the netpoller sets its own end otherwise.
func Link() (a, b int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("sockets: link: %w", err)
	}
	return pair[0], pair[1], nil
}

// Send sends one message over a link, with descriptors if any are named. It
// never sends part of one. A peer that is gone is EPIPE, not a signal.
func Send(link int, message []byte, descriptors ...int) error {
	if len(message) == 0 {
		return errors.New("sockets: send: an empty message would read as an end of file")
	}
	if len(descriptors) > passedMax {
		return fmt.Errorf("sockets: send: %d descriptors are more than %d", len(descriptors), passedMax)
	}
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	for {
		err := unix.Sendmsg(link, message, rights, nil, unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("sockets: send: %w", err)
		default:
			return nil
		}
	}
}

// Receive receives one message into buffer, with the descriptors that came
// along, close-on-exec. It returns io.EOF when the peer is gone. A message that
// did not fit is an error, and its descriptors are closed.
func Receive(link int, buffer []byte) (n int, descriptors []int, err error) {
	return receive(link, buffer, 0)
}

// receive is Receive with flags of recvmsg(2).
func receive(link int, buffer []byte, how int) (n int, descriptors []int, err error) {
	control := make([]byte, unix.CmsgSpace(passedMax*4))
	var length, flags int
	for {
		n, length, flags, _, err = unix.Recvmsg(link, buffer, control, unix.MSG_CMSG_CLOEXEC|how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, nil, fmt.Errorf("sockets: receive: %w", err)
	}
	descriptors, err = passed(control[:length])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("sockets: receive: the message is too long")
	}
	if err != nil {
		CloseAll(descriptors)
		return 0, nil, err
	}
	if n == 0 && len(descriptors) == 0 {
		return 0, nil, io.EOF
	}
	return n, descriptors, nil
}

// passed returns the descriptors in the control part of a message, also
// those found before an error.
func passed(control []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, fmt.Errorf("sockets: receive: %w", err)
	}
	var descriptors []int
	for _, message := range messages {
		rights, err := unix.ParseUnixRights(&message)
		if err != nil {
			return descriptors, fmt.Errorf("sockets: receive: unexpected control message: %w", err)
		}
		descriptors = append(descriptors, rights...)
	}
	return descriptors, nil
}

// CloseAll closes descriptors that are of no use any more.
func CloseAll(descriptors []int) {
	for _, fd := range descriptors {
		unix.Close(fd)
	}
}
