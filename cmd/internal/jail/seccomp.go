package jail

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file lays filters on processes. Which calls they allow is in calls.go, how they are
// made in bpf.go.

// ErrSeccomp is a filter of system calls that could not be laid.
var ErrSeccomp = errors.New("filter of system calls")

// String is the name of the set, for errors.
func (set filterSet) String() string {
	switch set &^ (inConnect | inTake | inQUIC | inDial | inState) {
	case inCore:
		return "core"
	case inKeeper:
		return "keeper"
	case inStart:
		return "start"
	case inWarden:
		return "warden"
	case inPlanner:
		return "planner"
	case inMason:
		return "mason"
	case inDialer:
		return "dialer"
	case inRegistrar:
		return "registrar"
	}
	return fmt.Sprintf("filter set %d", uint16(set))
}

// machine is this one as seccomp knows it, and which column of the table it has.
func machine() (audit uint32, number func(amd64, arm64 int) int, err error) {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64, func(amd64, _ int) int { return amd64 }, nil
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64, func(_, arm64 int) int { return arm64 }, nil
	}
	return 0, nil, fmt.Errorf("there is no table of calls for %s: %w", runtime.GOARCH, unix.ENOSYS)
}

// rulesOf is what a filter says of each call that it knows, for the machine whose column
// number takes.
func rulesOf(set filterSet, number func(amd64, arm64 int) int, of subject) []rule {
	var rules []rule
	known := map[int]bool{none: true}
	add := func(amd64, arm64 int, v verdict, shapes []shape) {
		if n := number(amd64, arm64); !known[n] {
			known[n] = true
			rules = append(rules, rule{uint32(n), v, shapes})
		}
	}
	for _, c := range calls(of) {
		if c.allowed&set != 0 {
			add(c.amd64, c.arm64, c.verdict(), c.shapes)
		}
	}
	for _, c := range refused() {
		add(c.amd64, c.arm64, refuse, nil)
	}
	for _, c := range deadly() {
		add(c.amd64, c.arm64, kill, nil)
	}
	add(clone3, clone3, absent, nil)
	return rules
}

// verdict is what becomes of a call that a filter has. Who is told that every address is
// taken does not listen, and goes on.
func (c call) verdict() verdict {
	if c.name == "bind" {
		return taken
	}
	return allow
}

// clone3 has one number everywhere.
const clone3 = 435

// filter is a layer: what set does not allow is over, for this thread and what comes of
// it, or with whole for all threads of the process.
func (set filterSet) filter(e entrance, flags uintptr) error {
	if e.keeps() {
		set |= inState
	}
	switch {
	case switches().noSeccomp:
		return nil
	case switches().seccompAbsent:
		return fmt.Errorf("%w: %w", ErrSeccomp, unix.ENOSYS)
	}
	audit, number, err := machine()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeccomp, err)
	}
	program, err := assemble(audit, rulesOf(set, number, e.subject()), switches().otherwise)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSeccomp, set, err)
	}
	loaded := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	blamed, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&loaded)))
	switch {
	case errno != 0:
		return fmt.Errorf("%w: %s: %w", ErrSeccomp, set, errno)
	case blamed != 0:
		return fmt.Errorf("%w: %s: thread %d has others", ErrSeccomp, set, blamed)
	}
	return nil
}

// subject is what the filters are told of who enters.
func (e entrance) subject() subject {
	s := subject{pid: uint32(os.Getpid()), program: uint32(e.program), dialer: uint32(e.dialer)}
	for _, fd := range e.slots {
		s.slots = append(s.slots, uint32(fd))
	}
	return s
}

// filterThread is the layer of the door, whose thread is the only one that is left.
func filterThread(set filterSet) func(entrance) error {
	return func(e entrance) error {
		err := set.filter(e, 0)
		if e.lenient && (errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)) { // no seccomp, or no filters
			return nil
		}
		return err
	}
}

// filterProcess is the layer behind the door, where there are other threads. If the door
// had none to lay, there is none: only a lenient one lets that pass.
func filterProcess(set filterSet) func(entrance) error {
	return func(e entrance) error {
		if on, err := filtered(); err != nil || !on {
			return err
		}
		return set.filter(e, unix.SECCOMP_FILTER_FLAG_TSYNC)
	}
}

// filtered reports whether this thread has a filter.
func filtered() (bool, error) {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return mode == unix.SECCOMP_MODE_FILTER, err
}
