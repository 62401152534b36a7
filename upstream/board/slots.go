package board

import (
	"math/bits"
	"sync/atomic"
)

// shared are the words of one app but those that ownWords have. Who may write which is in doc.go.
type shared struct {
	next   *atomic.Uint64
	heads  []atomic.Uint64 // by row
	counts []atomic.Uint64 // the blocks of all rows, from the first word of this app on
	stride int             // words in the block of a row
	mine   []atomic.Uint64 // this row's in counts: queued, then in flight per member
}

func (m *Memory) shared(app, row int) shared {
	o, plan := &m.apps[app], m.plan.Apps[app]
	s := shared{
		next:   &m.all[o.next],
		heads:  m.all[o.heads:][:m.plan.Rows:m.plan.Rows],
		counts: m.all[m.rows+o.counts:],
		stride: m.stride,
	}
	s.mine = s.counts[row*m.stride:][:1+plan.Members]
	return s
}

// sum adds up one count over all rows. No row can make it overflow or negative.
func (s *shared) sum(count int) int {
	total := 0
	for i := count; i < len(s.counts); i += s.stride {
		total += int(min(s.counts[i].Load(), countMax))
	}
	return total
}

// countMax is more than any row holds: 1,024 of them fit into an int of 64 bits.
const countMax = 1 << 32

// ownWords are words that this process may hold, with who of its goroutines does:
// one that finds its claim taken need not look at the word. What is in the shared
// words may be anybody's lie; claims are the truth about this process.
type ownWords struct {
	words  []atomic.Uint64
	claims []atomic.Bool
	hint   atomic.Uint32 // where the last search ended
	owner  uint64        // rowNumber
}

// init makes o of the first n words.
func (o *ownWords) init(words []atomic.Uint64, n int, owner uint64) {
	o.words, o.claims, o.owner = words[:n:n], make([]atomic.Bool, n), owner
}

// take holds a free word and returns its index, or -1 if there is none.
func (o *ownWords) take() int {
	start := int(o.hint.Load())
	for i := range o.words {
		at := start + i
		if at >= len(o.words) {
			at -= len(o.words)
		}
		if o.words[at].Load() != 0 || !o.claims[at].CompareAndSwap(false, true) {
			continue
		}
		if o.words[at].CompareAndSwap(0, o.owner) {
			o.hint.Store(uint32(at))
			return at
		}
		o.claims[at].Store(false)
	}
	return -1
}

// free gives the word back. The claim goes last: until then nobody here takes it.
func (o *ownWords) free(at int) {
	o.words[at].CompareAndSwap(o.owner, 0) // else somebody has overwritten it
	o.claims[at].Store(false)
}

// any reports whether a word is free.
func (o *ownWords) any() bool {
	for i := range o.words {
		if o.words[i].Load() == 0 {
			return true
		}
	}
	return false
}

// takeStock frees the words that bear our number and are held by nobody here. The
// claim keeps everybody here from taking the word meanwhile.
func (o *ownWords) takeStock() {
	for i := range o.words {
		if o.words[i].Load() == o.owner && o.claims[i].CompareAndSwap(false, true) {
			o.free(i)
		}
	}
}

// inFlight is how many requests a member has, over all rows.
func (q *Queue) inFlight(member int) int { return q.sum(1 + member) }

// take holds a slot of the least busy of these members that has one free, the first
// of equals. It returns false if none has.
func (q *Queue) take(w *Waiter, members uint64) bool {
	for members != 0 {
		m := q.leastBusy(members)
		slot := 0
		if q.limited {
			slot = q.slots[m].take()
		}
		if slot >= 0 {
			q.mine[1+m].Add(1)
			w.member, w.slot = m+1, slot
			return true
		}
		members &^= 1 << m
	}
	return false
}

// leastBusy is one of members, of which there is at least one.
func (q *Queue) leastBusy(members uint64) int {
	best := bits.TrailingZeros64(members)
	if members &= members - 1; members == 0 {
		return best
	}
	for least := q.inFlight(best); members != 0; members &= members - 1 {
		m := bits.TrailingZeros64(members)
		if n := q.inFlight(m); n < least {
			best, least = m, n
		}
	}
	return best
}

// giveBack frees the slot of w.
func (q *Queue) giveBack(w *Waiter) {
	m := w.member - 1
	q.mine[1+m].Add(^uint64(0))
	if q.limited {
		q.slots[m].free(w.slot)
	}
	w.member = 0
}

// anyFree reports whether one of these members has a free slot.
func (q *Queue) anyFree(members uint64) bool {
	for ; members != 0; members &= members - 1 {
		if !q.limited || q.slots[bits.TrailingZeros64(members)].any() {
			return true
		}
	}
	return false
}
