package spool

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/proxy/message"
)

var _ message.Source = (*Spool)(nil)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// open is an arena of two apps, a and b, in memory. It is empty again when the test ends.
func open(t testing.TB, bytes, appBytes int64) *Arena {
	t.Helper()
	return openIn(t, conf.Spool{Bytes: bytes, AppBytes: appBytes})
}

func openIn(t testing.TB, plan conf.Spool) *Arena {
	t.Helper()
	fd, err := Create(plan)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(fd, plan, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if st := a.Stats(); !t.Failed() && (st.Used != 0 || st.Spools != 0 || a.waiting != 0 || st.Warm > warmBytesMax) {
			t.Errorf("left behind: %+v", st)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// body is n bytes that say where they are.
func body(n int, seed uint64) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i < len(p); i += 8 {
		v := r.Uint64()
		for j := i; j < min(i+8, len(p)); j++ {
			p[j] = byte(v)
			v >>= 8
		}
	}
	return p
}

func write(t testing.TB, s *Spool, p []byte) {
	t.Helper()
	if n, err := s.Write(p); n != len(p) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(p), err)
	}
}

// readAll reads to the end.
func readAll(t testing.TB, s *Spool) ([]byte, error) {
	t.Helper()
	var got []byte
	for {
		piece, err := s.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		if len(piece) == 0 || len(piece) > largeBytes {
			t.Fatalf("a piece of %d bytes", len(piece))
		}
		got = append(got, piece...)
	}
}

func resident(t testing.TB, fd int) int64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks * 512
}

func TestSizes(t *testing.T) {
	a := open(t, 16*mib, 16*mib)
	for _, n := range []int{0, 1, smallBytes - 1, smallBytes, smallBytes + 1, largeBytes, largeBytes + 1, 2 * largeBytes, 3*mib + 7} {
		for _, step := range []int{1 + n/100, smallBytes, n + 1} {
			for _, kept := range []bool{false, true} {
				s := a.App(0).Reply()
				if kept {
					s.Close()
					s = a.App(0).Request()
				}
				want := body(n, uint64(n))
				for rest := want; len(rest) > 0; rest = rest[min(step, len(rest)):] {
					write(t, s, rest[:min(step, len(rest))])
				}
				if s.Ready() != (n > 0) {
					t.Errorf("%d bytes: ready %v", n, s.Ready())
				}
				s.CloseWrite(nil)
				if got, err := readAll(t, s); err != nil || !bytes.Equal(got, want) || s.Len() != int64(n) || !s.Ready() {
					t.Errorf("%d bytes by %d, kept %v: %d bytes, %v, Len %d", n, step, kept, len(got), err, s.Len())
				}
				if s.Rewind() != kept {
					t.Errorf("kept %v: rewind", kept)
				}
				if kept {
					if got, err := readAll(t, s); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes by %d, once more: %d bytes, %v", n, step, len(got), err)
					}
					s.Forget()
					if st := a.Stats(); st.Apps[0].Stored > runBlocksMax*blockBytes || s.Rewind() {
						t.Errorf("after Forget: %+v", st)
					}
				}
				s.Close()
			}
		}
	}
}

// TestCharges holds what a body costs to numbers.
func TestCharges(t *testing.T) {
	a := open(t, 64*mib, 64*mib)
	for _, c := range []struct {
		bytes                 int
		reply, request, extra int64 // memory of a reply and of a request, and the file of both
	}{
		{0, 0, 0, 0},
		{1, 16 * kib, 16 * kib, 0},
		{16 * kib, 16 * kib, 16 * kib, 0},
		{16*kib + 1, 64 * kib, 64 * kib, 0},
		{64 * kib, 64 * kib, 64 * kib, 0},
		{64*kib + 1, 64 * kib, 128 * kib, 64 * kib},
		{128*kib + 1, 64 * kib, 128 * kib, 192 * kib},
		{64*kib + 31*64*kib + 1, 64 * kib, 128 * kib, (31 + 16) * 64 * kib},
	} {
		reply, request := a.App(0).Reply(), a.App(1).Request()
		for range c.bytes / kib {
			write(t, reply, make([]byte, kib))
			write(t, request, make([]byte, kib))
		}
		write(t, reply, make([]byte, c.bytes%kib))
		write(t, request, make([]byte, c.bytes%kib))
		st := a.Stats()
		x, y := st.Apps[0], st.Apps[1]
		if x.Memory != c.reply || y.Memory != c.request || x.Stored != c.extra || y.Stored != c.extra || st.Used != c.reply+c.request+2*c.extra {
			t.Errorf("%d bytes: %+v", c.bytes, st)
		}
		reply.Close()
		request.Close()
	}
}

