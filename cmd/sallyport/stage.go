package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
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
//	sallyport stage ROLE UID GID GIFTS PROGRAM-ARGUMENTS...
//
// Its last gift, "stage-program", is what it executes; the others are for that.
type stage struct {
	role    jail.Role
	who     conf.ID
	program int      // descriptor
	argv    []string // of the program
	gifts   sockets.Gifts
	dies    bool // with the thread that starts it
}

// start forks the stage and returns its pid, which the program keeps.
//
// The stage is /proc/self/exe, so that neither a private folder nor a new
// version on the disk matters; a process may follow that link even when it is
// not dumpable. Its process group is its own: Ctrl-C is for the main warden,
// which lets cores finish first.
func (s stage) start() (pid int, err error) {
	gifts := append(s.gifts[:len(s.gifts):len(s.gifts)], sockets.Gift{Name: "stage-program", FD: s.program})
	files := []uintptr{0, 1, 2}
	for _, gift := range gifts {
		files = append(files, uintptr(gift.FD))
	}
	argv := append([]string{
		"sallyport", "stage",
		string(s.role), strconv.Itoa(s.who.UID), strconv.Itoa(s.who.GID), gifts.Names(),
	}, s.argv...)
	attr := &syscall.ProcAttr{Files: files, Env: os.Environ(), Sys: &syscall.SysProcAttr{Setpgid: true}}
	if s.dies {
		attr.Sys.Pdeathsig = unix.SIGKILL
	}
	pid, err = syscall.ForkExec("/proc/self/exe", argv, attr)
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", s.argv[0], err)
	}
	return pid, nil
}

// stageCommand is the stage's whole life. It returns only if it failed.
func stageCommand(args []string) int {
	s, err := parseStage(args)
	if err == nil {
		err = jail.Become(s.role, s.who, s.program, s.argv, s.gifts)
	}
	log := newLog()
	if errors.Is(err, unix.EPERM) {
		log = log.With("hint", "only root may change users, and root in a container only with CAP_SETUID and CAP_SETGID")
	}
	log.Error("stage failed", "error", err)
	return exitMistake
}

// parseStage reads the arguments that start wrote, and takes the gifts.
func parseStage(args []string) (stage, error) {
	if len(args) < 5 {
		return stage{}, errors.New("stage: is started by sallyport run, not by hand")
	}
	uid, uidErr := strconv.Atoi(args[1])
	gid, gidErr := strconv.Atoi(args[2])
	if err := errors.Join(uidErr, gidErr); err != nil {
		return stage{}, fmt.Errorf("stage: identity: %w", err)
	}
	gifts, err := sockets.TakeGifts(args[3])
	if err != nil {
		return stage{}, fmt.Errorf("stage: %w", err)
	}
	program, err := gifts.FD("stage-program")
	if err != nil {
		return stage{}, fmt.Errorf("stage: %w", err)
	}
	return stage{
		role:    jail.Role(args[0]),
		who:     conf.ID{UID: uid, GID: gid},
		program: program,
		argv:    args[4:],
		gifts:   gifts[:len(gifts)-1],
	}, nil
}
