package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file starts the scribe, opens what it writes to, and keeps it alive: boot the first
// time, the main warden afterwards.

// A scribeDuty is what the main warden knows of the scribe; nil where stderr is the log.
type scribeDuty struct {
	PID  int // of the one that boot has started
	Form conf.LogForm
	Host string
	Path string // of a file
}

// Gifts of the main warden for the scribe.
const (
	scribeLines  = "scribe-lines"
	scribeTarget = "scribe-target"
	scribeStderr = "scribe-stderr"
	scribeOrders = "scribe-orders"
	scribeFolder = jail.LogFolder
)

// A scribeWard is the scribe as its warden sees it.
type scribeWard struct {
	duty    *scribeDuty // nil: there is none
	pid     int         // 0 while it does not run
	lines   int         // what all others write to their stderr
	target  int
	stderr  int // of the start
	orders  int // our end
	folder  int // of a file; -1 for other forms
	program int
	pace    pace
	began   time.Time
	due     time.Time
}

// openLog opens the target of the log, and starts the scribe. From then on stderr is the log.
func (b *boot) openLog() []conf.Mistake {
	target := b.Plan.LogTarget
	if target == nil {
		return nil
	}
	s := &scribeWard{folder: -1, duty: &scribeDuty{Form: target.Form, Path: target.Address}}
	err := s.open(b.Plan, target)
	if err != nil {
		mistake := conf.Mistake{Place: target.Where, What: err.Error()}
		var wrong *fileError
		if errors.As(err, &wrong) {
			mistake.Hint = wrong.hint
		}
		return []conf.Mistake{mistake}
	}
	if s.duty.Host, err = os.Hostname(); err != nil || s.duty.Host == "" {
		s.duty.Host = "-" // "NILVALUE", RFC 5424
	}
	var pipe [2]int
	err = unix.Pipe2(pipe[:], unix.O_CLOEXEC)
	if err == nil {
		s.lines = pipe[0]
		s.stderr, err = unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	}
	if err == nil {
		s.program, err = openProgram(selfPath)
	}
	if err == nil {
		err = s.start(b.Plan.Sandbox, b.Plan.Users.Core)
	}
	if err == nil {
		err = unix.Dup3(pipe[1], 2, 0)
	}
	if err != nil {
		return []conf.Mistake{{Place: target.Where, What: err.Error()}}
	}
	unix.Close(pipe[1])
	b.scribe, b.log = s, newLog(os.Stderr)
	return nil
}

// open opens the target.
func (s *scribeWard) open(plan *conf.Plan, target *conf.LogTarget) (err error) {
	switch target.Form {
	case conf.LogFile:
		return s.openFile(plan, target.Address)
	case conf.LogUnix:
		s.target, err = sockets.DialDatagram("unix:" + target.Address)
	default:
		s.target, err = sockets.DialDatagram(target.Address)
	}
	return err
}

const logFlags = unix.O_WRONLY | unix.O_APPEND | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_CLOEXEC

// openFile opens a file that is made if it is missing, and the folder that it is in. Where
// the core is another user, that one must not be able to put another file there.
func (s *scribeWard) openFile(plan *conf.Plan, path string) (err error) {
	folder := filepath.Dir(path)
	if s.folder, err = unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return &fileError{folder, err, "mkdir -p " + folder}
	}
	if plan.Users.Switch {
		may := false
		err := jail.As(plan.Users.Core, func() {
			may = unix.Faccessat(unix.AT_FDCWD, folder, unix.W_OK, unix.AT_EACCESS) == nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
		if may {
			return &fileError{folder, fmt.Errorf("may be written by the core, uid %d", plan.Users.Core.UID), "chown root " + folder + " && chmod go-w " + folder}
		}
	}
	fd, err := unix.Openat(s.folder, filepath.Base(path), logFlags|unix.O_CREAT, 0o640)
	if err != nil {
		return &fileError{path, err, "name a file in a folder where " + fmt.Sprint(os.Geteuid()) + " may make one"}
	}
	s.target = fd
	return regular(fd, path)
}

// regular refuses what is no file, such as a terminal or the other end of a pipe.
func regular(fd int, path string) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return &fileError{path, errors.New("is no regular file"), "remove it, or name another one"}
	}
	return nil
}

// start starts the scribe.
func (s *scribeWard) start(sandbox string, who conf.ID) error {
	mine, theirs, err := sockets.Link()
	if err != nil {
		return err
	}
	defer unix.Close(theirs)
	gifts := sockets.Gifts{{Name: "lines", FD: s.lines}, {Name: "target", FD: s.target}, {Name: "orders", FD: theirs}}
	program := jail.Program{FD: s.program, Argv: []string{"sallyport", "scribe", gifts.Names(), string(s.duty.Form), s.duty.Host, s.duty.Path}}
	// It does not die with us: the last lines are ours.
	pid, err := stage{Role: jail.Scribe, Sandbox: sandbox, Who: who, program: program, gifts: gifts, stderr: s.stderr}.start()
	if err != nil {
		unix.Close(mine)
		return err
	}
	if s.orders > 0 {
		unix.Close(s.orders)
	}
	s.pid, s.orders, s.began, s.duty.PID = pid, mine, time.Now(), pid
	return nil
}

