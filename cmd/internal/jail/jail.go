package jail

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

// A Program is what a process executes behind the door.
type Program struct {
	FD     int    // of the binary; O_PATH will do. Neither folder nor name matters then
	Path   string // instead of FD, for what may be a script and is found by its interpreter under a name
	Argv   []string
	Env    []string // nil: what passes the door, see environment
	Stdout int      // 0: /dev/null
	Root   int      // 0: as it is; else a folder for a core or keeper, whose process is in a user namespace of its own
}

// Become is the door: it turns this process, under the same pid, into a program in
// the given role and identity. Of all descriptors the program finds only stderr
// and the gifts, and stdout if it is given one; stdin is /dev/null.
//
// A program with a Path is not ours to surprise: it has the soft limit of files
// that the starter had, which Go's runtime has raised, and dies of SIGPIPE.
//
// The sandbox is that of the plan: "full" demands the filters of system calls,
// "best-effort" goes without where the kernel has none, and Lacking says so.
//
// Become returns only if it failed. The calling thread may then have another
// identity than the rest of the process, and a filter: report the error and exit.
func Become(role Role, sandbox string, who conf.ID, program Program, gifts sockets.Gifts) error {
	row, err := profileOf(role)
	if err != nil {
		return err
	}
	if alone, err := conf.OneID(); who.UID == 0 && (err != nil || !alone) {
		return fmt.Errorf("jail: %s: uid 0 is nobody's", role)
	}
	runtime.LockOSThread()
	// A collection ends with a look at the runtime's poller, by its number, and in this thread's table
	// that is soon a gift's: from here on there is none. Only execve follows.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(math.MaxInt64)
	if err := program.place(gifts); err != nil {
		return fmt.Errorf("jail: %s: gifts: %w", role, err)
	}
	e := entrance{who: who, program: program.FD, root: program.Root, gifts: placed(gifts), lenient: sandbox == bestEffort}
	for _, layer := range kept(row.door) {
		if err := layer.pass(e); err != nil {
			return fmt.Errorf("jail: %s: %s: %w", role, layer.name, err)
		}
	}
	return fmt.Errorf("jail: %s: execute %s: %w", role, program.Argv[0], program.execute())
}

// Seal is the first statement of a child's main. It gives away what only the
// process itself can, and fails when the process has uid 0, holds a capability
// or could gain one: then it did not come through the door and must not run.
func Seal(role Role) error {
	row, err := profileOf(role)
	if err != nil {
		return err
	}
	return passAll(role, row.seal, entrance{})
}

// Confine is the last statement of a child's main before it meets strangers: from here on
// it can do what it does all day, and none of what took to get here.
//
// What stays of its gifts matters where that is a folder: it may go on writing there.
func Confine(role Role, stays ...sockets.Gift) error {
	row, err := profileOf(role)
	if err != nil {
		return err
	}
	return passAll(role, row.confine, entrance{gifts: stays})
}

// Ways are how a core comes to its apps, and by what else it sends.
type Ways struct {
	Connects bool // by itself
	Dialer   int  // by this link to the dialer; 0: there is none

	Slots []int // its UDP sockets; none without HTTP/3
}

// ConfineCore is Confine for a core: it keeps the calls that its ways take.
func ConfineCore(by Ways) error {
	set := inCore
	if by.Connects {
		set |= inConnect
	}
	if by.Dialer != 0 {
		set |= inTake
	}
	if len(by.Slots) > 0 {
		set |= inQUIC
	}
	layers := []layer{{seccompPrefix + set.String(), filterProcess(set)}}
	return passAll(Core, layers, entrance{dialer: by.Dialer, slots: by.Slots})
}

// passAll passes layers behind the door.
func passAll(role Role, layers []layer, e entrance) error {
	for _, layer := range kept(layers) {
		if err := layer.pass(e); err != nil {
			return fmt.Errorf("jail: %s: %s: %w", role, layer.name, err)
		}
	}
	return nil
}

// bestEffort is the sandbox of a plan that does not demand what the kernel does not have.
const bestEffort = "best-effort"

// place gives this thread a descriptor table of its own in which 0 is /dev/null,
// 1 is stdout, the gifts follow stderr, and everything else closes on exec. The
// descriptor of the program is another afterwards.
//
// The copy matters: other threads go on polling descriptors that the gifts
// overwrite here.
func (p *Program) place(gifts sockets.Gifts) error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	places := []sockets.Gift{{Name: "stdin", FD: null}, {Name: "stdout", FD: null}, {Name: "stderr", FD: 2}}
	if p.Stdout != 0 {
		places[1].FD = p.Stdout
	}
	places = append(places, gifts...)

	// First everything out of the way, then each to its place: a gift may stand
	// where another belongs.
	if p.Path == "" {
		if p.FD, err = aside(p.FD, len(places)); err != nil {
			return fmt.Errorf("executable: %w", err)
		}
	}
	if p.Root != 0 {
		if p.Root, err = aside(p.Root, len(places)); err != nil {
			return fmt.Errorf("root: %w", err)
		}
	}
	for i, gift := range places {
		if places[i].FD, err = aside(gift.FD, len(places)); err != nil {
			return fmt.Errorf("%s: %w", gift.Name, err)
		}
	}
	for i, gift := range places {
		if err := unix.Dup3(gift.FD, i, 0); err != nil {
			return fmt.Errorf("%s: %w", gift.Name, err)
		}
	}
	if err := unix.CloseRange(uint(len(places)), ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	return nil
}

// placed are the gifts where place has put them.
func placed(gifts sockets.Gifts) sockets.Gifts {
	there := slices.Clone(gifts)
	for i := range there {
		there[i].FD = sockets.FirstGift + i
	}
	return there
}

// aside copies fd to a number that is no gift's place.
func aside(fd, places int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, places)
}

// environment returns what passes the door: settings of Go's runtime that an
// operator may have made. Nothing of ours is told by environment.
func environment(all []string) []string {
	kept := []string{}
	for _, entry := range all {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GORACE", "GOCOVERDIR":
			kept = append(kept, entry)
		}
	}
	return kept
}

// execute puts the program in the place of this one. It returns only if it failed.
func (p *Program) execute() error {
	env := p.Env
	if env == nil {
		env = environment(os.Environ())
	}
	if p.Path == "" {
		return executeFile(p.FD, p.Argv, env)
	}
	// What is ignored stays so over execve(2), and SIGPIPE is by our main; what is
	// caught is at its default afterwards.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	return syscall.Exec(p.Path, p.Argv, env) // which puts the limit back that the runtime raised
}

// executeFile is execveat(2) on a descriptor: "If pathname is an empty string and
// the AT_EMPTY_PATH flag is specified, then the file descriptor dirfd specifies
// the file to be executed". It returns only if it failed.
func executeFile(exe int, argv, env []string) error {
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
