package spool

import (
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
	"time"
)

// fill is a reply that leaves its app less than one block.
func fill(t *testing.T, p *App) *Spool {
	t.Helper()
	s := p.Reply()
	if _, err := s.Write(make([]byte, p.bytes+1)); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	return s
}

// await starts to wait for room, and returns when it does. The error comes later.
func await(t *testing.T, s *Spool) chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.Await(nil, time.Minute) }()
	for {
		s.arena.mu.Lock()
		waits := s.wait.line != nil
		s.arena.mu.Unlock()
		if waits || len(ended) > 0 {
			return ended
		}
		runtime.Gosched()
	}
}

func ended(t *testing.T, what string, c chan error) {
	t.Helper()
	select {
	case err := <-c:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s waits for ever", what)
	}
}

func waits(t *testing.T, what string, c chan error) {
	t.Helper()
	if len(c) > 0 {
		t.Errorf("%s waits no more", what)
	}
}

// TestRoomIsGrantedInOrder frees one block after the other, and looks who has it.
func TestRoomIsGrantedInOrder(t *testing.T) {
	a := open(t, mib, mib)
	hog := fill(t, a.App(0))
	var line []*Spool
	var got []chan error
	for range 3 {
		s := a.App(0).Reply()
		if _, err := s.Write(make([]byte, largeBytes)); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		line, got = append(line, s), append(got, await(t, s))
	}
	last := a.App(0).Reply() // needs less, and came later
	if _, err := last.Write([]byte("x")); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	got = append(got, await(t, last))
	for i := range line {
		if _, err := hog.Next(); err != nil { // memory: frees nothing
			t.Fatal(err)
		}
		if i == 0 {
			waits(t, "first", got[0])
		}
		for a.Stats().Apps[0].Waiting == 4-i {
			if _, err := hog.Next(); err != nil {
				t.Fatal(err)
			}
		}
		ended(t, "in order", got[i])
		if a.Stats().Apps[0].Waiting > 0 && i == 0 {
			late := a.App(0).Reply()
			if _, err := late.Write([]byte("x")); !errors.Is(err, ErrFull) {
				t.Error("who came last was served first")
			}
			late.Close()
		}
		write(t, line[i], make([]byte, smallBytes))
	}
	hog.Close()
	ended(t, "last", got[3])
	write(t, last, []byte("x"))
	for _, s := range append(line, last) {
		s.Close()
	}
}

// TestAppsDoNotBlockEachOther: who waits for his app's share stands in nobody's way.
func TestAppsDoNotBlockEachOther(t *testing.T) {
	a := open(t, 4*mib, mib)
	hog, waiter := fill(t, a.App(0)), a.App(0).Reply()
	if _, err := waiter.Write([]byte("x")); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	got := await(t, waiter)
	other := a.App(1).Reply()
	write(t, other, make([]byte, 500*kib))
	other.Close()
	waits(t, "the other app's", got)
	hog.Close()
	ended(t, "after the hog", got)
	waiter.Close()
}

