package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// A stage is the step between two programs: a child of this program, forked by
// boot or by a warden, that goes through the jail's door and comes out as the
// program of its role, under the same pid.
//
//	sallyport stage GIFTS STAGE PATH PROGRAM-ARGUMENTS...
//
// STAGE is the first three of it, as JSON.
// The gift "stage-program" is what it executes, unless there is a PATH, "stage-stdout"
// what the program writes to, and "stage-root" its root; the others are the program's.
type stage struct {
	Role    jail.Role
	Sandbox string // of the plan
	Who     conf.ID

	program jail.Program
	gifts   sockets.Gifts
	stderr  int  // 0: that of who starts it
	dies    bool // with the thread that starts it
}

// selfPath is this program. Neither a private folder nor a new version on the
// disk matters to that link, which a process may follow even when it is not dumpable.
const selfPath = "/proc/self/exe"

// start forks the stage and returns its pid, which the program keeps.
//
// Its session is its own, as that of a daemon. So Ctrl-C is for the main warden,
// which lets cores finish first, and a terminal is nothing that a core could type
// into: TIOCSTI is for the terminal that controls a session, TIOCSTI(2const).
func (s stage) start() (pid int, err error) {
	text, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	gifts := slices.Clone(s.gifts)
	for name, fd := range s.own() {
		if *fd != 0 {
			gifts = append(gifts, sockets.Gift{Name: name, FD: *fd})
		}
	}
	files := []uintptr{0, 1, 2}
	if s.stderr != 0 {
		files[2] = uintptr(s.stderr)
	}
	for _, gift := range gifts {
		files = append(files, uintptr(gift.FD))
	}
	argv := append([]string{"sallyport", "stage", gifts.Names(), string(text), s.program.Path}, s.program.Argv...)
	attr := &syscall.ProcAttr{Files: files, Env: s.program.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	if attr.Env == nil {
		attr.Env = os.Environ()
	}
	if s.program.Root != 0 { // to enter it takes a capability, which is had in a namespace alone
		attr.Sys.Cloneflags = unix.CLONE_NEWUSER
		attr.Sys.AmbientCaps = jail.RootCapabilities()
	}
	if s.dies {
		attr.Sys.Pdeathsig = unix.SIGKILL
	}
	pid, err = syscall.ForkExec(selfPath, argv, attr)
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", s.program.Argv[0], err)
	}
	return pid, nil
}

// endOf waits for the end of a child that is to end soon.
func endOf(pid int) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			return status, err
		}
	}
}

// own are the gifts that are not the program's.
func (s *stage) own() map[string]*int {
	return map[string]*int{"stage-program": &s.program.FD, "stage-stdout": &s.program.Stdout, "stage-root": &s.program.Root}
}

// stageCommand is the stage's whole life. It returns only if it failed.
func stageCommand(args []string) int {
	s, err := parseStage(args)
	if err == nil {
		switch s.Role {
		case jail.AppWarden:
			s.program.Env = os.Environ() // of which it makes that of the app
		case jail.App:
			// "sd_listen_fds ... checks whether the $LISTEN_PID environment variable
			// equals the daemon PID": which is ours, and stays the same over execve.
			s.program.Env = append(os.Environ(), "LISTEN_PID="+strconv.Itoa(os.Getpid()))
		}
		err = jail.Become(s.Role, s.Sandbox, s.Who, s.program, s.gifts)
	}
	logFailure(newLog(os.Stderr), "stage failed", err)
	return exitMistake
}

// logFailure says why the door did not let this process through, and what to do about it.
func logFailure(log *slog.Logger, message string, err error) {
	switch {
	case errors.Is(err, jail.ErrSeccomp) && errors.Is(err, unix.EPERM):
		log = log.With("hint", "what sallyport runs in forbids it to confine itself: add seccomp and landlock_* to SystemCallFilter= of its unit")
	case errors.Is(err, jail.ErrSeccomp):
		log = log.With("hint", "this kernel has no seccomp filters; sandbox = \"best-effort\" goes without, and says so at every start")
	case errors.Is(err, unix.EACCES) && !jail.Off():
		log = log.With("hint", "programs of ours are static, because the jail has no libraries: build them by make, or with CGO_ENABLED=0")
	case errors.Is(err, unix.EPERM):
		log = log.With("hint", "only root may change users, and root in a container only with CAP_SETUID and CAP_SETGID")
	}
	log.Error(message, "error", err)
}

// parseStage reads the arguments that start wrote, and finds the gifts: the program checks their
// names, and the door that they are open.
func parseStage(args []string) (stage, error) {
	if len(args) < 4 {
		return stage{}, errors.New("stage: is started by sallyport run, not by hand")
	}
	s := stage{program: jail.Program{Path: args[2], Argv: args[3:]}}
	if err := json.Unmarshal([]byte(args[1]), &s); err != nil {
		return stage{}, fmt.Errorf("stage: %w", err)
	}
	own := s.own()
	for i, name := range strings.Split(args[0], ",") {
		if fd := own[name]; fd != nil {
			*fd = sockets.FirstGift + i
		} else {
			s.gifts = append(s.gifts, sockets.Gift{Name: name, FD: sockets.FirstGift + i})
		}
	}
	if s.program.Path == "" && s.program.FD == 0 {
		return stage{}, errors.New("stage: has no program")
	}
	return s, nil
}
