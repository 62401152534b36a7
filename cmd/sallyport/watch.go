package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// This file is a warden's loop: one goroutine owns all state, the others only
// bring news to it. What a ward is, is in ward.go; where orders come from, in
// leash.go and control.go.

const (
	healEvery    = time.Second
	healTries    = 3
	drainGrace   = 5 * time.Second // beyond the time in which wards end by themselves
	hurryingTime = time.Second     // for what has been killed to be gone
)

// watch is the loop. It ends with the service, and returns the exit code.
func (w *warden) watch() int {
	w.sayLacking()
	timer := time.NewTimer(0)
	for {
		now := time.Now()
		w.reap(now)
		w.tend(now)
		w.tendScribe(now)
		w.notifier.tell(w.notice(), w.log)
		if w.state == gone {
			removeSocket(w.duty.Control)
			removeSocket(w.duty.PIDFile)
			return w.code
		}
		timer.Reset(w.next().Sub(now))
		select {
		case <-w.deaths: // reap looks every time
		case s := <-w.signals:
			w.signal(s)
		case r := <-w.news:
			w.greet(r)
		case o, held := <-w.orders:
			w.obey(o, held)
		case answer := <-w.questions:
			answer <- w.status()
		case a := <-w.adoptions:
			w.adopt(a)
		case k := <-w.keepings:
			w.keep(k)
		case p := <-w.petitions:
			w.petition(p)
		case <-w.rooms.wanted:
			w.wantDialer()
		case <-timer.C:
		}
	}
}

// tend does what is due: starts and healing while the service runs, and the
// steps from state to state when it ends.
func (w *warden) tend(now time.Time) {
	if w.state < draining {
		w.heal(now)
	}
	if w.state < draining {
		w.endLate(now)
		w.tendReload(now)
		w.tendRenewals(now)
		w.startDue(now)
		return
	}
	late := !now.Before(w.deadline)
	switch {
	case late && (w.hurried || w.state == parting && w.alone()):
		w.state = gone
	case late:
		w.log.Warn("time to end exceeded", "running", w.running())
		w.hurry()
	case w.state == draining && len(w.running()) == 0:
		w.part(now)
	}
	if w.state == parting && w.alone() && !w.killOrphans() {
		w.state = gone
	}
}

// next returns when tend has something to do, if nothing happens before.
func (w *warden) next() time.Time {
	if w.state >= draining {
		return w.deadline
	}
	next := w.reloadNext(w.healed.Add(healEvery))
	if at := w.renewals.next(); len(w.renewals.marks) > 0 && at.Before(next) {
		next = at
	}
	for _, ward := range w.wards {
		if ward.pid == 0 && ward.due.Before(next) {
			next = ward.due
		}
	}
	return next
}

// startDue starts the wards whose time has come.
func (w *warden) startDue(now time.Time) {
	for _, ward := range w.wards {
		if ward.pid != 0 || ward.due.After(now) {
			continue
		}
		ward.began = now
		err := w.startWard(ward)
		if err != nil && w.isIncoming(ward) {
			w.failReload(now, err.Error())
			return // what was to be started has changed
		}
		if err != nil {
			ward.due = now.Add(max(ward.pace.after(0), paceFirst))
			w.log.Error("process not started", "process", ward.plan.Name, "error", err)
			continue
		}
		if app := ward.plan.App; app != nil {
			w.log.Info("app started", "pid", ward.pid, "uid", w.duty.Who.UID, "command", strings.Join(app.Argv, " "))
			w.greet(readiness{ward, ward.pid})
		}
	}
}

// startWard starts a ward with what this start is given alone.
func (w *warden) startWard(ward *ward) error {
	own, release, err := w.startGifts(ward)
	if err != nil {
		return err
	}
	defer release()
	ways, release, err := w.wayGifts(ward)
	if err != nil {
		return err
	}
	defer release()
	own = slices.Concat(own, w.slotsOf(ward), w.spoolGift(ward), ways)
	return ward.start(w.duty.Sandbox, w.duty.Who, own, w.coreArgs(ward), w.news)
}

// heal looks whether the listeners still listen: a ward may have disconnected
// them, on purpose or not. One that cannot be mended several times in a row is lost,
// and a new one takes privilege: the service ends.
func (w *warden) heal(now time.Time) {
	if now.Sub(w.healed) < healEvery {
		return
	}
	w.healed = now
	failed := false
	for _, door := range w.doors {
		healed, err := sockets.Heal(door.fd)
		switch {
		case err != nil && w.unhealed+1 == healTries:
			w.log.Error("listener lost", "listener", door.Address, "error", err, "reason", "the service ends and must be started again")
			w.code = exitLost
			w.drain()
			return
		case err != nil:
			failed = true
		case healed:
			w.log.Warn("listener healed", "listener", door.Address)
		}
	}
	if failed {
		w.unhealed++
	} else {
		w.unhealed = 0
	}
}

