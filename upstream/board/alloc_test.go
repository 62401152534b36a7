package board

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

func TestAlloc(t *testing.T) {
	for _, plan := range []App{{1, 0, 0}, {3, 0, 100}, {1, 2, 0}, {3, 2, 100}} {
		s := lay(t, Plan{Rows: 4, Apps: []App{plan}})
		q, w := s.rows[2].Queue(0), Waiter{}
		n := testing.AllocsPerRun(1000, func() {
			if _, err := q.Acquire(&w, 0, in(patience), nil); err != nil {
				t.Fatal(err)
			}
			q.Settle(&w)
			q.Release(&w)
		})
		if n != 0 {
			t.Errorf("%+v: %v allocations", plan, n)
		}
	}
}

// TestAllocQueued: two waiters of different rows and one slot, which goes from one to
// the other and back: every Acquire waits.
func TestAllocQueued(t *testing.T) {
	s := lay(t, one(1, 1, 4, 2))
	s.rows[0].stall, s.rows[1].stall = patience, patience
	play := newDuel(t, s, s.queue(0), s.queue(1))
	defer play.end()
	if n := testing.AllocsPerRun(1000, play.round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A duel is two waiters who take turns with one slot.
type duel struct {
	t     testing.TB
	turn  chan *Queue // whose Acquire is to come
	taken chan struct{}
	w     [2]Waiter
	q     [2]*Queue
	done  sync.WaitGroup
}

func newDuel(t testing.TB, s *table, one, other *Queue) *duel {
	d := &duel{t: t, turn: make(chan *Queue), taken: make(chan struct{}), q: [2]*Queue{one, other}}
	must(t, one, &d.w[0], 0)
	d.done.Go(d.otherLoop)
	return d
}

func (d *duel) otherLoop() {
	for q := range d.turn {
		d.acquire(q, 1)
		d.taken <- struct{}{}
		q.Release(&d.w[1])
		d.taken <- struct{}{}
	}
}

func (d *duel) acquire(q *Queue, w int) {
	if _, err := q.Acquire(&d.w[w], 0, in(patience), nil); err != nil {
		d.t.Error(err)
	}
}

// round begins and ends with the slot at the first one.
func (d *duel) round() {
	d.turn <- d.q[1]
	for d.q[1].waiting.Load() == 0 {
		runtime.Gosched()
	}
	d.q[0].Release(&d.w[0])
	<-d.taken
	<-d.taken
	d.acquire(d.q[0], 0)
}

func (d *duel) end() {
	close(d.turn)
	d.done.Wait()
	d.q[0].Release(&d.w[0])
}

func BenchmarkAcquire(b *testing.B) {
	for _, app := range []App{{1, 0, 0}, {1, 0, 100}, {3, 0, 100}, {1, 64, 0}, {1, 64, 100}, {3, 64, 100}} {
		for _, rows := range []int{1, 4, 16} {
			name := fmt.Sprintf("members=%d/limit=%d/queue=%d/rows=%d", app.Members, app.InFlightMax, app.QueueLen, rows)
			b.Run(name, func(b *testing.B) {
				s := lay(b, Plan{Rows: rows, Apps: []App{app}})
				q, w, limit := s.rows[0].Queue(0), Waiter{}, in(patience)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := q.Acquire(&w, 0, limit, nil); err != nil {
						b.Fatal(err)
					}
					q.Settle(&w)
					q.Release(&w)
				}
			})
		}
	}
}

// BenchmarkQueued is a round of a duel: two hand-overs, one of them after a wait.
func BenchmarkQueued(b *testing.B) {
	for rows := 1; rows <= 2; rows++ {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			s := lay(b, one(1, 1, 4, rows))
			play := newDuel(b, s, s.queue(0), s.queue(rows-1))
			defer play.end()
			b.ReportAllocs()
			for b.Loop() {
				play.round()
			}
		})
	}
}
