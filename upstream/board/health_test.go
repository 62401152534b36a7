package board

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"syscall"
	"testing"
	"time"
)

// TestHeed: a member whose check fails is left out by every row that heeds checks, and
// never the last one, also where others are shut.
func TestHeed(t *testing.T) {
	s := lay(t, one(3, 0, 4, 3))
	q, w := s.queue(0), make([]Waiter, 9)
	q.HeedChecks()
	s.queue(1).HeedChecks()
	if !q.Judge(1, BadStatus(503)) || q.Judge(1, Silent) || q.Judge(0, 0) {
		t.Error("news is what changes, and nothing else")
	}
	for _, verdict := range []Trouble{Silent, 0, Silent} { // it has looked for another reason at first, perhaps
		q.Judge(1, verdict)
		until(t, "the other row to hear of it", func() bool { return (s.queue(1).LeftOut() == 1<<1) == (verdict != 0) })
	}
	if s.queue(2).unfit.Load() != 0 {
		t.Error("one that does not heed checks does")
	}
	for i, member := range []int{0, 2, 0, 2} {
		must(t, s.queue(i%2), &w[i], member)
	}
	q.Shut(0)
	q.Judge(2, HungUp)
	must(t, q, &w[4], 1) // the least busy of those that are open, for all of them fail
	if q.Shut(1); q.Held() {
		t.Error("held, and 2 is not shut")
	}
	must(t, q, &w[5], 2)
	q.Open(1)
	if !q.Judge(1, 0) || q.unfit.Load() != 1<<2 {
		t.Error("1 is well again")
	}
	must(t, q, &w[6], 1)
	for i := range w {
		if i == 1 || i == 3 {
			s.queue(1).Release(&w[i])
		}
		q.Release(&w[i]) // what has nothing gives nothing
	}
	for row := range s.rows {
		s.queue(row).Open(0)
		s.queue(row).Open(1)
	}
}

// TestHeedWaiting: who waits for a slot has one when its member is well again.
func TestHeedWaiting(t *testing.T) {
	s := lay(t, one(2, 1, 4, 2))
	q, w := s.queue(0), make([]Waiter, 3)
	q.HeedChecks()
	q.Judge(1, Silent)
	must(t, q, &w[0], 0)
	ended := make(chan outcome, 1)
	wait(t, q, &w[1], "waits", 0, nil, ended)
	if !q.TryTake(&w[2], 1) || q.TryTake(new(Waiter), 0) {
		t.Error("only the member that is left out has a slot that nobody waits for")
	}
	q.Release(&w[2])
	s.queue(1).Judge(1, 0)
	expect(t, ended, outcome{"waits", 1, nil})
	q.Release(&w[0])
	q.Release(&w[1])
	s.empty(t)
}

// TestTryTake: a check has no slot that does not exist.
func TestTryTake(t *testing.T) {
	s := lay(t, one(2, 2, 4, 2))
	q, w := s.queue(0), make([]Waiter, 5)
	for i := range 3 {
		if got, want := q.TryTake(&w[i], 1), i < 2; got != want {
			t.Errorf("slot %d of 2: %v", i+1, got)
		}
	}
	must(t, s.queue(1), &w[3], 0)
	q.Release(&w[0])
	if !q.TryTake(&w[0], 1) {
		t.Error("no slot, and one was given back")
	}
	s.queue(1).Release(&w[3])
	for i := range w {
		q.Release(&w[i])
	}
	s.empty(t)
}

// TestShutUnlessLast: whoever asks, one member stays open.
func TestShutUnlessLast(t *testing.T) {
	s := lay(t, one(3, 0, 0, 1))
	q := s.queue(0)
	for i, want := range []bool{true, false, true, false} { // 0, 0, 1, 2
		if got := q.ShutUnlessLast([]int{0, 0, 1, 2}[i]); got != want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if got := q.wanted(0); got != 1<<2 {
		t.Errorf("%b is left", got)
	}
}

// TestLose: it is news once, over all rows, that a member is lost, and that it is back.
func TestLose(t *testing.T) {
	s := lay(t, one(2, 0, 0, 2))
	q, other := s.queue(0), s.queue(1)
	got := fmt.Sprint(other.Find(1), q.Lose(1, Trouble(syscall.ENOENT)), other.Lose(1, Silent), q.Lose(1, Silent),
		s.Report(1).Members[1].Lost, other.Find(1), q.Find(1), s.Report(1).Members[1].Lost, q.Lose(1, Silent))
	if want := "false true false false no such file or directory true false  true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n := s.Report(1).Members[1].Counts[TimesLost]; n != 2 {
		t.Errorf("lost %d times", n)
	}
}

