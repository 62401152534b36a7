package jail

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An Errand is a list of system calls that a forked child makes in other namespaces, one
// after the other until one fails. It shares the table of descriptors with its parent.
//
// It exists because only a process with a single thread may enter a user namespace,
// setns(2), and no program of Go's has a single one: the child is a fork(2) of one thread,
// which makes raw calls and ends. It touches no memory but its copy of the list, so
// that the runtime, of which it has one thread, is not asked for anything.
type Errand struct {
	calls []rawCall
	kept  [][]byte // what the kernel is given pointers to
}

// A rawCall is one of them.
type rawCall struct {
	what      string
	number    uintptr
	arguments [6]uintptr
	last      bool // the first argument is the result of the last call that Opens
	opens     bool // the result is a descriptor
}

// An ErrandError is a call that failed.
type ErrandError struct {
	What  string
	Index int // of the call, in the order in which they were added; -1: the child was not forked
	Errno unix.Errno
}

func (e *ErrandError) Error() string { return e.What + ": " + e.Errno.Error() }

// Unwrap returns the errno.
func (e *ErrandError) Unwrap() error { return e.Errno }

// opensMax is how many descriptors an errand may return.
const opensMax = 8

// An errandReport is what the child has to say.
type errandReport struct {
	failed int32 // index of the call; -1: none
	errno  int32
	opened int32
	fds    [opensMax]int32
}

// Text keeps a string for the kernel.
func (e *Errand) Text(s string) uintptr {
	b := append([]byte(s), 0)
	e.kept = append(e.kept, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// Do adds a call.
func (e *Errand) Do(what string, number uintptr, arguments ...uintptr) {
	c := rawCall{what: what, number: number}
	copy(c.arguments[:], arguments)
	e.calls = append(e.calls, c)
}

// Open adds the opening of a file; Run returns the descriptor.
func (e *Errand) Open(path string, flags int) {
	here := unix.AT_FDCWD
	e.Do("open "+path, unix.SYS_OPENAT, uintptr(here), e.Text(path), uintptr(flags|unix.O_CLOEXEC))
	e.calls[len(e.calls)-1].opens = true
}

// Write adds the writing of a small file, such as those of /proc. Its descriptor is
// returned too.
func (e *Errand) Write(path, text string) {
	e.Open(path, unix.O_WRONLY)
	e.Do("write "+path, unix.SYS_WRITE, 0, e.Text(text), uintptr(len(text)))
	e.calls[len(e.calls)-1].last = true
}

// Run has the child make the calls, and waits for it. flags are those of clone(2), of
// namespaces that the child is to begin in. The descriptors that the calls have opened are
// the caller's, also after an *ErrandError.
func (e *Errand) Run(flags int) (opened []int, err error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("jail: errand: %w", err)
	}
	defer unix.Close(pipe[0])
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, errno := forkErrand(uintptr(flags|unix.CLONE_FILES)|uintptr(unix.SIGCHLD), e.calls, uintptr(pipe[1]))
	if errno != 0 {
		unix.Close(pipe[1])
		return nil, &ErrandError{"fork", -1, errno}
	}
	wait(pid)
	unix.Close(pipe[1]) // and not before: the child has the same table
	runtime.KeepAlive(e)
	return e.result(pipe[0])
}

// wait waits for the end of a child.
func wait(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// result is what the child has said.
func (e *Errand) result(pipe int) (opened []int, err error) {
	var r errandReport
	n, err := unix.Read(pipe, unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)))
	if err != nil || n != int(unsafe.Sizeof(r)) {
		return nil, fmt.Errorf("jail: errand: no report: %w", errors.Join(err, os.ErrClosed))
	}
	for _, fd := range r.fds[:r.opened] {
		opened = append(opened, int(fd))
	}
	if r.failed >= 0 {
		return opened, &ErrandError{e.calls[r.failed].what, int(r.failed), unix.Errno(r.errno)}
	}
	return opened, nil
}

// forkErrand forks, and is the child's whole life. Its frame is grown before the fork, and
// the child calls nothing that could grow it again.
//
//go:norace
//go:noinline
func forkErrand(flags uintptr, calls []rawCall, report uintptr) (pid int, errno unix.Errno) {
	var r errandReport
	r.failed = -1
	var last uintptr
	child, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	if errno != 0 || child != 0 {
		return int(child), errno
	}
	for i := range calls {
		c := &calls[i]
		if c.last {
			c.arguments[0] = last
		}
		result, _, errno := unix.RawSyscall6(c.number, c.arguments[0], c.arguments[1], c.arguments[2], c.arguments[3], c.arguments[4], c.arguments[5])
		if errno != 0 {
			r.failed, r.errno = int32(i), int32(errno)
			break
		}
		if c.opens {
			last = result
			if r.opened < opensMax {
				r.fds[r.opened] = int32(result)
				r.opened++
			}
		}
	}
	unix.RawSyscall(unix.SYS_WRITE, report, uintptr(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
