package upstream

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/upstream/board"
)

// This file is how a request comes to a slot of a member that answers, and what it
// waits for on the way. It waits in one place only, the app's line on the board:
//
//	no slot is free                  until queue.time is over: 503
//	the member's backlog is full     the same, from the head of the line
//	no member is there (held)        until hold is over: 502
//	it may not be reached            for modePause, as above: 502
//
// A member that is busy or absent is shut: it gets no request of this core until one that
// was sent to look has found it, so that those behind keep their order. While others are
// there, somebody looks when its pause is over, and else every 20 ms; see
// board.Queue.Shut. Nothing was sent by then, so this is for requests of any method, and
// is no retry.
//
// What a member does with a connection that it has taken is not held against it: one
// request that kills a worker, sent three times, would take the member from all others.

// busyPause is how long a member is left alone that was busy, if there are others.
const busyPause = time.Second

// A member that refuses is left alone for refusedPause at first, and for twice as long as
// the last time each time that it does so again, up to refusedPauseMax; a look costs the
// request that is sent to do it one connect. It is lost, which is news, when it has refused
// lostAfter times in a row, for 750 ms, or is what requests wait for.
const (
	refusedPause    = 250 * time.Millisecond
	refusedPauseMax = 2 * time.Second
	lostAfter       = 3
)

// modePause is how long a socket that may not be reached counts as absent: an app server
// that has just made it gives it its mode next (uvicorn, by chmod).
const modePause = time.Second

// enter takes a slot of the least busy member. Who waits for one when the app goes away is
// held like those who come later, and stands behind them once queue.time is over.
func (l *Lease) enter() error {
	l.app.look(l.begun)
	held, limit := l.app.absent() != nil, l.app.plan.QueueTime
	if held {
		limit = l.app.plan.Hold
		l.hold()
	}
	err := l.acquire(0, after(l.begun, limit))
	if !held && errors.Is(err, board.ErrTime) && l.app.absent() != nil {
		err = l.acquire(0, after(l.begun, l.app.plan.Hold))
	}
	if fault := l.app.absent(); fault != nil && errors.Is(err, board.ErrTime) {
		return fault
	}
	return err
}

// absent is why requests are held, nil if they are not, or because all members are busy.
func (a *App) absent() *Error {
	if fault := a.absence.Load(); fault != nil && a.queue.Held() {
		return fault
	}
	return nil
}

// acquire takes a slot, of a member that is not among those to avoid if it can be
// helped, and gives back the one that it has. On an error it has none.
func (l *Lease) acquire(avoid uint64, deadline time.Time) error {
	member, err := l.app.queue.Acquire(&l.slot, avoid, deadline, l.client)
	if l.slot.Waited() {
		l.Queued = time.Since(l.begun)
	}
	switch {
	case err == nil:
		l.member = l.app.members[member]
		return nil
	case errors.Is(err, board.ErrGone):
		return err
	}
	return &Error{App: l.app.Name, Op: Queue, Err: err}
}

// move uses up a try and goes to another member, if there is one.
func (l *Lease) move() error {
	l.tries++
	return l.acquire(1<<l.member.index, after(time.Now(), l.app.plan.QueueTime))
}

// elsewhere is where a request goes that could not connect because of err: to another
// member, or back into the line until one is there.
func (l *Lease) elsewhere(err error) error {
	fault := l.fault(Connect, err)
	deadline, wait := l.patience(err)
	switch {
	case !errors.Is(err, unix.EAGAIN):
		if wait {
			l.app.absence.Store(fault)
		}
		l.app.refused(l.member, fault, wait)
		if l.app.queue.Held() {
			l.hold()
		}
	case wait && l.app.queue.Shut(l.member.index):
		l.app.lookIn(l.member, busyPause)
	}
	if !wait {
		if errors.Is(err, unix.EACCES) { // it will stay so: nobody needs to wait for it
			l.app.absence.Store(nil)
			l.app.queue.Open(l.member.index)
		}
		if l.tries == l.app.plan.Retries {
			return fault
		}
		l.app.queue.Count(board.Retried)
		return l.move()
	}
	if err := l.acquire(0, deadline); errors.Is(err, board.ErrTime) {
		return fault
	} else if err != nil {
		return err
	}
	return nil
}

// patience is until when a request waits that could not connect because of err, if
// it does.
func (l *Lease) patience(err error) (deadline time.Time, wait bool) {
	switch {
	case l.app.plan.QueueLen == 0: // nobody waits
	case errors.Is(err, unix.EAGAIN):
		return after(l.begun, l.app.plan.QueueTime), true
	case (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)) && l.app.plan.Hold > 0:
		if l.absent.IsZero() {
			l.absent = time.Now()
		}
		return after(l.absent, l.app.plan.Hold), true
	case errors.Is(err, unix.EACCES) && l.app.plan.Hold > 0:
		now := time.Now()
		since := l.app.deniedSince(now)
		return since.Add(modePause), now.Before(since.Add(modePause))
	}
	return time.Time{}, false
}

// deniedSince is since when no member may be reached: now, if it is not known.
func (a *App) deniedSince(now time.Time) time.Time {
	since := a.denied.Load()
	if since == nil {
		a.denied.CompareAndSwap(nil, &now) // else somebody else was as quick
		return now
	}
	return *since
}

// lookIn has m tried again after a pause.
func (a *App) lookIn(m *Member, pause time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	soon := time.Now().Add(pause)
	m.lookAt = soon
	if at := a.lookAt.Load(); at == nil || soon.Before(*at) {
		a.lookAt.Store(&soon)
	}
}

// look opens the members that are shut and whose pause is over: whoever goes to one and
// finds it as it was goes to another, and shuts it again.
func (a *App) look(now time.Time) {
	at := a.lookAt.Load()
	if at == nil || now.Before(*at) || a.queue.Held() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var next *time.Time
	for _, m := range a.members {
		switch {
		case m.lookAt.IsZero():
		case !now.Before(m.lookAt):
			m.lookAt = time.Time{}
			a.queue.Open(m.index)
		case next == nil || m.lookAt.Before(*next):
			later := m.lookAt // which others may change
			next = &later
		}
	}
	a.lookAt.Store(next)
}

// arrived notes that the member has a connection.
func (l *Lease) arrived() {
	if l.app.absence.Load() != nil {
		l.app.absence.Store(nil)
	}
	if l.app.denied.Load() != nil {
		l.app.denied.Store(nil)
	}
	l.absent = time.Time{}
	l.app.found(l.member)
	l.app.queue.Settle(&l.slot)
}

// hold counts a request that waits for an absent app.
func (l *Lease) hold() {
	if !l.held {
		l.held = true
		l.app.queue.Count(board.Held)
	}
}

// count counts why a request was not answered, if that was not its client's doing.
func (l *Lease) count(err error) {
	fault, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
	case errors.Is(err, board.ErrFull):
		l.app.queue.Count(board.Full)
	case fault.Op == Queue:
		l.app.queue.Count(board.Late)
	default:
		l.app.queue.Count(board.Failed)
	}
}

// after is a limit from begun on; 0 is none, and ends when the client leaves.
func after(begun time.Time, limit time.Duration) time.Time {
	if limit == 0 {
		const never = 1 << 62
		limit = never
	}
	return begun.Add(limit)
}
