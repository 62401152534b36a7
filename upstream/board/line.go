package board

import (
	"sync/atomic"
	"time"
)

const (
	probePause = 20 * time.Millisecond // between two visits to members that are shut
	probeSoon  = time.Millisecond      // the same, once there is a reason to look
	stallsMax  = 5                     // patiences with rows whose tickets change

	// How long a row is passed over: at first, and at most if it is so again and again.
	// In that time the oldest of a row that is slow and no liar may lose its turn to others.
	distrust     = 100 * time.Millisecond
	distrustMost = 16 * distrust
)

// A line is waiters by ticket, the oldest first.
type line struct{ first, last *Waiter }

// insert puts w behind everybody who is not younger. Newcomers are the youngest, and
// who comes back is among the oldest: it is seldom far from either end.
func (l *line) insert(w *Waiter) {
	if l.last == nil || l.last.ticket <= w.ticket {
		l.link(l.last, w, nil)
		return
	}
	behind := l.first
	for behind.ticket <= w.ticket { // the last is younger: this ends before it
		behind = behind.behind
	}
	l.link(behind.before, w, behind)
}

func (l *line) remove(w *Waiter) {
	l.join(w.before, w.behind)
	w.before, w.behind = nil, nil
}

func (l *line) link(before, w, behind *Waiter) {
	l.join(before, w)
	l.join(w, behind)
}

// join makes two neighbours; nil is the end of the line.
func (l *line) join(before, behind *Waiter) {
	if before == nil {
		l.first = behind
	} else {
		before.behind = behind
	}
	if behind == nil {
		l.last = before
	} else {
		behind.before = before
	}
}