// signal obeys a signal. A sibling of the main warden gets the same ones from a
// supervisor that signals everything at once, and waits for the leash.
func (w *warden) signal(s os.Signal) {
	switch {
	case w.leashed:
	case s != unix.SIGTERM && s != unix.SIGINT:
		w.pass(s.(unix.Signal))
	case w.state >= draining:
		w.log.Warn("service ended at once", "reason", "a second signal")
		w.hurry()
	default:
		w.log.Info("service ending", "signal", unix.SignalName(s.(unix.Signal)))
		w.drain()
	}
}

// obey carries out an order, or the last one: that the leash is not held any more.
func (w *warden) obey(o order, held bool) {
	switch {
	case !held:
		w.orders = nil // a closed channel would be news for ever
		w.hurry()
	case o != orderStop:
		for _, s := range passedSignals() {
			if orderOf(s) == o {
				w.killAll(s)
			}
		}
	case w.state < draining:
		if !w.leashed {
			w.log.Info("service ending", "order", orderStop)
		}
		w.drain()
	}
}

// greet notes that a ward serves.
func (w *warden) greet(r readiness) {
	if r.ward.pid != r.pid {
		return // it has died since
	}
	if w.state >= draining {
		w.kill(r.ward, r.ward.farewell()) // the first may have come before it could listen
		return
	}
	if r.ward.isRetired() {
		w.kill(r.ward, unix.SIGUSR1) // likewise: the runtime of Go passes over it before
	}
	if r.ward.starts > 1 { // what "ready" says of the first
		w.log.Info("process ready", "process", r.ward.plan.Name, "pid", r.pid)
	}
	r.ward.proved, r.ward.ready = true, true
	if w.isIncoming(r.ward) {
		w.promote(time.Now())
		return
	}
	if w.state != starting {
		return
	}
	for _, ward := range w.wards {
		if !ward.proved {
			return
		}
	}
	w.state = serving
	if !w.leashed {
		w.sayReady()
	}
}

// sayReady tells the world, once, that the service is there and where.
func (w *warden) sayReady() {
	http, https := []string{}, []string{}
	for _, listener := range w.duty.Listeners {
		if listener.Secure {
			https = append(https, listener.Address)
		} else {
			http = append(http, listener.Address)
		}
	}
	w.log.Info("ready", "http", http, "https", https, "pid", os.Getpid())
	if w.duty.Trust != "" {
		w.log.Info("internal CA used", "trust", w.duty.Trust)
	}
	if w.announce < 0 {
		return
	}
	if _, err := unix.Write(w.announce, []byte("ready\n")); err != nil {
		w.log.Warn("readiness not announced", "error", err)
	}
	unix.Close(w.announce)
}

// sayLacking says once what this start could not do for want of privilege.
func (w *warden) sayLacking() {
	lacking := jail.Lacking()
	if w.rooms.news != nil && w.rooms.root == 0 {
		lacking = append(lacking, "empty root")
	}
	const reason = "the start had no privilege for it"
	switch {
	case w.leashed:
	case w.duty.Shared:
		w.log.Warn("jail incomplete", "lacking", append(lacking, "separate users"), "reason", reason,
			"danger", fmt.Sprintf("a core, uid %d, can open the key files", w.duty.Who.UID))
	case len(lacking) > 0:
		w.log.Info("jail incomplete", "lacking", lacking, "reason", reason)
	}
}

// drain closes the doors and lets the wards finish.
func (w *warden) drain() {
	w.closeListeners()
	for _, ward := range w.wards {
		w.kill(ward, ward.farewell())
	}
	w.state = draining
	w.deadline = time.Now().Add(w.duty.Drain)
	w.endReloads()
}

// hurry kills the wards and cuts the leashes. What is left is to see them gone.
func (w *warden) hurry() {
	w.closeListeners()
	w.killAll(unix.SIGKILL)
	w.cutLeashes()
	w.state = max(w.state, draining)
	w.endReloads()
	w.hurried = true
	w.deadline = time.Now().Add(hurryingTime)
}

// closeListeners closes the main warden's share of the doors; the cores do
// theirs.
func (w *warden) closeListeners() {
	for _, door := range w.doors {
		door.close()
	}
	w.doors = nil
}