func TestFull(t *testing.T) {
	a := open(t, 2*mib, mib+100)
	x, y, z := a.App(0).Request(), a.App(1).Request(), a.App(1).Request()
	big := body(3*mib, 1)
	// 64 KiB of memory, 64 KiB to read into, and 14 blocks of the file.
	n, err := x.Write(big)
	var full *FullError
	if n != 64*kib+14*blockBytes || !errors.Is(err, ErrFull) || !errors.As(err, &full) || full.App != "a" {
		t.Errorf("%d %v", n, err)
	}
	if n, err := y.Write(big); n != 64*kib+14*blockBytes || !errors.As(err, &full) || full.App != "b" {
		t.Errorf("%d %v", n, err)
	}
	if n, err := z.Write(big); n != 0 || !errors.Is(err, ErrFull) {
		t.Errorf("%d %v", n, err)
	}
	if st := a.Stats(); st.Used != 2*mib || st.Apps[0].Refused == 0 {
		t.Errorf("%+v", st)
	}
	y.CloseWrite(nil)
	if got, err := readAll(t, y); err != nil || !bytes.Equal(got, big[:len(got)]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	y.Close()
	write(t, z, big[:64*kib])
	for _, s := range []*Spool{x, z} {
		s.Close()
	}
	whole := open(t, mib, mib)
	s := whole.App(0).Reply()
	if _, err := s.Write(big); err == nil || !errors.As(err, &full) {
		t.Error(err)
	}
	if _, err := whole.App(1).Reply().Write(big[:1]); !errors.As(err, &full) || full.App != "" {
		t.Error(err)
	}
	s.Close()
	whole.spoolings-- // the reply that was not closed has nothing
}

func TestEnds(t *testing.T) {
	a := open(t, mib, mib)
	cause := errors.New("the client left")
	s := a.App(0).Reply()
	write(t, s, []byte("half"))
	s.CloseWrite(cause)
	s.CloseWrite(nil) // too late
	if got, err := readAll(t, s); string(got) != "half" || err != cause {
		t.Errorf("%q %v", got, err)
	}
	if _, err := s.Write([]byte("x")); err != errClosed {
		t.Error(err)
	}
	s.Close()

	s = a.App(0).Request()
	write(t, s, body(500*kib, 1))
	s.CloseRead(cause)
	if st := a.Stats(); st.Apps[0].Stored != 0 {
		t.Errorf("%+v", st)
	}
	if _, err := s.Write([]byte("x")); err != cause {
		t.Error(err)
	}
	if _, err := s.Next(); err != cause {
		t.Error(err)
	}
	if err := s.Await(nil, 0); err != cause {
		t.Error(err)
	}
	s.Close()
}

// TestAPieceStays holds that what Next returned is not written over before the
// next call, whatever the writer does.
func TestAPieceStays(t *testing.T) {
	a := open(t, 4*mib, 4*mib)
	first := body(smallBytes, 1)
	for _, before := range []int{0, largeBytes, 300 * kib} {
		s := a.App(0).Reply()
		for rest := before; rest > 0; {
			write(t, s, make([]byte, min(rest, largeBytes)))
			rest -= largeBytes
			if rest <= 0 {
				break
			}
		}
		for s.Ready() {
			if _, err := s.Next(); err != nil {
				t.Fatal(err)
			}
		}
		write(t, s, first)
		piece, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		other := a.App(1).Reply()
		write(t, other, body(smallBytes, 4))
		write(t, s, body(mib, 2)) // grows, or goes to the file
		if !bytes.Equal(piece, first[:len(piece)]) {
			t.Errorf("after %d bytes: the piece has changed", before)
		}
		other.Close()
		s.Close()
	}
}

// TestKeepsUp holds that a body whose reader keeps up stays in memory.
func TestKeepsUp(t *testing.T) {
	a := open(t, mib, mib)
	s := a.App(0).Reply()
	write(t, s, body(300*kib, 1)) // falls behind once
	pieces := make(chan []byte)
	go func() {
		defer close(pieces)
		for {
			piece, err := s.Next()
			if err != nil {
				return
			}
			pieces <- piece
		}
	}()
	for n := 0; n < 300*kib; {
		n += len(<-pieces)
	}
	// The reader waits in Next now, or is about to.
	for !s.idle() {
		runtime.Gosched()
	}
	for i := range 1000 {
		write(t, s, body(smallBytes, uint64(i)))
		if got := <-pieces; !bytes.Equal(got, body(smallBytes, uint64(i))) {
			t.Fatal("wrong bytes")
		}
		for !s.idle() {
			runtime.Gosched()
		}
	}
	if st := a.Stats(); st.Apps[0].Stored != 0 {
		t.Errorf("%+v", st)
	}
	s.CloseWrite(nil)
	<-pieces
	s.Close()
}

func (s *Spool) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caughtUp()
}

