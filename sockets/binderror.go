package sockets

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// floorFile holds the first port that needs no privilege, ip(7).
const floorFile = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// A BindError is an address that cannot be had, with what an operator needs to
// know about it.
type BindError struct {
	UID   int // who tried
	Port  int // 0 for what is not TCP
	Floor int // value of net.ipv4.ip_unprivileged_port_start
	Err   error

	where Address
}

// bindError explains err, which met an attempt to bind where.
func bindError(where Address, err error) *BindError {
	e := &BindError{UID: os.Geteuid(), Floor: 1024, Err: err, where: where}
	if where.TCP.IsValid() {
		e.Port = int(where.TCP.Port())
	}
	if text, err := os.ReadFile(floorFile); err == nil {
		if floor, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			e.Floor = floor
		}
	}
	return e
}

// Error says what failed, and for a forbidden port whose right to which ports
// ends where.
func (e *BindError) Error() string {
	text := fmt.Sprintf("sockets: bind %v: %v", e.where, e.Err)
	if e.forbidden() {
		text += fmt.Sprintf(": uid %d has no right to port %d, only to ports from %d on (net.ipv4.ip_unprivileged_port_start = %d)",
			e.UID, e.Port, e.Floor, e.Floor)
	}
	return text
}

// Unwrap returns the error of the kernel.
func (e *BindError) Unwrap() error { return e.Err }

// Hint says how to mend it; "" when Error says it all.
func (e *BindError) Hint() string {
	switch {
	case e.forbidden():
		return fmt.Sprintf("start as root; or choose a port from %d on; or let systemd pass the socket (fd:NAME); "+
			"or give the service AmbientCapabilities=CAP_NET_BIND_SERVICE; or sysctl net.ipv4.ip_unprivileged_port_start=%d",
			e.Floor, e.Port)
	case e.Port != 0 && errors.Is(e.Err, unix.EADDRINUSE):
		return fmt.Sprintf("see who has it: ss -ltnp 'sport = :%d'", e.Port)
	case errors.Is(e.Err, unix.EADDRNOTAVAIL):
		return "no interface of this machine has that address; see: ip address"
	case errors.Is(e.Err, unix.ENOENT) && e.where.Path != "":
		return "make the folder of the socket first"
	case errors.Is(e.Err, errNotGiven):
		return "names come from FileDescriptorName= of the socket unit, in LISTEN_FDNAMES"
	default:
		return ""
	}
}

// forbidden reports whether privilege is what is missing.
func (e *BindError) forbidden() bool {
	return e.Port != 0 && errors.Is(e.Err, unix.EACCES)
}
