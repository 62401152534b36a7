package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// A ward is a process that a warden keeps alive. From it the warden reads
// nothing but its death and one byte.
type ward struct {
	plan   wardPlan
	gifts  sockets.Gifts // for each start; the warden's own descriptors
	source jail.Program  // what it executes, without the arguments of a start
	pace   pace
	pid    int       // 0 while it does not run
	starts int       // so far
	began  time.Time // of this run
	due    time.Time // of the next start; zero while it runs
	proved bool      // one of its runs has been ready
	ready  bool      // this one is
	adopt  int       // our end of what a keeper takes links from; 0 of others

	// Of a core alone: see generations.go.
	estate     *estate // what it is given
	row        int     // on its ground, among all cores that live
	link       int     // that of its link to the keeper, among all cores that live
	generation int
	retired    time.Time // when another one took its place; zero before
	end        time.Time // when it is killed; since retired
	cut        bool      // it was told to cut its tunnels
}

// A pace is the back-off between a death and the next start: none after the
// first, then doubling, and forgotten once a run has lasted.
type pace struct {
	wait time.Duration // before the start after the next death
}

const (
	paceFirst = 100 * time.Millisecond
	paceMost  = 5 * time.Second
	paceReset = 10 * time.Second // a run of this length was none of a series
)

// after returns how long to wait when a run of length lived has ended.
func (p *pace) after(lived time.Duration) time.Duration {
	if lived >= paceReset {
		p.wait = 0
	}
	wait := p.wait
	p.wait = min(max(2*wait, paceFirst), paceMost)
	return wait
}

// newWard finds the descriptors that a ward is to be given.
func newWard(plan wardPlan, held sockets.Gifts) (*ward, error) {
	w := &ward{plan: plan}
	var err error
	if app := plan.App; app != nil {
		w.source = jail.Program{Path: app.Path, Argv: app.Argv, Env: appEnvironment(os.Environ(), app.User, app.Switched)}
		w.source.Stdout, err = held.FD("stdout")
	} else {
		w.source.FD, err = held.FD("program")
	}
	if err != nil {
		return nil, err
	}
	for _, p := range plan.Gifts {
		fd, err := held.FD(p.From)
		if err != nil {
			return nil, err
		}
		w.gifts = append(w.gifts, sockets.Gift{Name: p.As, FD: fd})
	}
	return w, nil
}

// A readiness is the news that the run of a ward with this pid serves.
type readiness struct {
	ward *ward
	pid  int
}

// start starts the ward. Its ready byte, if it comes, is sent to news; an app
// has none, and is ready when it has a socket: whoever connects is in the queue.
func (w *ward) start(sandbox string, who conf.ID, own sockets.Gifts, args []string, news chan<- readiness) error {
	if w.plan.App == nil {
		return w.startOurs(sandbox, who, own, args, news)
	}
	s := stage{Role: w.plan.Role, Sandbox: sandbox, Who: who, program: w.source, gifts: w.gifts, dies: true}
	pid, err := s.start()
	if err != nil {
		return err
	}
	w.pid, w.due, w.ready = pid, time.Time{}, false
	w.starts++
	return nil
}

// startOurs starts a ward that is a program of ours. own is what this start is given
// alone, and args what a core is told.
func (w *ward) startOurs(sandbox string, who conf.ID, own sockets.Gifts, args []string, news chan<- readiness) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("ready pipe: %w", err)
	}
	defer unix.Close(pipe[1])
	gifts := slices.Concat(w.gifts, own, sockets.Gifts{{Name: "ready", FD: pipe[1]}})
	program := w.source
	program.Argv = append([]string{"sallyport-" + string(w.plan.Role), "--gifts", gifts.Names()}, args...)
	if w.plan.Role == jail.Dialer { // a part of this program
		program.Argv = append([]string{"sallyport", "dialer"}, program.Argv[1:]...)
	}
	s := stage{Role: w.plan.Role, Sandbox: sandbox, Who: who, program: program, gifts: gifts, dies: true}
	pid, err := s.start()
	if err != nil && w.plan.Role == jail.Keeper && program.Root != 0 { // nobody may make namespaces
		w.source.Root, s.program.Root = 0, 0
		pid, err = s.start()
	}
	if err != nil {
		unix.Close(pipe[0])
		return err
	}
	w.pid, w.due, w.ready = pid, time.Time{}, false
	w.starts++
	go readyLoop(os.NewFile(uintptr(pipe[0]), "ready"), readiness{w, pid}, news)
	return nil
}

// readyLoop waits for one byte. It ends with the ward at the latest, because then
// nobody holds the other end.
func readyLoop(pipe *os.File, r readiness, news chan<- readiness) {
	defer pipe.Close()
	var one [1]byte
	if n, _ := pipe.Read(one[:]); n == 1 { // without a byte there is no news
		news <- r
	}
}

// farewell is the signal that asks the ward to end. That of the keeper is none that
// a supervisor sends to everybody: cores that drain need their keeper to the last.
func (w *ward) farewell() unix.Signal {
	if w.plan.Role == jail.Keeper {
		return unix.SIGUSR2
	}
	return unix.SIGTERM
}

// unasked reports whether a ward that was asked to end died of something else.
func (w *ward) unasked(status unix.WaitStatus) bool {
	return status.Signaled() && status.Signal() != w.farewell() && status.Signal() != unix.SIGTERM &&
		!(w.isRetired() && status.Signal() == unix.SIGUSR1) // which came before it could listen
}

// signal sends s to the ward if it runs. One that has just ended, and is not
// reaped yet, takes it without an error. What kills an app kills its session.
func (w *ward) signal(s unix.Signal) error {
	if w.pid == 0 {
		return nil
	}
	pid := w.pid
	if w.plan.App != nil && s == unix.SIGKILL {
		pid = -pid
	}
	if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %s to %s: %w", unix.SignalName(s), w.plan.Name, err)
	}
	return nil
}
