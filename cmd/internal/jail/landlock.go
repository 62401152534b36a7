package jail

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is landlock(7): no files, no way out by TCP, no signals to others and no
// abstract sockets, as far as this kernel goes. Which rights there are is told by the
// version of its interface, the ABI; what is missing is Lacking's to say. A domain is
// inherited and can only be narrowed, and that of the door is one for all threads of the
// program.

// landlockABI is the version that this kernel has, 0 for none.
func landlockABI() int {
	abi, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return min(int(abi), switches().landlockMost)
}

// A domain is what landlock takes from a process, of what the kernel's ABI has.
type domain struct {
	files uint64 // rights to files, without a rule for any but these
	rules []fileRule
	tcp   uint64
	scope uint64
}

// A fileRule gives rights to one file, or to what is below a folder, back.
type fileRule struct {
	fd     int
	rights uint64
}

const (
	// fileWrites changes what there is, or makes new things.
	fileWrites = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// fileAll is every right of ABI 5; of ABI 9 is that to connect to sockets, which has
	// to wait for the names of those that are meant.
	fileAll = fileWrites | unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	tcpAll   = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	scopeAll = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
)

// filesOf are the rights to files that an ABI knows: "2 refer, 3 truncate, 5 ioctl_dev",
// landlock(7), VERSIONS.
func filesOf(abi int) uint64 {
	rights := uint64(fileAll)
	for _, since := range []struct {
		abi   int
		right uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if abi < since.abi {
			rights &^= since.right
		}
	}
	return rights
}

const (
	abiTCP    = 4 // since when TCP can be taken
	abiScopes = 6 // and signals and abstract sockets
)

// enter puts this thread into the domain, and what comes of it. Without landlock it does
// nothing: seccomp keeps files away as well, and Lacking says it.
func (d domain) enter() error {
	abi := landlockABI()
	if abi == 0 {
		return nil
	}
	d.files &= filesOf(abi)
	if d.files == 0 && abi < abiTCP {
		return nil // there would be nothing in it
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: d.files}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if abi >= abiTCP {
		attr.Handled_access_net = d.tcp
		size += unsafe.Sizeof(attr.Handled_access_net)
	}
	if abi >= abiScopes {
		attr.Scoped = d.scope
		size += unsafe.Sizeof(attr.Scoped)
	}
	set, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("ruleset of ABI %d: %w", abi, errno)
	}
	defer unix.Close(int(set))
	for _, r := range d.rules {
		if err := r.add(int(set), d.files); err != nil {
			return err
		}
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("restrict: %w", errno)
	}
	return nil
}

// add gives the rights of the rule back, of those that the set handles.
func (r fileRule) add(set int, handled uint64) error {
	beneath := unix.LandlockPathBeneathAttr{Allowed_access: r.rights & handled, Parent_fd: int32(r.fd)}
	if beneath.Allowed_access == 0 {
		return nil
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("rule: %w", errno)
	}
	return nil
}

// leaveAll takes every file but the program itself, and what is in the folder that it is
// given, TCP, and the rest.
func leaveAll(e entrance) error {
	return domain{fileAll, append(e.stateRules(), fileRule{e.program, programRights}), tcpAll, scopeAll}.enter()
}

// stateRules give back what a Folder takes, in the folder that is a gift.
func (e entrance) stateRules() []fileRule {
	fd, err := e.gifts.FD(stateGift)
	if err != nil {
		return nil
	}
	return []fileRule{{fd, unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE}}
}

const programRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE

// leaveNetwork takes from the mason TCP, signals to others and abstract sockets. Who has
// given up files may not mount, landlock(7): "Threads sandboxed with filesystem
// restrictions cannot modify filesystem topology".
func leaveNetwork(entrance) error { return domain{tcp: tcpAll, scope: scopeAll}.enter() }

// LogFolder is the gift of a warden that is the folder of the log: files that are there may
// be opened anew, and none made.
const LogFolder = "log-folder"

// leaveMost takes from a warden what it and its wards have no business with: to change
// files, to execute another program than itself and theirs, TCP, and the rest. It reads
// /proc, and removes the names of sockets.
func leaveMost(e entrance) error { return leaveMostBut(e, tcpAll) }

func leaveMostBut(e entrance, tcp uint64) error {
	null, err := unix.Open("/dev/null", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	rules := []fileRule{{null, unix.LANDLOCK_ACCESS_FS_WRITE_FILE}, {e.program, programRights}}
	if ward, err := e.gifts.FD("program"); err == nil {
		rules = append(rules, fileRule{ward, programRights})
	}
	if folder, err := e.gifts.FD(LogFolder); err == nil {
		rules = append(rules, fileRule{folder, unix.LANDLOCK_ACCESS_FS_WRITE_FILE})
	}
	rules = append(rules, e.stateRules()...)
	return domain{fileWrites | unix.LANDLOCK_ACCESS_FS_EXECUTE, rules, tcp, scopeAll}.enter()
}
