package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file is what a command has to do with the configuration while it may be root: open
// it, and ask a planner what it says. The planner, in planning.go, has no privilege and
// no way to any file. It is given open files and a few facts, may ask what stat(2) says of
// a path, and writes its answer into memory.

// An inquiry is what a planner is told, in sealed memory.
type inquiry struct {
	Command    string     // "serve", or whatever needs the configuration
	Words      conf.Words // of serve: its arguments
	Path       string     // of the configuration, as -c names it
	UID, GID   int        // of whoever asks
	OneID      bool       // there is no other in this user namespace, and UID is no root
	Folder     string
	Real       string // Folder without links
	Env        map[string]string
	Processors int
	Status     []byte // proc_pid_status(5) of who asks
	Maps       []byte // proc_pid_uid_map(5)
	Source     conf.Source
	Unread     map[string]unix.Errno // account files that could not be opened
	Said       []byte                // by the service that is to be reloaded, of its plan, which is the gift "running"
	Ours       bool                  // who asks is who has made the control socket, by whatever number it is known there

	given sockets.Gifts // what it is given beside what gather opens
}

// An answer is a plan, or mistakes.
type answer struct {
	Plan      *conf.Plan
	Mistakes  []conf.Mistake
	Unfit     []conf.Mistake    // what the limits of this process do not allow of the plan
	IDs       []fixedID         // that nobody else may have
	Main      duty              // of the main warden, as far as it is in the plan
	Files     []keeperFile      // what the keeper is to have
	Account   []keeperFile      // what the registrar is to have
	Public    bool              // its CA is: see isPublic
	Entries   [][]byte          // for the folders of plan.Managed
	Control   string            // where the control socket is by default
	Refused   string            // why the arguments of serve, or a reload, are
	Keeper    bool              // there is one
	Version   string            // of this sallyport, for the next reload
	Addresses []sockets.Address // to bind, as the listeners of Main
	Targets   []dialTarget      // all sockets of apps
	Folders   []string          // of these, to which the way may be closed: the gifts folder0, folder1, ...
	Spools    int               // files that are to be made for bodies
	Authority bool              // the keeper has yet to be given the internal CA's files

	// Of a reload. Listeners that have an address in Main are bound, and are to stay so.

	Notices []conf.Mistake // those of the plan that are new
	Closed  []string       // which listeners will be, for people
	InUse   string         // a hint about addresses that are; "" without
	ReadyFD int            // of serve; -1 without
}

// Bounds of what a planner may ask, and of its answer: that has the parts of core and
// keeper, of 16 MiB at most, in it.
const (
	looksMax       = 1 << 16
	answerBytesMax = 32 << 20
)

// plannerID is whom planners run as where root asks: in none of systemd's ranges, and
// nobody else's. Root acts on a planner's word, and who has its user could change that
// between its execve and Seal.
const plannerID = 60581

// load makes the plan of the configuration at path.
func load(path string) (*conf.Plan, []conf.Mistake) {
	a := consult(inquiry{Command: "load", Path: path})
	return a.Plan, a.Mistakes
}

// consult asks a planner. No answer is a mistake.
func consult(q inquiry) answer {
	a := answer{ReadyFD: -1}
	if err := q.ask(&a); err != nil {
		return answer{Mistakes: []conf.Mistake{{What: "the configuration was not read: " + err.Error()}}, ReadyFD: -1}
	}
	return a
}

// ask starts a planner, helps it, and reads its answer.
func (q *inquiry) ask(a *answer) error {
	who := conf.ID{UID: os.Getuid(), GID: os.Getgid()}
	alone, err := conf.OneID()
	if err != nil {
		return fmt.Errorf("find the ids of this namespace: %w", err)
	}
	if q.UID, q.GID, q.OneID = who.UID, who.GID, alone; who.UID == 0 && !alone {
		if wrong := checkIDs([]fixedID{{ID: plannerID}}); len(wrong) > 0 {
			return wrong[0]
		}
		who = conf.ID{UID: plannerID, GID: plannerID}
	}
	gifts, gatherErr := q.gather()
	mine, theirs, linkErr := sockets.Link()
	memory, memoryErr := unix.MemfdCreate("answer", unix.MFD_CLOEXEC)
	self, selfErr := openProgram(selfPath)
	if err := errors.Join(gatherErr, linkErr, memoryErr, selfErr); err != nil {
		return err
	}
	gifts = append(gifts, sockets.Gift{Name: "looks", FD: theirs}, sockets.Gift{Name: "answer", FD: memory})
	program := jail.Program{FD: self, Argv: []string{"sallyport", "planner", gifts.Names()}}
	pid, err := stage{Role: jail.Planner, Sandbox: "best-effort", Who: who, program: program, gifts: gifts, dies: true}.start()
	unix.Close(theirs) // what else is open ends with the next program
	if err != nil {
		return err
	}
	answerLooks(mine)
	if end, err := endOf(pid); err != nil || end != 0 {
		return fmt.Errorf("process %d ended with status %#x, %v", pid, uint32(end), err)
	}
	return json.NewDecoder(io.NewSectionReader(os.NewFile(uintptr(memory), "answer"), 0, answerBytesMax)).Decode(a)
}

// gather opens what the planner reads, and says the rest in the gift "question".
func (q *inquiry) gather() (gifts sockets.Gifts, err error) {
	if q.Folder, err = os.Getwd(); err != nil {
		return nil, err
	}
	q.Real, _ = os.Readlink("/proc/self/cwd") // "" is nobody's
	q.Env, q.Unread, q.Processors = map[string]string{}, map[string]unix.Errno{}, runtime.GOMAXPROCS(0)
	q.Status, _ = os.ReadFile("/proc/self/status") // without /proc there is nothing to speak of
	q.Maps, _ = os.ReadFile("/proc/self/uid_map")
	for _, name := range conf.Variables() {
		q.Env[name] = os.Getenv(name)
	}
	gifts = q.given
	for _, path := range conf.AccountFiles() {
		var errno unix.Errno
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.As(err, &errno) {
			q.Unread[path] = errno
			continue
		}
		gifts = append(gifts, sockets.Gift{Name: filepath.Base(path), FD: fd})
	}
	if q.Path != "" {
		q.Source = conf.Open(q.Path)
		for _, gift := range []sockets.Gift{{Name: "text", FD: q.Source.Text}, {Name: "folder", FD: q.Source.Folder}, {Name: "origin", FD: q.Source.Origin}} {
			if gift.FD >= 0 {
				gifts = append(gifts, gift)
			}
		}
	}
	sealed, err := sealJSON("question", q)
	return append(gifts, sockets.Gift{Name: "question", FD: sealed}), err
}

// answerLooks tells a planner what stat(2) says of paths, until it asks no more.
func answerLooks(link int) {
	path := make([]byte, unix.PathMax)
	for range looksMax {
		n, err := unix.Read(link, path)
		if err != nil || n == 0 {
			return
		}
		var stat unix.Stat_t
		var errno unix.Errno
		errors.As(unix.Stat(string(path[:n]), &stat), &errno)
		facts, _ := binary.Append(nil, binary.LittleEndian, []uint32{uint32(errno), stat.Mode, stat.Uid, stat.Gid}) // numbers
		_, _ = unix.Write(link, facts)                                                                              // if it is gone, the next read says so
	}
}
