package board

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 20 * time.Second

// A table is a board with all its rows in this process, in each of which everything
// is as it would be in one of its own.
type table struct {
	*Memory
	fd   int
	rows []*Board
}

func lay(t testing.TB, plan Plan) *table {
	t.Helper()
	fd, wakes, err := Create(plan)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Map(fd, wakes, plan)
	if err != nil {
		t.Fatal(err)
	}
	s := &table{Memory: m, fd: fd}
	for row := range plan.Rows {
		s.open(t, row)
	}
	t.Cleanup(func() {
		for _, b := range s.rows {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := m.Unmap(); err != nil {
			t.Error(err)
		}
		for _, fd := range append(wakes, fd) {
			unix.Close(fd)
		}
	})
	return s
}

func (s *table) open(t testing.TB, row int) {
	t.Helper()
	b, err := Open(s.fd, s.wakes, s.plan, row)
	if err != nil {
		t.Fatal(err)
	}
	s.rows = append(s.rows, b)
}

func one(members, inFlightMax, queueLen, rows int) Plan {
	return Plan{Rows: rows, Apps: []App{{Members: 1}, {members, inFlightMax, queueLen}, {Members: 3, InFlightMax: 5, QueueLen: 7}}}
}

// queue is that of the app in the middle of one.
func (s *table) queue(row int) *Queue { return s.rows[row].Queue(1) }

// until asks every millisecond.
func until(t testing.TB, what string, so func() bool) {
	t.Helper()
	limit := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}

func in(d time.Duration) time.Time { return time.Now().Add(d) }

// must takes a slot that should be there at once.
func must(t testing.TB, q *Queue, w *Waiter, member int) {
	t.Helper()
	got, err := q.Acquire(w, 0, in(patience), nil)
	if err != nil || got != member || w.Waited() {
		t.Fatalf("member %d, %v, waited: %v; want member %d at once", got, err, w.Waited(), member)
	}
}

// A visitor is a client that leaves when it is told to.
type visitor struct{ left atomic.Bool }

func (v *visitor) Left() bool { return v.left.Load() }
func (v *visitor) leave()     { v.left.Store(true) }

// An outcome is what became of an Acquire that had to wait.
type outcome struct {
	name   string
	member int
	err    error
}

// wait starts an Acquire and returns when it is in the line.
func wait(t testing.TB, q *Queue, w *Waiter, name string, avoid uint64, client Client, ended chan<- outcome) {
	t.Helper()
	before := q.waiting.Load()
	go func() {
		member, err := q.Acquire(w, avoid, in(patience), client)
		ended <- outcome{name, member, err}
	}()
	until(t, name+" waits", func() bool { return q.waiting.Load() > before })
}

func expect(t testing.TB, ended <-chan outcome, want outcome) {
	t.Helper()
	select {
	case got := <-ended:
		if got.name != want.name || got.member != want.member || !errors.Is(got.err, want.err) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("nobody came, want %+v", want)
	}
}

// empty checks that nothing is held.
func (s *table) empty(t testing.TB) {
	t.Helper()
	for app, o := range s.apps {
		for i := o.heads; i < o.places+s.plan.Apps[app].QueueLen; i++ {
			if v := s.all[i].Load(); v != 0 {
				t.Errorf("app %d: word %d is %d (slots from %d, places from %d)", app, i-o.heads, v, o.slots-o.heads, o.places-o.heads)
			}
		}
	}
	for i := s.layout.rows; i < s.words; i++ {
		if v := s.all[i].Load(); v != 0 {
			t.Errorf("count %d is %d", i-s.layout.rows, v)
		}
	}
}

func TestPlanRefused(t *testing.T) {
	for want, plan := range map[string]Plan{
		"0 rows":              {},
		"1025 rows":           {Rows: 1025},
		"app 1: 0 members":    {Rows: 1, Apps: []App{{Members: 1}, {}}},
		"65 members":          {Rows: 1, Apps: []App{{Members: 65}}},
		"-1 in flight":        {Rows: 1, Apps: []App{{1, -1, 0}}},
		"a queue of -1":       {Rows: 1, Apps: []App{{1, 1, -1}}},
		"a queue of 1048577":  {Rows: 1, Apps: []App{{1, 1, 1<<20 + 1}}},
		"65537 in flight":     {Rows: 1, Apps: []App{{1, 1<<16 + 1, 0}}},
		"more than 536870912": {Rows: 1, Apps: make([]App, 100)},
		"70000 apps":          {Rows: 1, Apps: make([]App, 70000)},
	} {
		for i := range plan.Apps {
			if len(plan.Apps) == 100 {
				plan.Apps[i] = App{MembersMax, InFlightMax, QueueMax}
			}
		}
		if _, _, err := Create(plan); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestMapRefused(t *testing.T) {
	plan := one(1, 1, 1, 2)
	s := lay(t, plan)
	for _, seal := range []int{unix.F_SEAL_SHRINK, unix.F_SEAL_WRITE} {
		if _, err := unix.FcntlInt(uintptr(s.fd), unix.F_ADD_SEALS, seal); err == nil {
			t.Error("a seal was added")
		}
	}
	if unix.Ftruncate(s.fd, 8) == nil || unix.Ftruncate(s.fd, 1<<20) == nil {
		t.Error("the size was changed")
	}
	loose, err := unix.MemfdCreate("loose", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(loose)
	for want, open := range map[string]func() (*Board, error){
		"another plan":  func() (*Board, error) { return Open(s.fd, s.wakes, one(1, 99, 1, 2), 0) },
		"2 wake-ups":    func() (*Board, error) { return Open(s.fd, s.wakes, one(1, 1, 1, 3), 0) },
		"not sealed":    func() (*Board, error) { return Open(loose, s.wakes, plan, 0) },
		"bad file":      func() (*Board, error) { return Open(-1, s.wakes, plan, 0) },
		"no row 2":      func() (*Board, error) { return Open(s.fd, s.wakes, plan, 2) },
		"no row -1":     func() (*Board, error) { return Open(s.fd, s.wakes, plan, -1) },
		"can be polled": func() (*Board, error) { return Open(s.fd, []int{s.fd, s.fd}, plan, 0) },
	} {
		if _, err := open(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestPick(t *testing.T) {
	s := lay(t, one(3, 0, 0, 2))
	q, w := s.queue(0), make([]Waiter, 9)
	must(t, q, &w[0], 0)
	must(t, s.queue(1), &w[1], 1) // another row counts as well
	must(t, q, &w[2], 2)
	must(t, q, &w[3], 0)
	s.queue(1).Release(&w[1])
	must(t, q, &w[4], 1)
	if m, err := q.Acquire(&w[5], 1<<1|1<<2, in(patience), nil); m != 0 || err != nil {
		t.Errorf("%d, %v: 1 and 2 were to be avoided", m, err)
	}
	q.Shut(0)
	if m, err := q.Acquire(&w[6], 1<<1|1<<2, in(patience), nil); m == 0 || err != nil {
		t.Errorf("%d, %v: 0 is shut, so the avoided must do", m, err)
	}
	q.Shut(1)
	q.Shut(2)
	if _, err := q.Acquire(&w[7], 0, in(patience), nil); err != nil {
		t.Errorf("%v: without a line, shut members must do", err)
	}
	if got := fmt.Sprint(q.Stats(), s.queue(1).Stats()); got != "{[3 2 2] 0 0 0} {[3 2 2] 0 0 0}" {
		t.Errorf("%s", got)
	}
	for i := range w {
		q.Release(&w[i]) // what has nothing gives nothing
	}
	s.empty(t)
}

func TestNoLine(t *testing.T) {
	s := lay(t, one(2, 2, 0, 2))
	w := make([]Waiter, 5)
	for i, member := range []int{0, 1, 0, 1} {
		must(t, s.queue(i%2), &w[i], member)
	}
	if _, err := s.queue(0).Acquire(&w[4], 0, in(patience), nil); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	s.queue(1).Release(&w[1])
	if m, err := s.queue(0).Acquire(&w[4], 0, in(patience), nil); m != 1 || err != nil {
		t.Errorf("%d %v", m, err)
	}
	// A slot that was refused is given back before the next is looked for.
	if m, err := s.queue(0).Acquire(&w[4], 1<<0, in(patience), nil); m != 1 || err != nil {
		t.Errorf("%d %v", m, err)
	}
	for i := range w {
		s.queue(i % 2).Release(&w[i])
	}
	s.empty(t)
}

// TestOrder: over three rows, everybody in turn; who gives up frees a place at once.
func TestOrder(t *testing.T) {
	s := lay(t, one(1, 1, 4, 3))
	var first Waiter
	must(t, s.queue(0), &first, 0)
	w, ended, client := make([]Waiter, 5), make(chan outcome, 9), new(visitor)
	names := []string{"a", "b", "c", "d", "e"}
	wait(t, s.queue(1), &w[0], names[0], 0, nil, ended)
	wait(t, s.queue(0), &w[1], names[1], 0, client, ended)
	wait(t, s.queue(2), &w[2], names[2], 0, nil, ended)
	wait(t, s.queue(1), &w[3], names[3], 0, nil, ended)
	if _, err := s.queue(2).Acquire(&w[4], 0, in(patience), nil); !errors.Is(err, ErrFull) {
		t.Fatalf("%v: all four places are taken", err)
	}
	if got := s.queue(2).Stats(); got.Queued != 4 || got.InFlight[0] != 1 || got.Waiting != 1 {
		t.Errorf("%+v", got)
	}
	client.leave()
	expect(t, ended, outcome{"b", -1, ErrGone})
	if _, err := s.queue(2).Acquire(&w[4], 0, in(time.Millisecond), nil); !errors.Is(err, ErrTime) {
		t.Fatalf("%v: there was a place", err)
	}
	wait(t, s.queue(2), &w[4], names[4], 0, nil, ended)
	s.queue(0).Release(&first)
	for _, i := range []int{0, 2, 3, 4} {
		expect(t, ended, outcome{names[i], 0, nil})
		q := s.queue([]int{1, 0, 2, 1, 2}[i])
		if n := q.Stats().InFlight[0]; n != 1 { // whether it has parked, nobody knows here
			t.Errorf("%d in flight", n)
		}
		if i == 0 {
			q.Settle(&w[i])
			if n := q.Stats().Queued; n != 3 {
				t.Errorf("%d queued, settled", n)
			}
		}
		q.Release(&w[i])
	}
	s.empty(t)
}

// TestRefused: whoever comes back with a ticket stands before those who came later,
// whether it had waited or not.
func TestRefused(t *testing.T) {
	s := lay(t, one(1, 2, 4, 2))
	w, ended := make([]Waiter, 4), make(chan outcome, 9)
	q := s.queue(0)
	must(t, q, &w[0], 0)
	must(t, s.queue(1), &w[1], 0)
	wait(t, s.queue(1), &w[2], "c", 0, nil, ended)
	wait(t, q, &w[3], "d", 0, nil, ended)
	for _, q := range []*Queue{q, s.queue(1)} {
		q.mu.Lock()
		q.probed = in(time.Hour) // nobody is sent to look
		q.mu.Unlock()
		q.Shut(0)
	}
	wait(t, s.queue(1), &w[1], "b", 0, nil, ended)
	wait(t, q, &w[0], "a", 0, nil, ended)
	if n := q.Stats(); n.Queued != 4 || n.InFlight[0] != 0 {
		t.Errorf("%+v", n)
	}
	s.queue(1).Open(0)
	if got := []outcome{<-ended, <-ended}; got[0].name+got[1].name != "bc" && got[0].name+got[1].name != "cb" {
		t.Errorf("%v", got)
	}
	q.Open(0)
	s.queue(1).Release(&w[1])
	expect(t, ended, outcome{"a", 0, nil})
	s.queue(1).Release(&w[2])
	expect(t, ended, outcome{"d", 0, nil})
	q.Release(&w[0])
	q.Release(&w[3])
	s.empty(t)
}

// TestHeld: while nothing answers, one is sent to look at a time, to one member after
// the other; once it has found something, all go, in order.
func TestHeld(t *testing.T) {
	s := lay(t, one(2, 0, 9, 2))
	q, ended, w := s.queue(1), make(chan outcome, 9), make([]Waiter, 4)
	q.Shut(0)
	q.Shut(1)
	must(t, q, &w[0], 0) // nobody has looked yet
	for i, name := range []string{"b", "c", "d"} {
		q.mu.Lock()
		q.probed = in(time.Hour)
		q.mu.Unlock()
		wait(t, q, &w[1+i], name, 0, nil, ended)
	}
	if n := q.Stats(); n.Queued != 4 || n.Waiting != 3 || n.InFlight[0] != 1 {
		t.Errorf("%+v", n)
	}
	q.mu.Lock()
	q.probed = time.Time{}
	q.mu.Unlock()
	if m, err := q.Acquire(&w[0], 0, in(patience), nil); m != 1 || err != nil {
		t.Fatalf("member %d, %v: the first is to look again, elsewhere", m, err)
	}
	q.Open(1)
	got := map[string]bool{}
	for range 3 {
		o := <-ended
		if o.member != 1 || o.err != nil {
			t.Errorf("%+v", o)
		}
		got[o.name] = true
	}
	if len(got) != 3 {
		t.Error(got)
	}
	for i := range w {
		q.Release(&w[i])
	}
	s.empty(t)
}

// TestHeldLooks: without any other event, the pause sends somebody again and again.
func TestHeldLooks(t *testing.T) {
	s := lay(t, one(1, 1, 9, 1))
	q, w := s.queue(0), Waiter{}
	must(t, q, &w, 0)
	for range 3 {
		q.Shut(0)
		if m, err := q.Acquire(&w, 0, in(patience), nil); m != 0 || err != nil {
			t.Fatal(m, err)
		}
	}
	q.Shut(0)
	q.mu.Lock()
	q.probed = in(time.Hour)
	q.mu.Unlock()
	if _, err := q.Acquire(&w, 0, in(probePause/20), nil); !errors.Is(err, ErrTime) {
		t.Error(err)
	}
	s.empty(t)
}

// TestAside: a waiter for whom no free slot will do lets others go first, here and
// in other rows, and is not forgotten.
func TestAside(t *testing.T) {
	s := lay(t, one(2, 1, 9, 2))
	ended, w := make(chan outcome, 9), make([]Waiter, 5)
	must(t, s.queue(0), &w[0], 0)
	must(t, s.queue(1), &w[1], 1)
	wait(t, s.queue(0), &w[2], "only 1", 1<<0, nil, ended)
	wait(t, s.queue(0), &w[3], "any", 0, nil, ended)
	wait(t, s.queue(1), &w[4], "elsewhere", 0, nil, ended)
	s.queue(0).Release(&w[0])
	expect(t, ended, outcome{"any", 0, nil})
	s.queue(0).Release(&w[3])
	expect(t, ended, outcome{"elsewhere", 0, nil})
	s.queue(1).Release(&w[1])
	expect(t, ended, outcome{"only 1", 1, nil})
	s.queue(0).Release(&w[2])
	s.queue(1).Release(&w[4])
	s.empty(t)
}

// TestClear: what a dead row held goes to the others.
func TestClear(t *testing.T) {
	s := lay(t, one(1, 2, 3, 3))
	ended, w := make(chan outcome, 9), make([]Waiter, 4)
	must(t, s.queue(0), &w[0], 0)
	must(t, s.queue(1), &w[1], 0)
	client := new(visitor)
	wait(t, s.queue(0), &w[2], "of the dead", 0, client, ended)
	wait(t, s.queue(2), &w[3], "alive", 0, nil, ended)
	if err := s.Clear(3); err == nil {
		t.Error("row 3 of 3")
	}
	// Its process is taken for dead: nobody looks at its line any more.
	s.rows[0].stall = time.Hour
	s.queue(0).mu.Lock()
	if err := s.Clear(0); err != nil {
		t.Fatal(err)
	}
	expect(t, ended, outcome{"alive", 0, nil})
	if n := s.queue(2).Stats(); n.InFlight[0] != 2 || n.Queued != 1 {
		t.Errorf("%+v", n)
	}
	s.queue(0).mu.Unlock()
	client.leave()
	expect(t, ended, outcome{"of the dead", -1, ErrGone})
	s.queue(0).Release(&w[0]) // has no slot by that number any more
	s.queue(1).Release(&w[1])
	s.queue(2).Release(&w[3])
	if err := s.Clear(0); err != nil {
		t.Fatal(err)
	}
	s.empty(t)
}

// TestClearVacant: what a core wrote in the name of rows that nobody has goes with it.
func TestClearVacant(t *testing.T) {
	const rows = 4
	s := lay(t, one(2, 2, 3, rows))
	var alive Waiter
	must(t, s.queue(1), &alive, 0)
	for i, app := range s.plan.Apps {
		o := s.apps[i]
		for member := range app.Members {
			for slot := range app.InFlightMax {
				s.all[o.slots+member*padded(app.InFlightMax)+slot].CompareAndSwap(0, rowNumber(2+slot%2))
			}
		}
		for place := range app.QueueLen {
			s.all[o.places+place].Store(rowNumber(2 + place%3))
		}
		s.all[o.heads+3].Store(firstTicket)
	}
	for i := range s.stride {
		s.all[s.layout.rows+2*s.stride+i].Store(9)
	}
	if err := s.Clear(0, 2, 3); err != nil {
		t.Fatal(err)
	}
	if got := s.queue(1).Stats(); got.Queued != 0 || got.InFlight[0] != 1 || got.InFlight[1] != 0 {
		t.Errorf("%+v", got)
	}
	var w [3]Waiter
	for i, member := range []int{1, 0, 1} {
		must(t, s.queue(1), &w[i], member)
	}
	for _, w := range []*Waiter{&alive, &w[0], &w[1], &w[2]} {
		s.queue(1).Release(w)
	}
	s.empty(t)
}
