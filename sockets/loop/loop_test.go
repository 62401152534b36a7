package loop

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func started(t *testing.T) *Loop {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// pair is a watched connection and the plain other end of it.
func pair(t *testing.T, l *Loop) (*Conn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := new(Conn)
	if err := l.Adopt(c, fds[0]); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fds[1]), "peer")
	defer file.Close()
	peer, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return c, peer
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Error(err)
	}
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestEcho(t *testing.T) {
	c, peer := pair(t, started(t))
	defer c.Close()
	for _, text := range []string{"a", "two", string(bytes.Repeat([]byte("x"), 4096))} {
		say(t, peer, text)
		hear(t, c, text)
		say(t, c, text)
		hear(t, peer, text)
	}
}

// A reader that waits is woken, and one that comes after the edge need not be.
func TestParkAndEdgeBefore(t *testing.T) {
	c, peer := pair(t, started(t))
	defer c.Close()
	for range 1000 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			hear(t, c, "x")
		}()
		say(t, peer, "x")
		<-done
	}
}

// Bytes and the end come in one edge: all bytes are read, then the end, as often
// as it is asked for.
func TestBytesAndEndShareAnEdge(t *testing.T) {
	c, peer := pair(t, started(t))
	defer c.Close()
	say(t, peer, "last words")
	peer.Close()
	p := make([]byte, 4)
	var got []byte
	for {
		n, err := c.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != "last words" {
		t.Errorf("got %q", got)
	}
	if _, err := c.Read(p); err != io.EOF || !c.Ended() {
		t.Errorf("then %v", err)
	}
}

// A write that falls short waits for room, both ways at once.
func TestLargeWrites(t *testing.T) {
	c, peer := pair(t, started(t))
	defer c.Close()
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	want := sha256.Sum256(text)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, peer}, {peer, c}} {
		both.Go(func() { say(t, way[0], string(text)) })
		both.Go(func() {
			sum := sha256.New()
			if _, err := io.CopyN(sum, way[1], int64(len(text))); err != nil || [32]byte(sum.Sum(nil)) != want {
				t.Errorf("other bytes came, %v", err)
			}
		})
	}
	both.Wait()
}

func TestIdle(t *testing.T) {
	c, peer := pair(t, started(t))
	defer c.Close()
	resumed := make(chan struct{})
	for range 3 {
		c.Idle(func() { resumed <- struct{}{} })
		say(t, peer, "x")
		<-resumed
		c.Try(true)
		p := make([]byte, 2)
		if n, err := c.Read(p); n != 1 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		if _, err := c.Read(p); err != ErrWouldBlock {
			t.Fatalf("got %v", err)
		}
	}
	say(t, peer, "x") // before Idle
	c.Try(false)
	hear(t, c, "x")
	say(t, peer, "y")
	c.Idle(func() { resumed <- struct{}{} })
	<-resumed
	peer.Close()
	hear(t, c, "y")
	c.Idle(func() { resumed <- struct{}{} })
	<-resumed
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	c, peer := pair(t, started(t))
	defer c.Close()
	p := make([]byte, 1)
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := c.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("near: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	say(t, peer, "x")
	hear(t, c, "x")

	late := make(chan struct{})
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	c.Idle(func() { close(late) })
	<-late
	if _, err := c.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("idle: %v", err)
	}

	_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Write(make([]byte, 8<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Errorf("write: %d, %v", n, err)
	}
}

// A deadline that is set under a reader that waits counts at once.
func TestDeadlineUnderReader(t *testing.T) {
	c, _ := pair(t, started(t))
	defer c.Close()
	failed := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		failed <- err
	}()
	_ = c.SetReadDeadline(time.Unix(1, 0))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestCut(t *testing.T) {
	c, peer := pair(t, started(t))
	defer c.Close()
	failed := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		failed <- err
	}()
	go func() {
		_, err := c.Write(make([]byte, 8<<20))
		failed <- err
	}()
	one := make([]byte, 1)
	if _, err := peer.Read(one); err != nil { // the writer is at it
		t.Fatal(err)
	}
	c.Cut()
	for range 2 {
		if err := <-failed; err == nil {
			t.Error("no error after Cut")
		}
	}
	resumed := make(chan struct{})
	c.Idle(func() { close(resumed) })
	<-resumed
}

