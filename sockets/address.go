package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pathBytesMax is what sockaddr_un holds beside the terminating zero, unix(7).
const pathBytesMax = 107

// An Address is where a listener is to be found. Exactly one of Given, Path and
// TCP says so.
type Address struct {
	Given string         // the NAME of "fd:NAME"
	Path  string         // of "unix:/path"
	TCP   netip.AddrPort // unspecified IPv6 with Dual set for ":port"
	Dual  bool           // one socket for IPv4 and IPv6
}

// ParseAddress reads an address as it is written in a configuration.
func ParseAddress(text string) (Address, error) {
	if name, found := strings.CutPrefix(text, "fd:"); found {
		if name == "" {
			return Address{}, errors.New("names no descriptor")
		}
		return Address{Given: name}, nil
	}
	if path, found := strings.CutPrefix(text, "unix:"); found {
		return Address{Path: path}, checkPath(path)
	}
	if port, found := strings.CutPrefix(text, ":"); found {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return Address{}, fmt.Errorf("%q is no port", port)
		}
		return Address{TCP: netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(number)), Dual: true}, nil
	}
	where, err := netip.ParseAddrPort(text)
	if err != nil {
		return Address{}, errors.New("is none of IP:PORT, :PORT, unix:/PATH and fd:NAME")
	}
	if where.Addr().Zone() != "" {
		return Address{}, errors.New("has a zone")
	}
	return Address{TCP: netip.AddrPortFrom(where.Addr().Unmap(), where.Port())}, nil
}

// checkPath refuses what is not the absolute path of a possible socket.
func checkPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return errors.New("is no absolute path")
	case len(path) > pathBytesMax:
		return fmt.Errorf("is longer than %d bytes, the limit of unix sockets", pathBytesMax)
	case strings.ContainsRune(path, 0):
		return errors.New("has a zero byte")
	}
	return nil
}

// String is the address with its kind, for messages: "tcp [::]:80".
func (a Address) String() string {
	switch {
	case a.Given != "":
		return "fd:" + a.Given
	case a.Path != "":
		return "unix " + a.Path
	default:
		return "tcp " + a.TCP.String()
	}
}

// sockaddr is the address as the kernel takes it.
func (a Address) sockaddr() unix.Sockaddr {
	switch {
	case a.Path != "":
		return &unix.SockaddrUnix{Name: a.Path}
	case a.TCP.Addr().Is4():
		return &unix.SockaddrInet4{Port: int(a.TCP.Port()), Addr: a.TCP.Addr().As4()}
	default:
		return &unix.SockaddrInet6{Port: int(a.TCP.Port()), Addr: a.TCP.Addr().As16()}
	}
}

// matches reports whether a socket that is bound to b serves what a asks for.
// ":80" is content with any socket for all addresses of the machine: which
// families it serves is the choice of whoever made it.
func (a Address) matches(b Address) bool {
	if a.Dual {
		return b.Path == "" && b.TCP.Addr().IsUnspecified() && a.TCP.Port() == b.TCP.Port()
	}
	return a.Path == b.Path && a.TCP == b.TCP
}

// boundAddress asks the kernel where fd is bound.
func boundAddress(fd int) (Address, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return Address{}, err
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return Address{TCP: netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))}, nil
	case *unix.SockaddrInet6:
		return Address{TCP: netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), uint16(name.Port))}, nil
	case *unix.SockaddrUnix:
		return Address{Path: name.Name}, nil
	default:
		return Address{}, errors.New("is neither a TCP nor a unix socket")
	}
}

// report is the address as logs and clients read it: "[::]:80", "unix:/run/x.sock".
func (a Address) report() string {
	if a.Path != "" {
		return "unix:" + a.Path
	}
	return a.TCP.String()
}
