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

// An address is where a listener is to be found. Exactly one of given, path and
// tcp says so.
type address struct {
	given string         // the NAME of "fd:NAME"
	path  string         // of "unix:/path"
	tcp   netip.AddrPort // unspecified IPv6 with dual set for ":port"
	dual  bool           // one socket for IPv4 and IPv6
}

// parseAddress reads an address as it is written in a configuration.
func parseAddress(text string) (address, error) {
	if name, found := strings.CutPrefix(text, "fd:"); found {
		if name == "" {
			return address{}, errors.New("names no descriptor")
		}
		return address{given: name}, nil
	}
	if path, found := strings.CutPrefix(text, "unix:"); found {
		return address{path: path}, checkPath(path)
	}
	if port, found := strings.CutPrefix(text, ":"); found {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return address{}, fmt.Errorf("%q is no port", port)
		}
		return address{tcp: netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(number)), dual: true}, nil
	}
	where, err := netip.ParseAddrPort(text)
	if err != nil {
		return address{}, errors.New("is none of IP:PORT, :PORT, unix:/PATH and fd:NAME")
	}
	if where.Addr().Zone() != "" {
		return address{}, errors.New("has a zone")
	}
	return address{tcp: netip.AddrPortFrom(where.Addr().Unmap(), where.Port())}, nil
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
func (a address) String() string {
	switch {
	case a.given != "":
		return "fd:" + a.given
	case a.path != "":
		return "unix " + a.path
	default:
		return "tcp " + a.tcp.String()
	}
}

// sockaddr is the address as the kernel takes it.
func (a address) sockaddr() unix.Sockaddr {
	switch {
	case a.path != "":
		return &unix.SockaddrUnix{Name: a.path}
	case a.tcp.Addr().Is4():
		return &unix.SockaddrInet4{Port: int(a.tcp.Port()), Addr: a.tcp.Addr().As4()}
	default:
		return &unix.SockaddrInet6{Port: int(a.tcp.Port()), Addr: a.tcp.Addr().As16()}
	}
}

// matches reports whether a socket that is bound to b serves what a asks for.
// ":80" is content with any socket for all addresses of the machine: which
// families it serves is the choice of whoever made it.
func (a address) matches(b address) bool {
	if a.dual {
		return b.path == "" && b.tcp.Addr().IsUnspecified() && a.tcp.Port() == b.tcp.Port()
	}
	return a.path == b.path && a.tcp == b.tcp
}

// boundAddress asks the kernel where fd is bound.
func boundAddress(fd int) (address, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return address{}, err
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return address{tcp: netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))}, nil
	case *unix.SockaddrInet6:
		return address{tcp: netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), uint16(name.Port))}, nil
	case *unix.SockaddrUnix:
		return address{path: name.Name}, nil
	default:
		return address{}, errors.New("is neither a TCP nor a unix socket")
	}
}

// report is the address as logs and clients read it: "[::]:80", "unix:/run/x.sock".
func (a address) report() string {
	if a.path != "" {
		return "unix:" + a.path
	}
	return a.tcp.String()
}