// Numbers of closed descriptors are used again at once, while events of the old
// ones may be under way: nobody gets what is another's.
func TestNumbersUsedAgain(t *testing.T) {
	l := started(t)
	path := filepath.Join(t.TempDir(), "s")
	echo, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.CopyN(conn, conn, 8)
			}()
		}
	}()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			var c Conn
			name := unix.SockaddrUnix{Name: path}
			for j := range 200 {
				if err := l.DialUnix(&c, &name); err != nil {
					t.Error(err)
					return
				}
				text := string([]byte{byte(i), byte(j), 3, 4, 5, 6, 7, byte(i ^ j)})
				say(t, &c, text)
				hear(t, &c, text)
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("end: %v", err)
				}
				c.Close()
			}
		})
	}
	all.Wait()
}

func TestListen(t *testing.T) {
	l := started(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	file, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	_ = unix.SetNonblock(fd, true)
	var served atomic.Int32
	listener, err := l.Listen(fd, func(fd int, from unix.Sockaddr) {
		c := new(Conn)
		if err := l.Adopt(c, fd); err != nil {
			t.Error(err)
			return
		}
		if _, ok := from.(*unix.SockaddrInet4); !ok || c.RemoteAddr().(*net.TCPAddr).Port == 0 {
			t.Errorf("from %v, %v", from, c.RemoteAddr())
		}
		c.Idle(func() {
			hear(t, c, "hello")
			served.Add(1)
			say(t, c, "world")
			c.Close()
		})
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		conn, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		say(t, conn, "hello")
		hear(t, conn, "world")
		conn.Close()
	}
	if served.Load() != 200 {
		t.Errorf("served %d", served.Load())
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
}

// Idle connections have no goroutine.
func TestIdleCostsNoGoroutine(t *testing.T) {
	l := started(t)
	before := runtime.NumGoroutine()
	var resumed atomic.Int32
	var peers []net.Conn
	for range 200 {
		c, peer := pair(t, l)
		peers = append(peers, peer)
		c.Idle(func() {
			resumed.Add(1)
			c.Close()
		})
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines for 200 idle connections", now-before)
	}
	for _, peer := range peers {
		peer.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); resumed.Load() < 200; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 200 saw the end", resumed.Load())
		}
	}
}

func TestNothingAllocated(t *testing.T) {
	l := started(t)
	c, peer := pair(t, l)
	defer c.Close()
	raw := peer.(*net.UnixConn)
	p, text := make([]byte, 64), []byte("x")
	turn := func() {
		if _, err := raw.Write(text); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := c.Read(p); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.Write(text); err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Read(p); err != nil {
			t.Fatal(err)
		}
	}
	turn()
	if n := testing.AllocsPerRun(1000, turn); n > 0 {
		t.Errorf("%v allocations per turn", n)
	}
}

// TestCloseInTheMiddle closes loops to which events come at that moment.
func TestCloseInTheMiddle(t *testing.T) {
	for range 300 {
		l, err := New()
		if err != nil {
			t.Fatal(err)
		}
		c, peer := pair(t, l)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := peer.Write([]byte("x")); err != nil { // each byte is an edge
					return
				}
				_, _ = c.Read(make([]byte, 16))
			}
		}()
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the loop does not close")
		}
		close(stop)
		c.Cut()
		peer.Close()
		<-stopped
		c.Close()
	}
}

// TestCrowdAtTheDoor: clients who were there before the listener was watched are all
// welcomed, though no further event comes.
func TestCrowdAtTheDoor(t *testing.T) {
	l := started(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	const crowd = 3*acceptMax + 1
	for range crowd {
		client, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
	}
	file, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	welcomed := make(chan int, crowd)
	listener, err := l.Listen(fd, func(fd int, _ unix.Sockaddr) { welcomed <- fd }, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for i := range crowd {
		select {
		case fd := <-welcomed:
			unix.Close(fd)
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d were welcomed", i, crowd)
		}
	}
}
