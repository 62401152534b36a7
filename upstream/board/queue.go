package board

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Why a request gets no slot.
var (
	ErrFull = errors.New("board: all slots are taken and the queue is full")
	ErrTime = errors.New("board: no slot became free in time")
	ErrGone = errors.New("board: the request was given up while it waited")
)

// A Queue is the slots of one app and the line in front of them, as one process
// sees them.
type Queue struct {
	shared                 // words of all rows
	health                 // likewise
	tally  []atomic.Uint64 // this row's: of the app, then of each member

	board   *Board
	row     int
	app     int
	limited bool
	slots   []ownWords // by member
	members uint64     // all of them, one bit each
	shut    atomic.Uint64
	unfit   atomic.Uint64 // members whose checks fail
	heeds   atomic.Bool   // HeedChecks was called
	over    []passedOver  // by row
	passed  atomic.Uint64
	waiting atomic.Int64 // length of the line

	mu sync.Mutex // of the part of the line that is in this process

	places    ownWords
	queued    uint64 // places held
	line      line
	asides    int       // of the line
	probed    time.Time // when somebody was last sent to a member that is shut
	probeNext int       // member
	blocked   blocked
}

// A Waiter is what one request has of the board. It is part of the lease of the
// request, reused for the next one, and not copied. One goroutine uses it at a time.
//
//	      Acquire                         Settle
//	idle ────┬──────────────► trying ───────────────► settled
//	  ▲      ▼                 ▲   │ Acquire: back to    │
//	  │    waiting ────────────┘   │ where it stood      │
//	  │      │ ErrFull, ErrTime,   │                     │
//	  └──────┴─ErrGone─────────────┴──────Release────────┘
type Waiter struct {
	member int // + 1; 0: no slot held. Guarded by mu while waiting
	slot   int // of the member; true while member is
	place  int // + 1 in the line; 0: none
	ticket uint64
	waited bool

	before  *Waiter // in the line
	behind  *Waiter // likewise
	inLine  bool
	aside   bool // until the next pause: no free slot was one it may have
	avoid   uint64
	client  Client        // nil: it never leaves; while waiting
	granted chan struct{} // 1 slot; filled by whoever sets member for it, or takes it out because its client has left
	timer   *time.Timer
}

// A Client is who waits for the answer to a request.
type Client interface {
	// Left reports whether the client has gone, or has closed its half. It is asked
	// every pause while the request waits, by another goroutine, and must not wait.
	Left() bool
}

// Waited reports whether the last Acquire had to wait.
func (w *Waiter) Waited() bool { return w.waited }

func newQueue(b *Board, app int) *Queue {
	m, plan := b.memory, b.memory.plan.Apps[app]
	o, number := &m.apps[app], rowNumber(b.row)
	q := &Queue{
		shared:  m.shared(app, b.row),
		health:  m.health(app),
		tally:   m.tallyBlock(b.row)[o.tally:],
		board:   b,
		row:     b.row,
		app:     app,
		limited: plan.InFlightMax > 0,
		slots:   make([]ownWords, plan.Members),
		members: ^uint64(0) >> (MembersMax - plan.Members),
		over:    make([]passedOver, m.plan.Rows),
	}
	for i := range q.slots {
		q.slots[i].init(m.all[o.slots+i*padded(plan.InFlightMax):], plan.InFlightMax, number)
	}
	q.places.init(m.all[o.places:], plan.QueueLen, number)
	return q
}

// Acquire takes a slot of the least busy member, and returns its index. Members in
// the set avoid are taken only if all others are shut; avoid = 0 avoids none. While
// no slot is free, or somebody else waits for one, it waits in the line until
// deadline or until its client has left (nil: never).
//
// A waiter that still holds a slot and was not settled gives it back and goes to
// where its ticket says, which is before everybody who came later: this is for a
// connect that was refused. The caller must have shut the member, or avoid it, or
// it may be given the same slot at once.
//
// Errors are ErrFull, ErrTime and ErrGone; the waiter holds nothing then, and the
// index is -1.
func (q *Queue) Acquire(w *Waiter, avoid uint64, deadline time.Time, client Client) (int, error) {
	w.avoid, w.waited = avoid, false
	if w.member != 0 && w.ticket == 0 { // settled: the request starts again
		q.Release(w)
	}
	if w.member == 0 && q.waiting.Load() == 0 && !q.anybody() && q.take(w, q.wanted(avoid)) {
		if len(q.places.words) > 0 {
			// Should it be refused, everybody who draws a ticket from now on is later.
			w.ticket = max(firstTicket-1, q.next.Load())
		}
		return w.member - 1, nil
	}
	w.client = client
	err := q.lineUp(w)
	if err == nil {
		err = q.wait(w, deadline)
	}
	w.client = nil
	return w.member - 1, err
}

