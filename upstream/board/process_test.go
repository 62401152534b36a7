package board

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestKilled kills cores with SIGKILL at 200 arbitrary instructions. Never are more
// at a member than its limit, all others go on, and in the end nothing is held.
func TestKilled(t *testing.T) {
	for _, members := range []int{1, 2} {
		t.Run(fmt.Sprintf("members=%d", members), func(t *testing.T) {
			h := build(t, order{Plan: one(members, 2, 12, 4), Callers: 6, Limit: patience})
			h.startAll("hammer")
			for n := range 100 {
				h.goOn(ledgerTaken, 3)
				<-time.After(time.Duration(rand.IntN(1500)) * time.Microsecond)
				h.kill(n % 4)
				h.goOn(ledgerTaken, 3)
				h.start(n%4, "hammer")
			}
			h.goOn(ledgerTaken, 100)
			h.stop()
			if n := h.at(ledgerTooMany).Load(); n != 0 {
				t.Errorf("%d times too many at once", n)
			}
			(&table{Memory: h.memory}).empty(t)
		})
	}
}

// TestScribbled: a core that writes anything anywhere keeps no other from going on, and
// once it is dead every slot and place is as it was.
func TestScribbled(t *testing.T) {
	h := build(t, order{Plan: one(2, 2, 12, 3), Callers: 4, Limit: 20 * time.Millisecond})
	h.startAll("hammer")
	h.goOn(ledgerTaken, 10)
	h.kill(2)
	h.start(2, "scribble")
	until(t, "it scribbles", func() bool { return h.at(ledgerReady).Load() == 4 })
	scribbler := h.cores[2]
	delete(h.cores, 2) // takes nothing
	h.goOn(ledgerTried, 200)
	h.cores[2] = scribbler
	h.kill(2)
	h.start(2, "hammer")
	h.goOn(ledgerTaken, 100)
	<-time.After(10 * pause) // each takes stock within one
	h.stop()
	for i, app := range h.order.Plan.Apps {
		o := h.memory.apps[i]
		free := func(part string, from, count int) {
			for at := range count {
				if v := h.memory.all[from+at].Load(); v != 0 {
					t.Errorf("app %d: %s %d is %d", i, part, at, v)
				}
			}
		}
		free("head", o.heads, h.order.Plan.Rows)
		for m := range app.Members {
			free("slot", o.slots+m*padded(app.InFlightMax), app.InFlightMax)
		}
		free("place", o.places, app.QueueLen)
	}
}

// TestProcessOrder: with one slot, it goes by ticket. Somebody older can be passed
// only between the drawing of its ticket and its publication, which happen under the
// lock of its row: at each grant there are fewer of those than rows.
func TestProcessOrder(t *testing.T) {
	const rows = 4
	h := build(t, order{Plan: one(1, 1, 99, rows), Callers: 8, Limit: patience, Stall: time.Hour})
	h.startAll("order")
	until(t, "5,000 waited", func() bool { return h.at(ledgerLogged).Load() >= 5000 })
	h.stop()
	log := h.words[ledgerLog:][:h.at(ledgerLogged).Load()]
	passed, most := 0, 0
	for i := range log {
		older := 0
		for j := i + 1; j < min(len(log), i+1000); j++ {
			if log[j].Load() < log[i].Load() {
				older++
			}
		}
		passed, most = passed+older, max(most, older)
	}
	t.Logf("%d slots by ticket; %d times somebody older was passed, at most %d at a time", len(log), passed, most)
	if most > rows-1 {
		t.Errorf("%d older ones were waiting", most)
	}
	(&table{Memory: h.memory}).empty(t)
}

// TestProcessExact: 1,000 requests in four cores at once; then one core that has a
// slot dies.
func TestProcessExact(t *testing.T) {
	for _, rows := range []int{1, 2, 4} {
		h := build(t, order{Plan: one(1, 2, 100, rows), Callers: 1000 / rows, Limit: patience})
		h.startAll("crowd")
		until(t, "898 refused", func() bool { return h.at(ledgerRefused).Load() >= 898 })
		until(t, "2 busy", func() bool { return h.busy(rows, 0) == 2 })
		queued := (&Queue{shared: h.memory.shared(1, 0)}).sum(0)
		if queued != 100 {
			t.Errorf("%d rows: %d queued", rows, queued)
		}
		done := uint64(102)
		if rows > 1 {
			victim := h.victim()
			done -= h.lost(victim) // all, if it was quicker than the other cores
			h.kill(victim)
			left := int(min(done, 2))
			until(t, "2 busy again", func() bool { return h.busy(rows, 0) == left })
		}
		h.stop()
		if refused, ran, many := h.at(ledgerRefused).Load(), h.at(ledgerDone).Load(), h.at(ledgerTooMany).Load(); refused != 898 || ran != done || many != 0 {
			t.Errorf("%d rows: %d refused, %d of %d ran, %d times too many", rows, refused, ran, done, many)
		}
		(&table{Memory: h.memory}).empty(t)
	}
}

// victim is a core that has a slot.
func (h *house) victim() int {
	for row := range h.order.Plan.Rows {
		for caller := range h.callers {
			if h.busyWord(row, caller).Load()&255 != 0 {
				return row
			}
		}
	}
	h.t.Fatal("nobody is busy")
	return 0
}

// lost is how many requests die with a core: those with a slot or a place.
func (h *house) lost(row int) uint64 {
	lost := h.memory.shared(1, row).mine[0].Load()
	for caller := range h.callers {
		if h.busyWord(row, caller).Load()&255 != 0 {
			lost++
		}
	}
	return lost
}