func TestOldest(t *testing.T) {
	a := open(t, mib, mib)
	hog := fill(t, a.App(0))
	first, second, third := a.App(0).Request(), a.App(0).Request(), a.App(0).Request()
	if !first.Oldest() || second.Oldest() || hog.Oldest() || second.Overflow() || hog.Overflow() {
		t.Error("who is the oldest?")
	}
	for _, s := range []*Spool{second, third} {
		if _, err := s.Write([]byte("x")); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	two, three := await(t, second), await(t, third)
	if !first.Overflow() {
		t.Fatal("the oldest may not")
	}
	if _, err := first.Next(); err != io.EOF {
		t.Error(err)
	}
	first.CloseWrite(nil)
	if second.Oldest() || second.Overflow() {
		t.Error("two overflow")
	}
	waits(t, "second", two)
	first.Close()
	ended(t, "second", two) // it is the oldest now
	waits(t, "third", three)
	if !second.Overflow() {
		t.Error("the next may not")
	}
	second.Close()
	ended(t, "third", three)
	third.CloseWrite(nil) // complete
	if third.Oldest() || third.Overflow() {
		t.Error("a complete request overflows")
	}
	third.Close()
	hog.Close()
}

// TestOverflow: what is stored comes out and is freed on the way.
func TestOverflow(t *testing.T) {
	a := open(t, mib, mib)
	s := a.App(0).Request()
	n, err := s.Write(body(2*mib, 1))
	if !errors.Is(err, ErrFull) || !s.Overflow() {
		t.Fatal(n, err)
	}
	if _, err := s.Write([]byte("x")); err != errClosed {
		t.Error(err)
	}
	got, err := readAll(t, s)
	if err != nil || len(got) != n || string(got) != string(body(2*mib, 1)[:n]) {
		t.Errorf("%d of %d bytes, %v", len(got), n, err)
	}
	if st := a.Stats(); st.Apps[0].Stored > runBlocksMax*blockBytes {
		t.Errorf("%+v", st)
	}
	s.Close()
}

// gone is a client that has left.
type gone struct{}

func (gone) Left() bool { return true }

func TestWaitsEnd(t *testing.T) {
	a := open(t, mib, mib)
	hog, s := a.App(0).Reply(), a.App(0).Reply()
	if _, err := hog.Write(make([]byte, 2*mib)); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if err := s.Await(nil, 10*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := s.Await(gone{}, time.Minute); err != ErrLeft {
		t.Error(err)
	}
	if a.waiting != 0 {
		t.Errorf("%d wait", a.waiting)
	}
	hog.Close()
	if err := s.Await(nil, 0); err != nil {
		t.Error(err)
	}
	write(t, s, []byte("x"))
	s.Close()
}

// TestNobodyPasses has room for a small piece and somebody who waits for a large
// one: whoever comes later has to wait too, and has it when he gives up.
func TestNobodyPasses(t *testing.T) {
	for _, c := range []struct {
		name          string
		share         int64
		sooner, later int
	}{{"in an app", mib, 0, 0}, {"in another app", 2 * mib, 0, 1}} {
		a := open(t, mib, c.share)
		hog, small := a.App(1-c.later).Reply(), a.App(c.later).Reply()
		if c.later == c.sooner {
			hog.Close()
			hog = a.App(0).Reply()
		}
		write(t, small, []byte("x"))
		if _, err := hog.Write(make([]byte, mib)); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		fits := a.App(c.later).Reply()
		write(t, fits, []byte("x"))
		fits.Close()
		sooner, later := a.App(c.sooner).Reply(), a.App(c.later).Reply()
		sooner.need = largeBytes // as after a Write that had not even a small piece
		first := await(t, sooner)
		if _, err := later.Write([]byte("x")); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", c.name, err)
		}
		second := await(t, later)
		waits(t, c.name, first)
		sooner.CloseRead(io.ErrClosedPipe)
		if err := <-first; err != io.ErrClosedPipe {
			t.Error(err)
		}
		ended(t, c.name, second)
		write(t, later, []byte("x"))
		for _, s := range []*Spool{hog, small, sooner, later} {
			s.Close()
		}
	}
}

// TestFirstComeFirstServed is the order among apps.
func TestFirstComeFirstServed(t *testing.T) {
	for first := range 2 {
		a := open(t, mib, mib)
		hog := fill(t, a.App(0))
		for hog.arena.used < mib {
			t.Fatal("there is room")
		}
		var got [2]chan error
		var line [2]*Spool
		for _, i := range []int{first, 1 - first} {
			line[i] = a.App(i).Reply()
			if _, err := line[i].Write(make([]byte, largeBytes)); !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			line[i].need = largeBytes
			got[i] = await(t, line[i])
		}
		for range 2 { // its memory, and its first block
			if _, err := hog.Next(); err != nil {
				t.Fatal(err)
			}
		}
		ended(t, "who came first", got[first])
		waits(t, "who came second", got[1-first])
		hog.Close()
		ended(t, "who came second", got[1-first])
		line[0].Close()
		line[1].Close()
	}
}

// TestOwnMemory: whose reader has had everything needs nobody's room.
func TestOwnMemory(t *testing.T) {
	a := open(t, mib, mib)
	s := a.App(0).Reply()
	write(t, s, make([]byte, largeBytes))
	hog := fill(t, a.App(1))
	if _, err := s.Write([]byte("x")); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	got := await(t, s)
	read := make(chan error, 1)
	go func() {
		var err error
		for range 2 {
			_, err = s.Next()
		}
		read <- err
	}()
	ended(t, "the writer", got)
	write(t, s, []byte("x"))
	ended(t, "the reader", read)
	s.Close()
	hog.Close()
}

// TestCloseReadWhileWriting: blocks that are being written are nobody else's.
func TestCloseReadWhileWriting(t *testing.T) {
	a := open(t, mib, mib)
	s := a.App(0).Reply()
	write(t, s, make([]byte, 100*kib))
	s.writing = true // as the writer has it in pwrite64
	s.CloseRead(io.ErrClosedPipe)
	if !a.blocks.isUsed(s.extents[0].first) {
		t.Error("the blocks are free")
	}
	s.Close()
}

func TestBlocks(t *testing.T) {
	b := blocks{n: 200}
	take := func(most int64, want run) {
		t.Helper()
		if got := b.take(most); got != want && (got.n != 0 || want.n != 0) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	take(70, run{0, 70})
	take(16, run{70, 16})
	take(200, run{86, 114})
	take(1, run{})
	b.free(run{60, 10}, false)
	b.free(run{190, 10}, false)
	take(16, run{60, 10})
	take(3, run{190, 3})
	b.free(run{5, 2}, false)
	b.free(run{100, 4}, true)
	take(3, run{100, 3}) // warm ones first
	take(3, run{103, 1})
	take(3, run{5, 2})
	take(16, run{193, 7})
	take(1, run{})
	b.free(run{100, 20}, true)
	if r := b.takeWarm(16); r != (run{100, 16}) || b.warmCount != 4 {
		t.Errorf("%v, %d are warm", r, b.warmCount)
	}
}