// anybody reports whether somebody waits for a slot, in any row.
func (q *Queue) anybody() bool {
	if !q.limited {
		return false // whoever waits, waits for a member to come back
	}
	row, _ := q.oldest()
	return row >= 0
}

// wanted is the members that a waiter may have. None: all are shut. Those whose checks
// fail do if there is no other: to be refused by one is better than by us.
func (q *Queue) wanted(avoid uint64) uint64 {
	open := q.members &^ q.shut.Load()
	if fit := open &^ q.unfit.Load(); fit != 0 {
		open = fit
	}
	if others := open &^ avoid; others != 0 {
		return others
	}
	return open
}

// wait returns nil when w has a slot.
func (q *Queue) wait(w *Waiter, deadline time.Time) error {
	select { // most often somebody else must give first
	case <-w.granted:
		return w.granting()
	default:
	}
	w.waited = true
	limit := time.Until(deadline)
	if w.timer == nil {
		w.timer = time.NewTimer(limit)
	} else {
		w.timer.Reset(limit)
	}
	select {
	case <-w.granted:
		w.timer.Stop()
		return w.granting()
	case <-w.timer.C:
	}
	q.mu.Lock()
	if !w.inLine {
		q.mu.Unlock()
		<-w.granted // in the last moment; it was sent before the lock was free
		return w.granting()
	}
	q.takeOut(w)
	q.turn(probePause)
	q.mu.Unlock()
	return ErrTime
}

// granting is what w has got: nil for a slot.
func (w *Waiter) granting() error {
	if w.member == 0 {
		return ErrGone
	}
	return nil
}

// Settle says that the request of w is with its member now: its place is free for
// another one, and its turn is over.
func (q *Queue) Settle(w *Waiter) {
	w.ticket = 0
	if w.place != 0 {
		q.mu.Lock()
		q.freePlace(w)
		q.mu.Unlock()
	}
}

// Release gives back what w has, nothing if it has nothing.
func (q *Queue) Release(w *Waiter) {
	q.Settle(w)
	if w.member != 0 {
		q.giveBack(w)
		q.passSlot()
	}
}

// Shut says that a member does not answer, or shall not be asked: no waiter of this
// process is given one of its slots until Open. While all members are shut, requests
// wait in the line (they are held), and the oldest of the process is sent to one of
// them every 20 ms, and after each Release: what it finds, it says by Shut or Open.
// Where there is no line, slots are given as if nothing were shut. It reports whether the
// member was open.
func (q *Queue) Shut(member int) (news bool) {
	bit := uint64(1) << member & q.members
	if q.shut.Or(bit)&bit != 0 {
		return false
	}
	if q.waiting.Load() > 0 {
		q.mu.Lock()
		q.turn(probePause)
		q.mu.Unlock()
	}
	return true
}

// ShutUnlessLast is Shut for a member beside which another one is open.
func (q *Queue) ShutUnlessLast(member int) (news bool) {
	bit := uint64(1) << member & q.members
	for {
		was := q.shut.Load()
		if was&bit != 0 || was|bit == q.members {
			return false
		}
		if q.shut.CompareAndSwap(was, was|bit) {
			return true
		}
	}
}

// Open ends Shut. If all members were shut, the other rows are told to look too.
func (q *Queue) Open(member int) {
	bit := uint64(1) << member & q.members
	if q.shut.Load()&bit == 0 {
		return
	}
	was := q.shut.And(^bit)
	q.mu.Lock()
	q.turn(probePause)
	q.mu.Unlock()
	if was == q.members {
		q.wakeOthers()
	}
}

// wakeOthers has all other rows look.
func (q *Queue) wakeOthers() {
	for row := range q.heads {
		if row != q.row {
			q.board.memory.wake(row)
		}
	}
}

// Held reports whether all members are shut, so that requests wait for one of them.
func (q *Queue) Held() bool { return q.wanted(0) == 0 && len(q.places.words) > 0 }

// Stats is how busy an app is, over all rows. As the rows go on meanwhile, and one of
// them may lie, it is for people and not for decisions.
type Stats struct {
	InFlight []int // per member
	Queued   int   // requests that have a place in the line
	Waiting  int   // of these, in this process
	Passed   int   // times this process went on without an older waiter that took no slot
}

// Stats counts.
func (q *Queue) Stats() Stats {
	s := Stats{Queued: q.sum(0), Waiting: int(q.waiting.Load()), Passed: int(q.passed.Load())}
	for m := range q.slots {
		s.InFlight = append(s.InFlight, q.inFlight(m))
	}
	return s
}