// lineUp puts w into the line, and serves the line. w may have its slot afterwards.
func (q *Queue) lineUp(w *Waiter) error {
	if w.granted == nil {
		w.granted = make(chan struct{}, 1)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.member != 0 {
		q.giveBack(w)
	}
	if len(q.places.words) == 0 {
		return q.withoutLine(w)
	}
	if w.place == 0 && !q.takePlace(w) {
		w.ticket = 0
		q.turn(probePause) // for the slot given back, and for whom we were in the way of
		return ErrFull
	}
	if w.ticket == 0 {
		w.ticket = q.draw()
	}
	q.line.insert(w)
	w.inLine = true
	q.waiting.Add(1)
	q.board.waiters.Add(1)
	q.board.arm()
	q.turn(probePause)
	return nil
}

// firstTicket leaves 0 for "none" and 1 for those who had a slot before any was drawn.
const firstTicket = 2

// draw returns the next ticket. The counter wraps only if somebody lies.
func (q *Queue) draw() uint64 {
	for range firstTicket {
		if ticket := q.next.Add(1); ticket >= firstTicket {
			return ticket
		}
	}
	return firstTicket
}

// withoutLine is Acquire for an app that has no line: now or never.
func (q *Queue) withoutLine(w *Waiter) error {
	w.ticket = 0
	members := q.wanted(w.avoid)
	if members == 0 {
		members = q.members
	}
	if !q.take(w, members) {
		return ErrFull
	}
	w.granted <- struct{}{}
	return nil
}

// takePlace is called with mu held. The sum is a short cut: it is the number of
// places held, since a row counts its own only while it has them.
func (q *Queue) takePlace(w *Waiter) bool {
	if q.sum(0) >= len(q.places.words) {
		return false
	}
	at := q.places.take()
	if at < 0 {
		return false
	}
	w.place = at + 1
	q.queued++
	q.mine[0].Store(q.queued)
	return true
}

// freePlace is called with mu held.
func (q *Queue) freePlace(w *Waiter) {
	if w.place == 0 {
		return
	}
	q.queued--
	q.mine[0].Store(q.queued)
	q.places.free(w.place - 1)
	w.place = 0
}

// remove takes w out of the line. Called with mu held.
func (q *Queue) remove(w *Waiter) {
	q.line.remove(w)
	w.inLine = false
	if w.aside {
		w.aside = false
		q.asides--
	}
	q.waiting.Add(-1)
	q.board.waiters.Add(-1)
}

// takeOut takes a waiter out of the line that gets no slot. Called with mu held.
func (q *Queue) takeOut(w *Waiter) {
	q.remove(w)
	q.freePlace(w)
	w.ticket = 0
}

// dismiss takes out those whose clients have left. Called with mu held.
func (q *Queue) dismiss() {
	for w := q.line.first; w != nil; {
		next := w.behind
		if w.client != nil && w.client.Left() {
			q.takeOut(w)
			w.granted <- struct{}{}
		}
		w = next
	}
}

// grant gives the slot that w holds by now. Called with mu held.
func (q *Queue) grant(w *Waiter) {
	q.remove(w)
	w.granted <- struct{}{}
}

// ready is the oldest waiter that would take a slot, nil if there is none.
func (q *Queue) ready() *Waiter {
	if q.wanted(0) == 0 {
		return nil
	}
	w := q.line.first
	for w != nil && w.aside {
		w = w.behind
	}
	return w
}

// turn gives free slots to waiters of this process for as long as it is their turn,
// publishes the oldest that is left, and wakes the row whose turn it is. Called with
// mu held, after everything that may have changed whose turn it is. Members that are
// all shut are tried if the last time was longer ago than probeAfter.
func (q *Queue) turn(probeAfter time.Duration) {
	for {
		w := q.ready()
		q.publish(w)
		if w == nil {
			q.blocked.since = time.Time{}
			break
		}
		members := q.wanted(w.avoid)
		row, ticket := q.oldest()
		if row >= 0 && row != q.row && ticket < w.ticket {
			if q.stalled(row, ticket, members) {
				continue // oldest does not see it any more
			}
			break
		}
		q.blocked.since = time.Time{}
		if q.take(w, members) {
			q.grant(w)
			continue
		}
		if !q.anyFree(q.wanted(0) &^ members) {
			break
		}
		w.aside = true
		q.asides++
	}
	q.probe(probeAfter)
	q.passOn()
}

// publish says which ticket is the oldest of this row that would take a slot. Only
// after that may slots be looked at; see doc.go.
func (q *Queue) publish(w *Waiter) {
	ticket := uint64(0)
	if w != nil {
		ticket = w.ticket
	}
	if q.heads[q.row].Load() != ticket {
		q.heads[q.row].Store(ticket)
	}
}

// probe sends the oldest waiter to a member although all are shut.
func (q *Queue) probe(after time.Duration) {
	w := q.line.first
	if w == nil || q.wanted(0) != 0 {
		return
	}
	now := time.Now()
	if now.Sub(q.probed) < after {
		return
	}
	for range q.slots {
		member := q.probeNext
		q.probeNext = (member + 1) % len(q.slots)
		if q.take(w, 1<<member) {
			q.probed = now
			q.grant(w)
			return
		}
	}
}

// passOn wakes the row that has the oldest waiter while there is a free slot. This
// row has served its own.
func (q *Queue) passOn() {
	if !q.limited || !q.anyFree(q.members) {
		return
	}
	if row, _ := q.oldest(); row >= 0 && row != q.row {
		q.board.memory.wake(row)
	}
}

// passSlot sees to it that a slot which was given back is taken by who is next.
func (q *Queue) passSlot() {
	own := q.waiting.Load() > 0
	if q.limited {
		row, _ := q.oldest()
		if row >= 0 && row != q.row {
			q.board.memory.wake(row)
		}
		own = own && (row < 0 || row == q.row)
	}
	if own {
		q.mu.Lock()
		q.turn(probeSoon)
		q.mu.Unlock()
	}
}

func (q *Queue) onWake() {
	q.mu.Lock()
	q.turn(probeSoon)
	q.mu.Unlock()
}

// onPause is onWake, those whose clients have left go, and those who stand aside
// come back.
func (q *Queue) onPause() {
	q.mu.Lock()
	q.dismiss()
	if q.asides > 0 {
		for w := q.line.first; w != nil; w = w.behind {
			w.aside = false
		}
		q.asides = 0
	}
	q.turn(probePause)
	q.mu.Unlock()
}

// takeStock frees what bears the number of this row and is not held here, and says
// again what is.
func (q *Queue) takeStock() {
	for i := range q.slots {
		q.slots[i].takeStock()
	}
	q.mu.Lock()
	q.places.takeStock()
	q.mine[0].Store(q.queued)
	q.turn(probePause)
	q.mu.Unlock()
}

// passedOver is whether this process waits for the older waiters of a row. It does again
// after a while, or the waiters of a row that was slow once would never have their turn
// where others always wait.
type passedOver struct {
	until atomic.Pointer[time.Time] // nil: it waits for them
	span  time.Duration             // of the last time; guarded by mu, as last is
	last  time.Time                 // end of the last time
}

// begin passes the row over from now on: for longer, if it is soon after the last time.
func (p *passedOver) begin(now time.Time) {
	p.span = min(2*p.span, distrustMost)
	if now.Sub(p.last) > p.span {
		p.span = distrust
	}
	until := now.Add(p.span)
	p.last = until
	p.until.Store(&until)
}

// covers reports whether the head of the row does not count.
func (p *passedOver) covers() bool {
	until := p.until.Load()
	if until == nil {
		return false
	}
	if time.Now().Before(*until) {
		return true
	}
	p.until.CompareAndSwap(until, nil)
	return false
}

// oldest is the row with the lowest head, and that head; -1 if nobody waits.
func (q *Queue) oldest() (row int, ticket uint64) {
	row = -1
	for i := range q.heads {
		t := q.heads[i].Load()
		if t != 0 && (row < 0 || t < ticket) && (i == q.row || !q.over[i].covers()) {
			row, ticket = i, t
		}
	}
	return row, ticket
}

// blocked is how long an older waiter elsewhere has kept this process from a free slot.
type blocked struct {
	since  time.Time // zero: it does not
	ticket uint64    // whose
	same   time.Time // since when it is that one
}

// stalled reports whether patience with an older waiter of another row has ended: it
// has been the same one for one patience, or others for five, and a slot was free all
// the time, as far as could be seen. Called with mu held.
func (q *Queue) stalled(row int, ticket uint64, members uint64) bool {
	if !q.anyFree(members) {
		q.blocked.since = time.Time{}
		return false
	}
	now, b := time.Now(), &q.blocked
	if b.since.IsZero() {
		*b = blocked{since: now, ticket: ticket, same: now}
	}
	if b.ticket != ticket {
		b.ticket, b.same = ticket, now
	}
	moves := now.Sub(b.since) >= stallsMax*q.board.stall
	if !moves && now.Sub(b.same) < q.board.stall {
		return false
	}
	q.over[row].begin(now)
	q.passed.Add(1)
	return true
}