// pour writes n bytes of a stream, waiting for room when it has to.
func pour(s *Spool, n int64, seed uint64) error {
	piece := body(256*kib, seed)
	for n > 0 {
		rest := piece[:min(n, int64(len(piece)))]
		for len(rest) > 0 {
			m, err := s.Write(rest)
			rest = rest[m:]
			n -= int64(m)
			if errors.Is(err, ErrFull) {
				err = s.Await(nil, 30*time.Second)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// drain reads to the end and compares with what pour wrote.
func drain(s *Spool, seed uint64) (n int64, err error) {
	want := body(256*kib, seed)
	for {
		piece, err := s.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		for len(piece) > 0 {
			at := n % int64(len(want))
			m := min(int64(len(piece)), int64(len(want))-at)
			if !bytes.Equal(piece[:m], want[at:at+m]) {
				return n, errors.New("other bytes than were written")
			}
			piece = piece[m:]
			n += m
		}
	}
}

func TestAStreamPassesThrough(t *testing.T) {
	const n = 1 << 30
	a := open(t, 4*mib, 4*mib)
	s := a.App(0).Reply()
	failed := make(chan error, 1)
	go func() {
		err := pour(s, n, 3)
		s.CloseWrite(err)
		failed <- err
	}()
	got, err := drain(s, 3)
	if got != n || err != nil {
		t.Errorf("%d bytes, %v", got, err)
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
	if r := resident(t, a.fd); r > 4*mib {
		t.Errorf("%d bytes of memory", r)
	}
	s.Close()
}

// TestMany has 200 bodies at a time through an arena that is too small for them.
func TestMany(t *testing.T) {
	a := open(t, 16*mib, 12*mib)
	done := make(chan struct{})
	watcher := make(chan error, 1)
	go func() { watcher <- watch(a, done) }()
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			for round := range 3 {
				s := a.App(i % 2).Reply()
				seed, n := uint64(i), int64(i*7919+round*300*kib)%(900*kib)
				all := make(chan error, 1)
				go func() {
					err := pour(s, n, seed)
					s.CloseWrite(err)
					all <- err
				}()
				if got, err := drain(s, seed); got != n || err != nil {
					t.Errorf("body %d: %d of %d bytes, %v", i, got, n, err)
				}
				if err := <-all; err != nil {
					t.Errorf("body %d: %v", i, err)
				}
				s.Close()
			}
		})
	}
	all.Wait()
	close(done)
	if err := <-watcher; err != nil {
		t.Error(err)
	}
}

// watch holds an arena to its quotas until done.
func watch(a *Arena, done chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		default:
		}
		st := a.Stats()
		sum := int64(0)
		for _, p := range st.Apps {
			if p.Memory < 0 || p.Stored < 0 || p.Memory+p.Stored > a.apps[0].bytes {
				return errors.New("an app has more than its share")
			}
			sum += p.Memory + p.Stored
		}
		if sum != st.Used || st.Used+st.Warm > st.Bytes || st.Warm > warmBytesMax {
			return errors.New("the counts are wrong")
		}
		runtime.Gosched()
	}
}

func TestMemoryGoesBack(t *testing.T) {
	a := open(t, 256*mib, 256*mib)
	var burst []*Spool
	for range 50 {
		s := a.App(0).Request()
		write(t, s, make([]byte, 4*mib))
		burst = append(burst, s)
	}
	before := resident(t, a.fd)
	for i := range burst {
		burst[len(burst)-1-i].Close()
	}
	after := resident(t, a.fd)
	if before < 190*mib || after > warmBytesMax || a.Stats().Warm > warmBytesMax {
		t.Errorf("%d bytes before, %d after, %+v", before, after, a.Stats())
	}
	// And the warm ones are what the next burst takes first.
	s := a.App(0).Request()
	write(t, s, make([]byte, 2*mib))
	if again := resident(t, a.fd); again != after {
		t.Errorf("%d bytes, and %d were warm", again, after)
	}
	s.Close()
	if err := Clear(a.fd); err != nil || resident(t, a.fd) != 0 {
		t.Errorf("%v, %d bytes after Clear", err, resident(t, a.fd))
	}
}
