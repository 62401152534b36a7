package board

import (
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// This file is what cores tell each other of how members are:
//
//	lost      why no connection to the member was to be had, as somebody has found it
//	verdict   why its last check failed
//	checked   when that check began, unix nanoseconds
//
// lost is news and no more: each core goes by what it has met with itself (Shut). The
// verdict is that of one core for all, as checks are not to multiply with cores. One that
// was taken over can make the others leave members out, but never the last.

// healthWords is how many words a member has.
const healthWords = 3

// A Trouble is why a member is not well; 0: it is.
type Trouble uint64

// Troubles that are no errno, which are from 1 to 4095, as the kernel has them.
const (
	Silent    Trouble = 1<<12 + iota // no answer in time
	HungUp                           // it closed the connection before it answered
	Malformed                        // its answer is no HTTP
	statuses                         // + status of its answer
)

// BadStatus is the trouble of an answer with this status, 100 to 999.
func BadStatus(status int) Trouble { return statuses + Trouble(status) }

// String is t in words, "" for none.
func (t Trouble) String() string {
	switch {
	case t == 0:
		return ""
	case t < Silent:
		return syscall.Errno(t).Error()
	case t == Silent:
		return "no answer in time"
	case t == HungUp:
		return "connection closed before the answer"
	case t == Malformed:
		return "the answer is no HTTP"
	case t >= statuses+100 && t <= statuses+999:
		return "status " + strconv.Itoa(int(t-statuses))
	}
	return "nothing that can be known"
}

// health are the words of one app, each by member.
type health struct{ lost, verdicts, checked []atomic.Uint64 }

func (m *Memory) health(app int) health {
	n := m.plan.Apps[app].Members
	words := m.all[m.apps[app].health:][:healthWords*n]
	return health{words[:n:n], words[n : 2*n : 2*n], words[2*n:]}
}

// Lose notes why no connection to a member was to be had. It reports whether that is
// news: it was not lost before, for any core.
func (q *Queue) Lose(member int, why Trouble) (news bool) {
	if !q.lost[member].CompareAndSwap(0, uint64(why)) {
		return false
	}
	q.CountMember(member, TimesLost)
	return true
}

// Find ends Lose, and reports whether that is news.
func (q *Queue) Find(member int) (news bool) {
	was := q.lost[member].Load()
	return was != 0 && q.lost[member].CompareAndSwap(was, 0)
}

// ClaimCheck reports whether the next check of a member is the caller's, because the
// last one, of any core, began at least every ago, or in the future; and when the next
// one will be due. A core that dies with a claim has delayed one check.
func (q *Queue) ClaimCheck(member int, now time.Time, every time.Duration) (mine bool, next time.Time) {
	was := q.checked[member].Load()
	last := time.Unix(0, int64(was))
	if due := last.Add(every); !last.After(now) && now.Before(due) {
		return false, due
	}
	return q.checked[member].CompareAndSwap(was, uint64(now.UnixNano())), now.Add(every)
}

// TryTake takes a slot of this member for a check, if one is free that no request waits
// for. Release gives it back.
func (q *Queue) TryTake(w *Waiter, member int) bool {
	bit := uint64(1) << member
	if q.wanted(0)&bit != 0 && (q.waiting.Load() > 0 || q.anybody()) {
		return false
	}
	return q.take(w, bit)
}

// Judge says how the check of a member went, to all rows, and reports whether that has
// changed.
func (q *Queue) Judge(member int, verdict Trouble) (news bool) {
	q.CountMember(member, Checks)
	if verdict != 0 {
		q.CountMember(member, ChecksFailed)
	}
	was := q.verdicts[member].Swap(uint64(verdict))
	if (was == 0) == (verdict == 0) {
		return false
	}
	q.heed()
	q.wakeOthers()
	return true
}

// HeedChecks has this process leave out members whose checks fail, from now on.
func (q *Queue) HeedChecks() {
	q.heeds.Store(true)
	q.heed()
}

// LeftOut is the set of the members that are, because their checks fail.
func (q *Queue) LeftOut() uint64 { return q.unfit.Load() }

// heed reads the verdicts. Members that are well again may have a slot for who waits.
func (q *Queue) heed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	unfit := uint64(0)
	for member := range q.verdicts {
		if q.verdicts[member].Load() != 0 {
			unfit |= 1 << member
		}
	}
	if q.unfit.Swap(unfit) != unfit {
		q.turn(probePause)
	}
}
