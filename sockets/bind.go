package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// backlog is how many connections wait for an accept, per listener. The kernel
// cuts it at net.core.somaxconn, whose default is the same 4096.
const backlog = 4096

// listenerMode is the mode of a unix listener in the file system.
const listenerMode = 0o666

// A Listener is a socket that accepts connections.
type Listener struct {
	FD      int
	Address string // where it is bound, port 0 resolved: "[::]:80", "unix:/run/x.sock"
	Given   bool   // a supervisor made it, and whatever it left in the file system
}

// Bind makes the listener of an address: a descriptor of given if one has that
// name or is bound there, else a new socket. A failure names what an operator needs
// to know as a BindError.
func Bind(wanted Address, given *Given) (Listener, error) {
	if fd, found := given.take(wanted, false); found {
		listener, err := adopt(fd)
		if err != nil {
			return Listener{}, fmt.Errorf("sockets: take over %v: descriptor %d: %w", wanted, fd, err)
		}
		return listener, nil
	}
	if err := given.notListener(wanted); err != nil {
		return Listener{}, err
	}
	fd, err := bind(wanted)
	if err != nil {
		return Listener{}, bindError(wanted, err)
	}
	bound, err := boundAddress(fd)
	if err != nil {
		unix.Close(fd)
		return Listener{}, bindError(wanted, err)
	}
	return Listener{FD: fd, Address: bound.report()}, nil
}

// bind makes a listening socket of any kind that is not given.
func bind(where Address) (int, error) {
	switch {
	case where.Given != "":
		return -1, errNotGiven
	case where.Path != "":
		return BindPath(where.Path, unix.SOCK_STREAM, listenerMode)
	case where.Dual:
		fd, err := bindTCP(where)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
			// IPv6 is not in the kernel, or switched off by net.ipv6.conf.all.disable_ipv6.
			return bindTCP(Address{TCP: netip.AddrPortFrom(netip.IPv4Unspecified(), where.TCP.Port())})
		}
		return fd, err
	default:
		return bindTCP(where)
	}
}

// bindTCP makes a listening TCP socket.
func bindTCP(where Address) (int, error) {
	if where.TCP.Port() == 0 {
		reserved, err := bindStream(where)
		if err != nil {
			return -1, err
		}
		defer unix.Close(reserved) // only once the other has it: nobody comes between
		chosen, err := boundAddress(reserved)
		if err != nil {
			return -1, err
		}
		where.TCP = netip.AddrPortFrom(where.TCP.Addr(), chosen.TCP.Port())
	}
	fd, err := bindStream(where)
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindStream makes a TCP socket that is bound and does not listen yet. Connections of a
// predecessor in TIME_WAIT must not keep the port from it.
func bindStream(where Address) (int, error) {
	return bindInet(where, unix.SOCK_STREAM, unix.SO_REUSEADDR)
}

// bindInet makes a socket of IPv4 or IPv6 that shares its port with others as sharing says.
func bindInet(where Address, kind, sharing int) (int, error) {
	family := unix.AF_INET6
	if where.TCP.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, sharing, 1)
	if err == nil && family == unix.AF_INET6 {
		only := 1
		if where.Dual {
			only = 0
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	if err == nil {
		err = unix.Bind(fd, where.sockaddr())
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Heal lets a listener listen again that no longer does, and reports whether
// that was necessary: a holder of a TCP listener can disconnect it for all by
// connect(AF_UNSPEC) or shutdown(SHUT_RD), and connect it to somewhere else. No
// privilege is needed; the port is still bound.
//
// A unix listener whose receiving side was shut down still says that it listens
// (SO_ACCEPTCONN is 1), and never accepts again. Nothing heals that; not to let it
// happen is for the filter that package jail is to have.
//
// A holder can also make it block for all (fcntl(2), F_SETFL): whoever finds nobody to
// accept then waits for the next client, and does nothing else.
func Heal(fd int) (healed bool, err error) {
	blocking, err := unblock(fd)
	if err != nil {
		return false, err
	}
	again, err := relisten(fd)
	return blocking || again, err
}

// unblock makes fd non-blocking, and reports whether it was not.
func unblock(fd int) (was bool, err error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_NONBLOCK == 0 {
		was = true
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return was, fmt.Errorf("sockets: heal: %w", err)
	}
	return was, nil
}

// relisten has fd listen, and reports whether it did not.
func relisten(fd int) (was bool, err error) {
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return false, fmt.Errorf("sockets: heal: %w", err)
	}
	if listening != 0 {
		return false, nil
	}
	err = unix.Listen(fd, backlog)
	if errors.Is(err, unix.EINVAL) { // it is connected, or about to be
		if err = dissolve(fd); err == nil {
			err = unix.Listen(fd, backlog)
		}
	}
	if err != nil {
		return false, fmt.Errorf("sockets: heal: listen: %w", err)
	}
	return true, nil
}

// dissolve ends what connect(2) began: sockets "may dissolve the association by
// connecting to an address with the sa_family member of sockaddr set to AF_UNSPEC".
func dissolve(fd int) error {
	nowhere := unix.RawSockaddrInet4{Family: unix.AF_UNSPEC}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nowhere)), unsafe.Sizeof(nowhere))
	if errno != 0 {
		return fmt.Errorf("dissolve: %w", errno)
	}
	return nil
}
