package sockets

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// givenMax bounds what a supervisor may pass; systemd passes a few.
const givenMax = 1024

// errNotGiven is an "fd:NAME" that no descriptor answers to.
var errNotGiven = errors.New("no descriptor of that name was passed")

// Given are the descriptors that a supervisor passed, sd_listen_fds(3). The nil
// Given has none.
type Given struct {
	passed []inherited
}

// An inherited descriptor is one that was open when we began.
type inherited struct {
	name     string // from LISTEN_FDNAMES; "unknown" without
	fd       int
	where    Address // zero when it is no socket of ours
	datagram bool    // it is no listener, and may be for QUIC
	taken    bool
}

// TakeGiven receives the descriptors that LISTEN_FDS, LISTEN_PID and
// LISTEN_FDNAMES speak of, if they are meant for this process, and makes them
// close-on-exec.
func TakeGiven(env func(string) string) (*Given, error) {
	names, err := parseGiven(env("LISTEN_PID"), env("LISTEN_FDS"), env("LISTEN_FDNAMES"), os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("sockets: LISTEN_FDS: %w", err)
	}
	given := new(Given)
	for i, name := range names {
		fd := FirstGift + i
		if err := closeOnExec(fd); err != nil {
			return nil, fmt.Errorf("sockets: LISTEN_FDS: descriptor %d (%s): %w", fd, name, err)
		}
		// What is no socket can still be named, and is refused then: adopt.
		where, _ := boundAddress(fd)
		kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		datagram := err == nil && kind == unix.SOCK_DGRAM && where.TCP.IsValid()
		if err == nil && kind != unix.SOCK_STREAM && !datagram {
			where = Address{}
		}
		given.passed = append(given.passed, inherited{name: name, fd: fd, where: where, datagram: datagram})
	}
	return given, nil
}

// parseGiven returns the name of each descriptor passed to process self. There
// is none when the variables are not set or meant for another process:
// "sd_listen_fds ... checks whether the $LISTEN_PID environment variable equals
// the daemon PID. If not, it returns immediately."
func parseGiven(pid, count, names string, self int) ([]string, error) {
	if pid == "" || count == "" {
		return nil, nil
	}
	meant, err := strconv.Atoi(pid)
	if err != nil {
		return nil, fmt.Errorf("LISTEN_PID %q is no number", pid)
	}
	if meant != self {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > givenMax {
		return nil, fmt.Errorf("%q is no number from 0 to %d", count, givenMax)
	}
	list := make([]string, n)
	for i := range list {
		list[i] = "unknown" // as sd_listen_fds_with_names(3) has it
	}
	if names != "" {
		if copy(list, strings.Split(names, ":")) != n || strings.Count(names, ":") != n-1 {
			return nil, fmt.Errorf("LISTEN_FDNAMES %q does not name %d descriptors", names, n)
		}
	}
	return list, nil
}

// take returns a descriptor that was passed under the name, or is bound to the
// address, that is wanted. Each is taken once. A UDP socket may have the name or the address of a
// listener, and is none.
func (g *Given) take(wanted Address, datagram bool) (fd int, found bool) {
	if g == nil {
		return -1, false
	}
	for i := range g.passed {
		passed := &g.passed[i]
		byName := wanted.Given != "" && wanted.Given == passed.name
		byAddress := wanted.Given == "" && passed.where != Address{} && wanted.matches(passed.where)
		if !passed.taken && passed.datagram == datagram && (byName || byAddress) {
			passed.taken = true
			return passed.fd, true
		}
	}
	return -1, false
}

// notListener is why there is none for an address: a UDP socket alone has its name.
func (g *Given) notListener(wanted Address) error {
	if g == nil || wanted.Given == "" {
		return nil
	}
	for _, passed := range g.passed {
		if passed.datagram && passed.name == wanted.Given {
			return &strayError{passed.name, passed.where.TCP.String(), "is no listener"}
		}
	}
	return nil
}

// Stray is the error of a UDP socket that was passed and that no listener with TLS has the address of;
// nil if there is none.
func (g *Given) Stray() error {
	if g == nil {
		return nil
	}
	for _, passed := range g.passed {
		if passed.datagram && !passed.taken {
			return &strayError{passed.name, passed.where.TCP.String(), "has the address of no listener"}
		}
	}
	return nil
}

// A strayError is a UDP socket that was passed and has no use.
type strayError struct{ name, address, why string }

func (e *strayError) Error() string {
	return fmt.Sprintf("sockets: the UDP socket %s at %s, which was passed, %s", e.name, e.address, e.why)
}

// Hint is what to do about it.
func (e *strayError) Hint() string {
	return fmt.Sprintf("it belongs to the listener of https that has its address: write https = [%q], or pass a TCP socket "+
		"too (ListenStream=) and name that one; the UDP socket is found by its address", e.address)
}

// Discard closes the descriptors that nothing asked for and returns their names:
// a socket that nobody accepts from would keep its clients waiting.
func (g *Given) Discard() []string {
	var names []string
	if g == nil {
		return nil
	}
	for i := range g.passed {
		if passed := &g.passed[i]; !passed.taken {
			passed.taken = true
			unix.Close(passed.fd)
			names = append(names, passed.name)
		}
	}
	return names
}

// adopt makes a listener of ours from a descriptor that was passed.
func adopt(fd int) (Listener, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return Listener{}, err
	}
	if kind != unix.SOCK_STREAM {
		return Listener{}, errors.New("is no stream socket")
	}
	bound, err := boundAddress(fd)
	if err != nil {
		return Listener{}, err
	}
	if err := checkProtocol(fd, bound); err != nil {
		return Listener{}, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return Listener{}, err
	}
	// A supervisor's own backlog may be short, and some do not listen at all.
	if err := unix.Listen(fd, backlog); err != nil {
		return Listener{}, fmt.Errorf("listen: %w", err)
	}
	return Listener{FD: fd, Address: bound.report(), Given: true}, nil
}

// checkProtocol refuses what streams over the internet and is not TCP. A core that was
// taken over could disconnect such a listener and go out with it: landlock(7) keeps it
// from connecting TCP, and knows neither MPTCP nor SCTP.
func checkProtocol(fd int, bound Address) error {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	switch {
	case err != nil:
		return err
	case bound.Path != "" || protocol == unix.IPPROTO_TCP:
		return nil
	case protocol == unix.IPPROTO_MPTCP:
		return errors.New("is MPTCP, and the jail knows TCP alone: leave SocketProtocol= out of the socket unit; " +
			"a starter in Go listens by ListenConfig.SetMultipathTCP(false)")
	}
	return fmt.Errorf("has protocol %d, and the jail knows TCP alone: leave SocketProtocol= out of the socket unit", protocol)
}
