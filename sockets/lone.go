package sockets

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// This file is for the one UDP socket that a supervisor passes. Others cannot be bound beside it: they
// would take a privilege that whoever is passed sockets does not have. So every core that may
// ever serve has the same socket, and one at a time reads it: who holds its lock. The lock is the
// kernel's (F_SETLK in fcntl(2)), belongs to a process, and is free when that has closed its socket
// or is gone, however it went. Nobody else has to say so, and cores of plans that share no
// memory agree about it too.

// LoneGift is the gift that is the one UDP socket beside the listener called gift.
func LoneGift(gift string) string { return gift + "quic" }

// TakeLone takes the UDP socket that was passed for the listener that the configuration has where
// wanted says, and that is bound to address. It returns nil if there is none.
func TakeLone(wanted Address, address string, given *Given) (Slots, error) {
	text := wanted // before it is known where it is
	if !wanted.Dual {
		bound, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, nil // a unix socket
		}
		wanted.Given, wanted.TCP = "", bound
	}
	fd, found := given.take(wanted, true)
	if !found {
		return nil, nil
	}
	if err := checkLone(fd); err != nil {
		return nil, fmt.Errorf("sockets: take over the UDP socket of %v: descriptor %d: %w", text, fd, err)
	}
	return Slots{fd}, nil
}

// checkLone readies a UDP socket, or says why it is none that serves.
func checkLone(fd int) error {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return err
	}
	if protocol != unix.IPPROTO_UDP {
		return fmt.Errorf("has protocol %d, and QUIC is for UDP: leave SocketProtocol= out of the socket unit", protocol)
	}
	if _, err := unix.Getpeername(fd); err == nil {
		return errors.New("is connected")
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	return makeRoom(fd)
}

// Claim takes the lock of a socket that several processes have, if no other one has it, and reports
// whether this process has it now. It has it until it closes any descriptor of the socket.
func Claim(fd int) (bool, error) {
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	switch err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &whole); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return false, nil
	default:
		return false, fmt.Errorf("sockets: claim descriptor %d: %w", fd, err)
	}
}
