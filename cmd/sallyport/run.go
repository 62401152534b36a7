package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

// runCommand is boot from its first step to its last, which turns this process
// into the main warden. It returns only if it failed.
func runCommand(args []string) int {
	flags, path := newFlags("run")
	readyFD := flags.Int("ready-fd", -1, "")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	if err := keepReadyFD(*readyFD); err != nil {
		fmt.Fprintf(os.Stderr, "sallyport run: %v\n", err)
		return exitUsage
	}
	a := consult(inquiry{Command: "run", Path: *path})
	if len(a.Mistakes) > 0 {
		return complain(a.Mistakes)
	}
	a.ReadyFD = *readyFD
	return begin(a)
}

// keepReadyFD keeps the descriptor of --ready-fd, if there is one, to ourselves.
func keepReadyFD(fd int) error {
	if fd < 0 {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return fmt.Errorf("--ready-fd %d: %w", fd, err)
	}
	return nil
}

// begin is boot with a plan. It returns only if it failed.
func begin(a answer) int {
	runtime.LockOSThread() // what the fork begins, the execve of the same thread ends
	log := newLog(os.Stderr)
	if err := shutTerminals(); err != nil {
		log.Warn("terminal open to every process of ours", "error", err, "hint", "log to a file or a pipe")
	}
	given, err := sockets.TakeGiven(os.Getenv)
	if err != nil {
		log.Error("boot failed", "error", err)
		return exitMistake
	}
	b := &boot{answer: a, log: log}
	mistakes := slices.Concat(checkIDs(a.IDs), limitFiles(a.Plan), a.Unfit,
		b.bind(given), b.openSpools(), b.makeApps(), b.openFiles(), b.openAuthority(), b.openIssuance())
	if len(mistakes) == 0 {
		mistakes = append(b.writePID(), b.openLog()...)
	}
	if len(mistakes) > 0 {
		return complain(mistakes)
	}
	log = b.log
	for _, name := range given.Discard() {
		log.Warn("inherited socket closed", "name", name, "reason", "no listener has its name or address")
	}
	b.openControl()
	b.openNotify()
	if a.ReadyFD >= 0 {
		b.links = append(b.links, sockets.Gift{Name: "announce", FD: a.ReadyFD})
	}
	logFailure(log, "boot failed", b.launch())
	return exitMistake
}

// shutTerminals takes the right to read from the terminals on stdout and stderr,
// which all our processes and the app inherit: what is typed there, a password or
// the next command, is for the shell alone.
func shutTerminals() error {
	for fd := 1; fd <= 2; fd++ {
		if !isTerminal(fd) {
			continue
		}
		again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Dup3(again, fd, 0)
		unix.Close(again)
		if err != nil {
			return err
		}
	}
	return nil
}

// logNotices logs what the plan has to say at every start.
func logNotices(log *slog.Logger, notices []conf.Mistake) {
	for _, notice := range notices {
		log.Info("configuration noticed", "file", notice.File, "line", notice.Line, "key", notice.Key,
			"what", notice.What, "hint", notice.Hint)
	}
}

// mistakeOf is what was in the way of something that the configuration has at a place, as
// the operator reads it: errors that know how they are mended say it.
func mistakeOf(where conf.Place, err error) conf.Mistake {
	var explained interface {
		error
		Hint() string
	}
	if errors.As(err, &explained) {
		return conf.Mistake{Place: where, What: explained.Error(), Hint: explained.Hint()}
	}
	return conf.Mistake{Place: where, What: err.Error()}
}