// scribeGifts are what the main warden keeps of the scribe.
func (b *boot) scribeGifts(main *duty) sockets.Gifts {
	if b.scribe == nil {
		return nil
	}
	main.Scribe = b.scribe.duty
	gifts := sockets.Gifts{
		{Name: scribeLines, FD: b.scribe.lines},
		{Name: scribeTarget, FD: b.scribe.target},
		{Name: scribeStderr, FD: b.scribe.stderr},
		{Name: scribeOrders, FD: b.scribe.orders},
	}
	if b.scribe.folder >= 0 {
		gifts = append(gifts, sockets.Gift{Name: scribeFolder, FD: b.scribe.folder})
	}
	return gifts
}

// inheritScribe finds the scribe among what boot has left.
func (w *warden) inheritScribe(gifts sockets.Gifts) (err error) {
	if w.duty.Scribe == nil {
		return nil
	}
	s := &scribeWard{duty: w.duty.Scribe, pid: w.duty.Scribe.PID, began: time.Now(), folder: -1}
	for name, to := range map[string]*int{scribeLines: &s.lines, scribeTarget: &s.target, scribeStderr: &s.stderr, scribeOrders: &s.orders} {
		if *to, err = gifts.FD(name); err != nil {
			return err
		}
	}
	if s.duty.Form == conf.LogFile {
		if s.folder, err = gifts.FD(scribeFolder); err != nil {
			return err
		}
	}
	s.program, err = openProgram(selfPath)
	w.scribe = s
	return err
}

// tendScribe starts the scribe again. While there is none, lines wait in the pipe.
func (w *warden) tendScribe(now time.Time) {
	s := w.scribe
	if s == nil || s.pid != 0 || now.Before(s.due) {
		return
	}
	if err := s.start(w.duty.Sandbox, w.duty.Who); err != nil {
		s.due = now.Add(max(s.pace.after(0), paceFirst))
		w.log.Error("process not started", "process", "scribe", "error", err)
		return
	}
	w.before[s.pid] = true // no orphan
}

// endScribe lets the scribe write the last lines: nobody is left to write more but this
// process. A supervisor that sees it end may kill what else there is.
func (w *warden) endScribe() {
	if w.scribe == nil || w.scribe.pid == 0 {
		return
	}
	null, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil || unix.Dup3(null, 2, 0) != nil {
		return // it will see our end
	}
	ended := make(chan error, 1)
	go waitFor(w.scribe.pid, ended)
	select {
	case <-ended:
	case <-time.After(flushTime):
	}
}

// waitFor waits for a child, and ends with this process at the latest.
func waitFor(pid int, ended chan<- error) {
	_, err := unix.Wait4(pid, nil, 0, nil)
	ended <- err
}

// scribeDied notes the end of the scribe, and reports whether it was that.
func (w *warden) scribeDied(pid int, status unix.WaitStatus, now time.Time) bool {
	s := w.scribe
	if s == nil || pid != s.pid {
		return false
	}
	s.pid = 0
	delete(w.before, pid)
	wait := s.pace.after(now.Sub(s.began))
	s.due = now.Add(wait)
	w.log.Error("process died", append(fate(status), "process", "scribe", "pid", pid, "restart_in", wait.String())...)
	return true
}

// accountOf is the name of an id, or its number.
func accountOf(who conf.ID) string {
	if who.Name != "" {
		return who.Name
	}
	return strconv.Itoa(who.UID)
}

// reopenLog opens the file of the log anew, which something has renamed, and gives it to the
// scribe. It reports whether there is one.
func (w *warden) reopenLog() bool {
	s := w.scribe
	if s == nil || s.folder < 0 {
		return false
	}
	// Not made if it is missing: who this is now must not be able to.
	fd, err := unix.Openat(s.folder, filepath.Base(s.duty.Path), logFlags, 0)
	if err == nil {
		err = regular(fd, s.duty.Path)
	}
	if err == nil {
		err = sockets.Send(s.orders, []byte("target"), fd)
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		w.log.Error("log not reopened", "file", s.duty.Path, "error", err,
			"hint", fmt.Sprintf("it must be there, and uid %d may write to it: logrotate: create 0640 %s", w.duty.Who.UID, accountOf(w.duty.Who)))
		return true
	}
	unix.Close(s.target)
	s.target = fd
	w.log.Info("log reopened", "file", s.duty.Path)
	return true
}