// TestClaimCheck: a check is due for one row, every so often, whatever the clock does and
// somebody writes.
func TestClaimCheck(t *testing.T) {
	s := lay(t, one(2, 0, 0, 2))
	q, other := s.queue(0), s.queue(1)
	const every = time.Second
	now := time.Unix(2e9, 0)
	claim := func(q *Queue, after time.Duration, want bool, left time.Duration) {
		t.Helper()
		mine, next := q.ClaimCheck(1, now.Add(after), every)
		if mine != want || next.Sub(now.Add(after)) != left {
			t.Errorf("after %v: %v, next in %v", after, mine, next.Sub(now.Add(after)))
		}
	}
	claim(q, 0, true, every)
	claim(other, 0, false, every)
	claim(q, every-1, false, 1)
	claim(other, every, true, every)
	claim(q, every, false, every)
	claim(q, -time.Hour, true, every) // the clock was set back
	for _, lie := range []uint64{math.MaxUint64, math.MaxInt64, 1 << 63} {
		q.checked[1].Store(lie)
		claim(q, 0, true, every)
	}
	if mine, _ := q.ClaimCheck(0, now, every); !mine {
		t.Error("each member has checks of its own")
	}
}

// TestReport: what rows have counted is there after they are gone, and no lie makes it
// overflow.
func TestReport(t *testing.T) {
	s := lay(t, one(2, 1, 2, 2))
	q, other, w := s.queue(0), s.queue(1), make([]Waiter, 4)
	must(t, q, &w[0], 0)
	must(t, other, &w[1], 1)
	ended := make(chan outcome, 1)
	wait(t, q, &w[2], "waits", 0, nil, ended)
	for _, q := range []*Queue{q, other, other} {
		q.Count(Full)
		q.Count(Failed)
		q.CountMember(1, Served)
		q.CountMember(1, ChecksFailed)
	}
	want := AppReport{InFlight: 2, Queued: 1, Counts: [Tallies]uint64{Full: 3, Failed: 3}, Members: []MemberReport{
		{InFlight: 1}, {InFlight: 1, Counts: [MemberTallies]uint64{Served: 3, ChecksFailed: 3}},
	}}
	if got := s.Report(1); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	other.Release(&w[1])
	expect(t, ended, outcome{"waits", 1, nil})
	q.Release(&w[0])
	q.Release(&w[2])
	for range 2 {
		if err := s.Clear(1); err != nil {
			t.Fatal(err)
		}
	}
	other.Count(Full)
	want.InFlight, want.Queued, want.Counts[Full] = 0, 0, 4
	want.Members[0].InFlight, want.Members[1].InFlight = 0, 0
	if got := s.Report(1); !reflect.DeepEqual(got, want) {
		t.Errorf("after the end of a row: %+v", got)
	}
	if got := s.Report(0); !reflect.DeepEqual(got, AppReport{Members: make([]MemberReport, 1)}) {
		t.Errorf("of another app: %+v", got)
	}
	for i := range s.all {
		s.all[i].Store(math.MaxUint64)
	}
	r := s.Report(1)
	if r.InFlight <= 0 || r.Queued <= 0 || r.Counts[Full] < 1<<48 || r.Members[1].Counts[Served] > 1<<60 || r.Members[1].Check.String() != "nothing that can be known" {
		t.Errorf("of a board full of lies: %+v", r)
	}
	for i := range s.all {
		s.all[i].Store(0)
	}
}

func TestTrouble(t *testing.T) {
	for trouble, want := range map[Trouble]string{
		0: "", Trouble(syscall.ECONNREFUSED): "connection refused", Silent: "no answer in time",
		HungUp: "connection closed before the answer", Malformed: "the answer is no HTTP", BadStatus(404): "status 404",
		BadStatus(99): "nothing that can be known", BadStatus(1000): "nothing that can be known", statuses: "nothing that can be known",
	} {
		if got := trouble.String(); got != want {
			t.Errorf("%d: %q, want %q", trouble, got, want)
		}
	}
}

// TestHeedHeld: where everything is shut requests wait, whatever checks say.
func TestHeedHeld(t *testing.T) {
	s := lay(t, one(1, 1, 1, 1))
	q, w := s.queue(0), new(Waiter)
	q.HeedChecks()
	q.Judge(0, Silent)
	must(t, q, w, 0)
	q.Release(w)
	if q.Shut(0); !q.Held() {
		t.Error("not held, and the only member is shut")
	}
	if _, err := q.Acquire(w, 0, in(time.Millisecond), nil); err != nil && !errors.Is(err, ErrTime) {
		t.Error(err)
	}
	q.Release(w)
	q.Open(0)
	s.empty(t)
}
