package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
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
//	sallyport stage ROLE SANDBOX UID GID[,GROUP...] GIFTS PATH PROGRAM-ARGUMENTS...
//
// The gift "stage-program" is what it executes, unless there is a PATH, "stage-stdout"
// what the program writes to, and "stage-root" its root; the others are the program's.
type stage struct {
	role    jail.Role
	sandbox string // of the plan
	who     conf.ID
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
	gifts := s.gifts[:len(s.gifts):len(s.gifts)]
	if s.program.Path == "" {
		gifts = append(gifts, sockets.Gift{Name: "stage-program", FD: s.program.FD})
	}
	if s.program.Stdout != 0 {
		gifts = append(gifts, sockets.Gift{Name: "stage-stdout", FD: s.program.Stdout})
	}
	if s.program.Root != 0 {
		gifts = append(gifts, sockets.Gift{Name: "stage-root", FD: s.program.Root})
	}
	files := []uintptr{0, 1, 2}
	if s.stderr != 0 {
		files[2] = uintptr(s.stderr)
	}
	for _, gift := range gifts {
		files = append(files, uintptr(gift.FD))
	}
	argv := append([]string{
		"sallyport", "stage",
		string(s.role), s.sandbox, strconv.Itoa(s.who.UID), groupList(s.who), gifts.Names(), s.program.Path,
	}, s.program.Argv...)
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

// groupList is the gid and then the supplementary groups: "33,33,27".
func groupList(who conf.ID) string {
	list := strconv.Itoa(who.GID)
	for _, group := range who.Groups {
		list += "," + strconv.Itoa(group)
	}
	return list
}

// stageCommand is the stage's whole life. It returns only if it failed.
func stageCommand(args []string) int {
	s, err := parseStage(args)
	if err == nil {
		switch s.role {
		case jail.AppWarden:
			s.program.Env = os.Environ() // of which it makes that of the app
		case jail.App:
			// "sd_listen_fds ... checks whether the $LISTEN_PID environment variable
			// equals the daemon PID": which is ours, and stays the same over execve.
			s.program.Env = append(os.Environ(), "LISTEN_PID="+strconv.Itoa(os.Getpid()))
		}
		err = jail.Become(s.role, s.sandbox, s.who, s.program, s.gifts)
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

// parseStage reads the arguments that start wrote, and takes the gifts.
func parseStage(args []string) (stage, error) {
	if len(args) < 7 {
		return stage{}, errors.New("stage: is started by sallyport run, not by hand")
	}
	who, err := parseID(args[2], args[3])
	if err != nil {
		return stage{}, fmt.Errorf("stage: identity: %w", err)
	}
	gifts, err := sockets.TakeGifts(args[4])
	if err != nil {
		return stage{}, fmt.Errorf("stage: %w", err)
	}
	s := stage{role: jail.Role(args[0]), sandbox: args[1], who: who, program: jail.Program{Path: args[5], Argv: args[6:]}}
	for _, gift := range gifts {
		switch gift.Name {
		case "stage-program":
			s.program.FD = gift.FD
		case "stage-stdout":
			s.program.Stdout = gift.FD
		case "stage-root":
			s.program.Root = gift.FD
		default:
			s.gifts = append(s.gifts, gift)
		}
	}
	if s.program.Path == "" && s.program.FD == 0 {
		return stage{}, errors.New("stage: has no program")
	}
	return s, nil
}

// parseID reads an identity as start writes it.
func parseID(uid, groups string) (who conf.ID, err error) {
	if who.UID, err = strconv.Atoi(uid); err != nil {
		return conf.ID{}, err
	}
	for i, text := range strings.Split(groups, ",") {
		gid, err := strconv.Atoi(text)
		if err != nil {
			return conf.ID{}, err
		}
		if i == 0 {
			who.GID = gid
		} else {
			who.Groups = append(who.Groups, gid)
		}
	}
	return who, nil
}
