package board

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestExact: 1,000 requests at once over four rows: 2 run, 100 wait, 898 are refused.
// Once the gate is open the 100 run, never more than 2 at a time.
func TestExact(t *testing.T) {
	for _, rows := range []int{1, 2, 4} {
		s := lay(t, one(1, 2, 100, rows))
		var refused, running, ran atomic.Int64
		var all sync.WaitGroup
		gate := make(chan struct{})
		for i := range 1000 {
			all.Go(func() {
				q, w := s.queue(i%rows), Waiter{}
				_, err := q.Acquire(&w, 0, in(patience), nil)
				switch {
				case errors.Is(err, ErrFull):
					refused.Add(1)
					return
				case err != nil:
					t.Error(err)
					return
				}
				q.Settle(&w)
				if n := running.Add(1); n > 2 {
					t.Errorf("%d at once", n)
				}
				<-gate
				running.Add(-1)
				ran.Add(1)
				q.Release(&w)
			})
		}
		until(t, "898 refused", func() bool { return refused.Load() >= 898 })
		until(t, "2 run", func() bool { return running.Load() == 2 })
		if n := s.queue(0).Stats(); n.InFlight[0] != 2 || n.Queued != 100 {
			t.Errorf("%d rows: %+v", rows, n)
		}
		close(gate)
		all.Wait()
		if refused.Load() != 898 || ran.Load() != 102 {
			t.Errorf("%d rows: %d refused, %d ran", rows, refused.Load(), ran.Load())
		}
		s.empty(t)
	}
}

// TestStorm: waiters that leave at any moment, with their slot just coming, take
// nothing with them.
func TestStorm(t *testing.T) {
	const rows = 3
	s := lay(t, one(2, 1, 50, rows))
	var all sync.WaitGroup
	var running [2]atomic.Int64
	var taken, gone atomic.Int64
	for i := range 60 {
		all.Go(func() {
			q, w := s.queue(i%rows), Waiter{}
			for n := range 100 {
				client, deadline := new(visitor), in(patience)
				switch n % 3 {
				case 0:
					time.AfterFunc(time.Duration(n*i%1000)*time.Microsecond, client.leave)
				case 1:
					deadline = in(time.Duration(n*i%1000) * time.Microsecond)
				}
				m, err := q.Acquire(&w, uint64(n&i&3), deadline, client)
				if err != nil {
					gone.Add(1)
					continue
				}
				if running[m].Add(1) > 1 {
					t.Error("two at once")
				}
				<-time.After(50 * time.Microsecond) // the request
				running[m].Add(-1)
				if n%5 == 0 {
					q.Settle(&w)
				}
				q.Release(&w)
				taken.Add(1)
			}
		})
	}
	all.Wait()
	if t.Logf("%d taken, %d gone", taken.Load(), gone.Load()); taken.Load() == 0 || gone.Load() == 0 {
		t.Error("no storm")
	}
	s.empty(t)
}

// TestStalled: a row whose waiter never takes what it is given delays others by one
// patience; one that shows ever new and older tickets, by a part of the time.
func TestStalled(t *testing.T) {
	s := lay(t, one(1, 1, 9, 2))
	q, w := s.queue(0), Waiter{}
	s.queue(1).heads[1].Store(firstTicket)
	must := func() {
		t.Helper()
		if _, err := q.Acquire(&w, 0, in(patience), nil); err != nil {
			t.Fatal(err)
		}
		q.Release(&w)
	}
	q.next.Store(100)
	must()
	must()
	if n := q.Stats().Passed; n != 1 {
		t.Errorf("passed over %d times: the same ticket needs patience once", n)
	}
	begun, stop := make(chan struct{}), make(chan struct{})
	var liar sync.WaitGroup
	liar.Go(func() {
		for n := uint64(0); ; n++ {
			select {
			case <-stop:
				return
			default:
				q.heads[1].Store(firstTicket + n%97)
			}
			if n == 0 {
				close(begun)
			}
		}
	})
	<-begun
	until(t, "the liar is noticed", func() bool { must(); return q.Stats().Passed > 1 })
	close(stop)
	liar.Wait()
	q.heads[1].Store(0)
	s.empty(t)
}

// TestStalledOnce: a row that was too slow once has its turn again, however many come to
// the others meanwhile.
func TestStalledOnce(t *testing.T) {
	s := lay(t, one(1, 1, 20, 2))
	busy, slow := s.queue(0), s.queue(1)
	var first, old Waiter
	ended := make(chan outcome, 1)
	must(t, busy, &first, 0)
	wait(t, slow, &old, "old", 0, nil, ended)
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	var taken atomic.Int64
	for range 4 { // so that the line of the busy row is never empty
		crowd.Go(func() {
			var w Waiter
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := busy.Acquire(&w, 0, in(patience), nil); err != nil {
					t.Error(err)
					return
				}
				taken.Add(1)
				<-time.After(50 * time.Microsecond) // the request
				busy.Release(&w)
			}
		})
	}
	until(t, "a line", func() bool { return busy.waiting.Load() == 4 })
	slow.mu.Lock() // its process has no processor
	busy.Release(&first)
	until(t, "the others go on", func() bool { return taken.Load() > 100 })
	slow.mu.Unlock()
	expect(t, ended, outcome{"old", 0, nil})
	slow.Release(&old)
	close(stop)
	crowd.Wait()
	s.empty(t)
}

// TestStalledForgotten: that a row kept others from a free slot is no reason for impatience
// once it does not any more.
func TestStalledForgotten(t *testing.T) {
	s := lay(t, one(1, 1, 9, 2))
	q, w := s.queue(0), Waiter{}
	s.rows[0].stall = patience
	q.next.Store(100)
	q.heads[1].Store(firstTicket)
	for range 2 {
		if _, err := q.Acquire(&w, 0, in(2*pause), nil); !errors.Is(err, ErrTime) {
			t.Errorf("%v: it was the turn of somebody older", err)
		}
		q.mu.Lock()
		if !q.blocked.since.IsZero() {
			q.blocked.since = q.blocked.since.Add(-time.Hour)
		}
		q.mu.Unlock()
		q.heads[1].Store(firstTicket + 1)
	}
	if n := q.Stats().Passed; n != 0 {
		t.Errorf("passed over %d times", n)
	}
	q.heads[1].Store(0)
	s.empty(t)
}