// removeSocket removes the name of a socket that boot made, or its empty folder.
// Where what is above is root's alone it stays, and the next boot takes it: no error.
func removeSocket(path string) {
	if path != "" {
		_ = os.Remove(path) // see above
	}
}

// killAll signals the wards.
func (w *warden) killAll(s unix.Signal) {
	for _, ward := range w.wards {
		w.kill(ward, s)
	}
}

func (w *warden) kill(ward *ward, s unix.Signal) {
	if err := ward.signal(s); err != nil {
		w.log.Error("process not signalled", "error", err)
	}
}

// running names the wards that run.
func (w *warden) running() []string {
	var names []string
	for _, ward := range w.wards {
		if ward.pid != 0 {
			names = append(names, ward.plan.Name)
		}
	}
	return names
}

// reap collects the dead: wards, siblings, and orphans that were given to us. What
// one of ours has left behind is killed.
func (w *warden) reap(now time.Time) {
	for sweep := false; ; {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid == 0 { // ECHILD: nobody is left
			if sweep {
				w.killOrphans()
			}
			return
		}
		if w.scribeDied(pid, status, now) {
			continue
		}
		sweep = sweep || !w.before[pid]
		delete(w.before, pid)
		w.checked(pid, status)
		for i := range w.duty.Siblings {
			if s := &w.duty.Siblings[i]; s.PID == pid {
				w.siblingDied(s, status)
			}
		}
		for _, ward := range w.wards {
			if ward.pid == pid {
				w.wardDied(ward, status, now)
			}
		}
	}
}

// wardDied notes the end of a ward and when it will be started again.
func (w *warden) wardDied(ward *ward, status unix.WaitStatus, now time.Time) {
	facts := append(fate(status), "process", ward.plan.Name, "pid", ward.pid)
	if ward.plan.App != nil {
		_ = unix.Kill(-ward.pid, unix.SIGKILL) // what it left in its session: nobody, mostly
	}
	w.saySecurity(ward, status)
	ward.pid = 0
	if ward.isCore() {
		w.clearRows(ward.estate.ground)
		w.clearSpool(ward)
	}
	w.closeAdopt(ward)
	w.suspect = w.suspect || ward.plan.Linked && (ward.unasked(status) || status.Exited() && status.ExitStatus() != exitFine)
	switch {
	case ward.plan.App != nil:
		w.appEnded(ward, status, facts)
	case w.hurried:
	case w.state >= draining:
		if ward.unasked(status) {
			w.log.Warn("process died", facts...)
		}
	case w.coreDied(ward, status, facts, now):
	case !ward.proved && status.Exited() && status.ExitStatus() == exitMistake:
		w.log.Error("process failed", append(facts, "reason", "see above; another start would end alike")...)
		w.code = exitMistake
		w.hurry()
	default:
		w.healed = time.Time{} // its successor is to find listeners that listen
		wait := ward.pace.after(now.Sub(ward.began))
		ward.due = now.Add(wait)
		w.log.Error("process died", append(facts, "restart_in", wait.String())...)
	}
}

// saySecurity says that the jail has killed a ward of ours: it made a system call that no
// program of ours makes. Which one, the kernel tells its own log alone.
func (w *warden) saySecurity(ward *ward, status unix.WaitStatus) {
	if ward.plan.App != nil || !status.Signaled() || status.Signal() != unix.SIGSYS {
		return
	}
	w.log.Error("jail killed process", "event", "security", "process", ward.plan.Name, "pid", ward.pid,
		"reason", "a system call that only somebody who has taken it over would make",
		"hint", "which one, the kernel tells its own log: journalctl -k | grep 'type=1326.*sallyport' has syscall=NUMBER, and ausyscall NUMBER names it")
}

// appEnded ends the warden of an app with it, and with its exit status unless it
// was told to end.
func (w *warden) appEnded(ward *ward, status unix.WaitStatus, facts []any) {
	if w.state >= draining {
		if ward.unasked(status) {
			w.log.Warn("app ended", facts...)
		}
		return
	}
	w.code = exitStatus(status)
	w.log.Info("app ended", facts...)
	w.drain()
}

// exitStatus is how a process ended as one number, as shells have it: "the exit
// status of a command that terminated because it received a signal shall be
// reported as greater than 128", POSIX.1-2017, XCU 2.8.2.
func exitStatus(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// fate is how a process ended, as facts for the log.
func fate(status unix.WaitStatus) []any {
	if status.Signaled() {
		return []any{"signal", unix.SignalName(status.Signal())}
	}
	return []any{"code", status.ExitStatus()}
}
