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
// there, somebody looks once a lookPause, and else every 20 ms; see board.Queue.Shut.
// Nothing was sent by then, so this is for requests of any method, and is no retry.

// lookPause is how long a member is left alone that was busy or absent, if there are
// others.
const lookPause = time.Second

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
	if !wait {
		if errors.Is(err, unix.EACCES) { // it will stay so: nobody needs to wait for it
			l.app.absence.Store(nil)
			l.app.queue.Open(l.member.index)
		}
		if l.tries == l.app.plan.Retries {
			return fault
		}
		return l.move()
	}
	if !errors.Is(err, unix.EAGAIN) {
		l.app.absence.Store(fault)
	}
	l.app.shut(l.member)
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
		since := time.Unix(0, l.app.deniedSince(now.UnixNano()))
		return since.Add(modePause), now.Before(since.Add(modePause))
	}
	return time.Time{}, false
}

// deniedSince is since when no member may be reached: now, if it is not known.
func (a *App) deniedSince(now int64) int64 {
	since := a.denied.Load()
	if since == 0 {
		a.denied.CompareAndSwap(0, now) // else somebody else was as quick
		return now
	}
	return since
}

// shut has m left alone for a while.
func (a *App) shut(m *Member) {
	a.queue.Shut(m.index)
	a.lookAt.Store(time.Now().Add(lookPause).UnixNano())
}

// look opens the members that are shut, if it is time: whoever goes to one and finds it
// as it was goes to another, and shuts it again.
func (a *App) look(now time.Time) {
	at := a.lookAt.Load()
	if at == 0 || now.UnixNano() < at || a.queue.Held() || !a.lookAt.CompareAndSwap(at, 0) {
		return
	}
	for _, m := range a.members {
		a.queue.Open(m.index)
	}
}

// arrived notes that the member has a connection.
func (l *Lease) arrived() {
	if l.app.absence.Load() != nil {
		l.app.absence.Store(nil)
	}
	if l.app.denied.Load() != 0 {
		l.app.denied.Store(0)
	}
	l.absent = time.Time{}
	l.app.queue.Open(l.member.index)
	l.app.queue.Settle(&l.slot)
}

// after is a limit from begun on; 0 is none, and ends when the client leaves.
func after(begun time.Time, limit time.Duration) time.Time {
	if limit == 0 {
		const never = 1 << 62
		limit = never
	}
	return begun.Add(limit)
}
