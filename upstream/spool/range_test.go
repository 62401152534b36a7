package spool

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// pair is two connected sockets.
func pair(t testing.TB) (ours, theirs int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds[0], fds[1]
}

// send sends what s has by sendfile where it can, without waiting for the peer;
// full says that the socket takes no more.
func send(t testing.TB, s *Spool, to int) (n int64, full bool) {
	t.Helper()
	for s.Ready() {
		fd, offset, bytes, ok := s.Range()
		if !ok {
			piece, err := s.Next()
			if err == io.EOF {
				return n, false
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(to, piece); err != nil {
				t.Fatal(err)
			}
			n += int64(len(piece))
			continue
		}
		sent, err := unix.Sendfile(to, fd, &offset, int(bytes))
		if err == unix.EAGAIN {
			return n, true
		}
		if err != nil {
			t.Fatal(err)
		}
		s.Skip(int64(sent))
		n += int64(sent)
	}
	return n, false
}

// receive reads n bytes.
func receive(t testing.TB, from int, n int64) []byte {
	t.Helper()
	got := make([]byte, n)
	for at := 0; at < len(got); {
		m, err := unix.Read(from, got[at:])
		if err != nil || m == 0 {
			t.Fatalf("after %d bytes: %d %v", at, m, err)
		}
		at += m
	}
	return got
}

func TestRange(t *testing.T) {
	a := open(t, 16*mib, 16*mib)
	ours, theirs := pair(t)
	s := a.App(0).Reply()
	want := body(3*mib, 1)
	write(t, s, want)
	s.CloseWrite(nil)
	received := make(chan []byte, 1)
	go func() { received <- receive(t, theirs, int64(len(want))) }()
	if n, _ := send(t, s, ours); n != int64(len(want)) {
		t.Errorf("%d bytes", n)
	}
	if got := <-received; !bytes.Equal(got, want) {
		t.Error("other bytes than were written")
	}
	if st := a.Stats(); st.Apps[0].Stored != 0 {
		t.Errorf("%+v", st)
	}
	s.Close()
}

// TestSentPagesAreNotReused sends by sendfile to a peer that does not read, gives
// the blocks back and writes another body: the peer must not see it. The first round
// shows that the danger is there; if a kernel ever copies, it fails.
func TestSentPagesAreNotReused(t *testing.T) {
	a := open(t, 16*mib, 16*mib)
	for _, safe := range []bool{false, true} {
		ours, theirs := pair(t)
		if err := unix.SetNonblock(ours, true); err != nil {
			t.Fatal(err)
		}
		s := a.App(0).Request() // which frees nothing before Close
		mine := body(largeBytes+blockBytes, 1)
		write(t, s, mine)
		if _, err := s.Next(); err != nil { // what is in memory
			t.Fatal(err)
		}
		n, _ := send(t, s, ours)
		if n == 0 {
			t.Fatal("nothing was sent")
		}
		if !safe {
			for i := range s.extents {
				s.extents[i].sent = false
			}
		}
		s.Close()
		other := a.App(1).Reply()
		write(t, other, bytes.Repeat([]byte("not yours "), 400*kib/10))
		got := receive(t, theirs, n)
		if same := bytes.Equal(got, mine[largeBytes:largeBytes+n]); same != safe {
			t.Errorf("punched %v: the peer had what was sent to it: %v", safe, same)
		}
		other.Close()
	}
}

func TestAllocations(t *testing.T) {
	a := open(t, 16*mib, 16*mib)
	p := body(10*kib, 1)
	for _, n := range []int{1, 6, 20} { // small, large, in the file
		round := func() {
			for _, s := range [...]*Spool{a.App(0).Request(), a.App(1).Reply()} {
				for range n {
					if _, err := s.Write(p); err != nil {
						t.Fatal(err)
					}
				}
				s.CloseWrite(nil)
				for {
					if _, err := s.Next(); err != nil {
						break
					}
				}
				s.Close()
			}
		}
		round()
		if got := testing.AllocsPerRun(100, round); got != 0 {
			t.Errorf("%d KiB: %v allocations", 10*n, got)
		}
	}
}

func BenchmarkBody(b *testing.B) {
	for _, n := range []int{10 * kib, mib, 100 * mib} {
		for _, folder := range []string{"", b.TempDir()} {
			where := "memory"
			if folder != "" {
				where = "folder"
			}
			b.Run(fmt.Sprintf("%s/%dKiB", where, n/kib), func(b *testing.B) {
				a := openIn(b, conf.Spool{Folder: folder, Bytes: 256 * mib, AppBytes: 256 * mib})
				p := body(min(n, largeBytes), 1)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					s := a.App(0).Request()
					for rest := n; rest > 0; rest -= len(p) {
						write(b, s, p)
					}
					s.CloseWrite(nil)
					for {
						if _, err := s.Next(); err != nil {
							break
						}
					}
					s.Close()
				}
			})
		}
	}
}

// BenchmarkSend has 100 MiB go from the arena into a socket, in both ways; the
// peer is a goroutine that reads. CPU/GiB is user and system time of both.
func BenchmarkSend(b *testing.B) {
	for _, way := range []string{"write", "sendfile"} {
		b.Run(way, func(b *testing.B) {
			a := open(b, 256*mib, 256*mib)
			ours, theirs := pair(b)
			go func() {
				p := make([]byte, 256*kib)
				for {
					if n, err := unix.Read(theirs, p); n <= 0 || err != nil {
						return
					}
				}
			}()
			s := a.App(0).Request()
			write(b, s, make([]byte, 100*mib))
			s.CloseWrite(nil)
			b.SetBytes(100 * mib)
			begun := cpu(b)
			for b.Loop() {
				s.Rewind()
				if way == "sendfile" {
					send(b, s, ours)
					continue
				}
				for {
					piece, err := s.Next()
					if err != nil {
						break
					}
					if _, err := unix.Write(ours, piece); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric((cpu(b)-begun)*1024/100/float64(b.N), "cpu-s/GiB")
			unix.Shutdown(ours, unix.SHUT_RDWR)
			s.Close()
		})
	}
}

// BenchmarkFree is what a MiB costs that is written again: warm, or punched meanwhile.
func BenchmarkFree(b *testing.B) {
	for _, sent := range []bool{false, true} {
		b.Run(fmt.Sprintf("punched=%v", sent), func(b *testing.B) {
			a := open(b, 256*mib, 256*mib)
			s := a.App(0).Reply()
			p := make([]byte, mib)
			for b.Loop() {
				r, err := a.blocksFor(s, runBlocksMax)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := a.pwrite(p, r.first<<blockShift); err != nil {
					b.Fatal(err)
				}
				a.freeBlocks(s, r, sent)
			}
			s.Close()
		})
	}
}

func cpu(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
