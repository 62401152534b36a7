package sockets

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// DialDatagram makes a socket that is connected to "unix:/path", or to an address and port
// by UDP. Nobody needs to be there for UDP, and somebody for a path.
func DialDatagram(text string) (int, error) {
	to, err := ParseAddress(text)
	if err != nil {
		return -1, fmt.Errorf("sockets: dial %s: %w", text, err)
	}
	var family int
	var peer unix.Sockaddr
	switch {
	case to.Path != "":
		family, peer = unix.AF_UNIX, &unix.SockaddrUnix{Name: to.Path}
	case to.TCP.Addr().Is4():
		family, peer = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.TCP.Port()), Addr: to.TCP.Addr().As4()}
	default:
		family, peer = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.TCP.Port()), Addr: to.TCP.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("sockets: dial %s: %w", text, err)
	}
	if err := unix.Connect(fd, peer); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("sockets: dial %s: %w", text, err)
	}
	return fd, nil
}
