package main

import (
	"time"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// This file is the main warden's side of the leashes: what it does with the
// wardens of other uids, which it can neither signal nor start again.

// alone reports whether no sibling is left.
func (w *warden) alone() bool {
	for _, s := range w.duty.Siblings {
		if s.PID != 0 {
			return false
		}
	}
	return true
}

// part tells the siblings to end, now that nobody needs them.
func (w *warden) part(now time.Time) {
	w.state = parting
	if !w.hurried {
		w.deadline = now.Add(hurryingTime) // for orphans
	}
	last := now
	for i := range w.duty.Siblings {
		s := &w.duty.Siblings[i]
		if s.PID == 0 || s.hold < 0 {
			continue // it is gone, or knows
		}
		if end := now.Add(s.Time); end.After(last) {
			last = end
			w.deadline = end
		}
		if err := sockets.Send(s.hold, []byte(orderStop)); err != nil {
			w.log.Warn("leash lost", "process", s.Name, "error", err)
			w.hurry()
			return
		}
	}
}

// cutLeashes ends all siblings at once.
func (w *warden) cutLeashes() {
	for i := range w.duty.Siblings {
		if s := &w.duty.Siblings[i]; s.hold >= 0 {
			unix.Close(s.hold)
			s.hold = -1
		}
	}
}

// pass passes a signal on to the app, by its warden.
func (w *warden) pass(signal unix.Signal) {
	for i := range w.duty.Siblings {
		s := &w.duty.Siblings[i]
		if !s.App || s.hold < 0 {
			continue
		}
		// A terminal sends it to everybody when its size changes; for unicorn it
		// means to do without workers.
		if signal == unix.SIGWINCH && hasTerminal() {
			return
		}
		w.log.Info("signal passed on", "signal", unix.SignalName(signal), "process", s.Name)
		if err := sockets.Send(s.hold, []byte(orderOf(signal))); err != nil {
			w.log.Warn("leash lost", "process", s.Name, "error", err)
		}
		return
	}
	switch signal {
	case unix.SIGHUP:
		w.petition(petition{})
	case unix.SIGWINCH: // a terminal's, mostly
	case unix.SIGUSR1:
		if w.reopenLog() {
			return
		}
		fallthrough
	default:
		w.log.Warn("signal ignored", "signal", unix.SignalName(signal), "reason", "no app was started that it could be for")
	}
}

// hasTerminal reports whether this process has a controlling terminal, tty(4).
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// siblingDied ends the service: what the sibling held cannot be had again
// without privilege. A supervisor starts everything anew.
func (w *warden) siblingDied(s *sibling, status unix.WaitStatus) {
	s.PID = 0
	switch {
	case w.state >= draining, w.masonLeft(s, status): // as it was told, or too late to matter
		return
	case s.App && status.Exited():
		w.code = status.ExitStatus()
		w.log.Info("service ending", "reason", "the app has ended", "code", w.code)
		w.drain()
		return
	case w.state == starting && status.Exited():
		w.code = exitMistake
		w.log.Error("start given up", "process", s.Name, "reason", "see above")
		w.hurry()
		return
	}
	w.code = exitLost
	w.log.Error("warden died", append(fate(status), "process", s.Name,
		"reason", "its descriptors are lost: the service ends and must be started again")...)
	w.drain()
}
