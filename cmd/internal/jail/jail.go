package jail

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

// Become is the door: it turns this process, under the same pid, into argv in
// the given role and identity. exe is a descriptor of the binary (O_PATH will
// do), so that neither folder nor name matters any more. Of all descriptors the
// binary finds only stderr and the gifts; stdin and stdout are /dev/null.
//
// Become returns only if it failed. The calling thread may then have another
// identity than the rest of the process: report the error and exit.
func Become(role Role, who conf.ID, exe int, argv []string, gifts sockets.Gifts) error {
	row, err := profileOf(role)
	if err != nil {
		return err
	}
	if who.UID == 0 {
		return fmt.Errorf("jail: %s: uid 0 is nobody's", role)
	}
	runtime.LockOSThread()
	exe, err = place(exe, gifts)
	if err != nil {
		return fmt.Errorf("jail: %s: gifts: %w", role, err)
	}
	for _, layer := range row.door {
		if err := layer.pass(who); err != nil {
			return fmt.Errorf("jail: %s: %s: %w", role, layer.name, err)
		}
	}
	return fmt.Errorf("jail: %s: execute %s: %w", role, argv[0], execute(exe, argv, environment(os.Environ())))
}

// Seal is the first statement of a child's main. It gives away what only the
// process itself can, and fails when the process has uid 0, holds a capability
// or could gain one: then it did not come through the door and must not run.
func Seal(role Role) error {
	row, err := profileOf(role)
	if err != nil {
		return err
	}
	for _, layer := range row.seal {
		if err := layer.pass(conf.ID{}); err != nil {
			return fmt.Errorf("jail: %s: %s: %w", role, layer.name, err)
		}
	}
	return nil
}

// place gives this thread a descriptor table of its own in which 0 and 1 are
// /dev/null, the gifts follow stderr, and everything else closes on exec. It
// returns the number of exe in that table.
//
// The copy matters: other threads go on polling descriptors that the gifts
// overwrite here.
func place(exe int, gifts sockets.Gifts) (int, error) {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/null: %w", err)
	}
	places := []sockets.Gift{{Name: "stdin", FD: null}, {Name: "stdout", FD: null}, {Name: "stderr", FD: 2}}
	places = append(places, gifts...)

	// First everything out of the way, then each to its place: a gift may stand
	// where another belongs.
	exe, err = aside(exe, len(places))
	if err != nil {
		return -1, fmt.Errorf("executable: %w", err)
	}
	for i, gift := range places {
		if places[i].FD, err = aside(gift.FD, len(places)); err != nil {
			return -1, fmt.Errorf("%s: %w", gift.Name, err)
		}
	}
	for i, gift := range places {
		if err := unix.Dup3(gift.FD, i, 0); err != nil {
			return -1, fmt.Errorf("%s: %w", gift.Name, err)
		}
	}
	if err := unix.CloseRange(uint(len(places)), ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return -1, fmt.Errorf("close_range: %w", err)
	}
	return exe, nil
}

// aside copies fd to a number that is no gift's place.
func aside(fd, places int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, places)
}

// environment returns what passes the door: settings of Go's runtime that an
// operator may have made. Nothing of ours is told by environment.
func environment(all []string) []string {
	var kept []string
	for _, entry := range all {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GORACE", "GOCOVERDIR":
			kept = append(kept, entry)
		}
	}
	return kept
}

// execute is execveat(2) on a descriptor: "If pathname is an empty string and
// the AT_EMPTY_PATH flag is specified, then the file descriptor dirfd specifies
// the file to be executed". It returns only if it failed.
func execute(exe int, argv, env []string) error {
	argvp, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return err
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	empty := new(byte)
	for range executeTries {
		_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(exe), uintptr(unsafe.Pointer(empty)),
			uintptr(unsafe.Pointer(&argvp[0])), uintptr(unsafe.Pointer(&envp[0])), unix.AT_EMPTY_PATH, 0)
		if err = errno; !errors.Is(errno, unix.EAGAIN) {
			break
		}
	}
	return err
}

// executeTries bounds a rare quarrel: an execve that meets another thread of the
// same process in the middle of clone(2) may see EAGAIN (golang.org/issue/19546).
const executeTries = 100
