package loop

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipeEnds counts the ends of pipes that this process has.
func pipeEnds(t *testing.T) (count int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + entry.Name()); strings.HasPrefix(to, "pipe:") {
			count++
		}
	}
	return count
}

func takePipe(t *testing.T, c *Conn) *Pipe {
	t.Helper()
	p := c.TakePipe()
	if p == nil {
		t.Fatal("no pipe")
	}
	return p
}

func load(t *testing.T, c *Conn, p *Pipe, want int) {
	t.Helper()
	n, err := c.SpliceTo(p.In(), p.Size())
	if err != nil || n != want {
		t.Fatalf("%d bytes into the pipe, %v, want %d", n, err, want)
	}
	p.Filled(n)
}

// A pipe that was emptied is used again; one with bytes in it is closed with them.
func TestPipeIsEmptyWhenTaken(t *testing.T) {
	l := started(t)
	from, app := pair(t, l)
	defer from.Close()
	to, client := pair(t, l)
	defer to.Close()
	first := takePipe(t, from)
	say(t, app, "all of it")
	load(t, from, first, 9)
	if n, err := first.DrainTo(to); n != 9 || err != nil || first.Held() != 0 {
		t.Fatalf("%d sent, %v, %d left", n, err, first.Held())
	}
	hear(t, client, "all of it")
	first.Give()
	second := takePipe(t, from)
	if second != first {
		t.Error("an empty pipe was not kept")
	}
	say(t, app, "poison")
	load(t, from, second, 6)
	before := pipeEnds(t)
	second.Give()
	if after := pipeEnds(t); after != before-2 {
		t.Errorf("a pipe with bytes in it is open: %d ends of pipes after %d", after, before)
	}
	third := takePipe(t, from)
	defer third.Give()
	say(t, app, "clean")
	load(t, from, third, 5)
	if n, err := third.DrainTo(to); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	hear(t, client, "clean")
}

// A loop has so many pipes, keeps so many, and leaves none.
func TestPipesAreBounded(t *testing.T) {
	before := pipeEnds(t)
	l := started(t)
	c, _ := pair(t, l)
	defer c.Close()
	var taken []*Pipe
	for p := c.TakePipe(); p != nil && len(taken) <= pipesMax; p = c.TakePipe() {
		taken = append(taken, p)
	}
	// Fewer, where the user has used up his pages (pipe(7)).
	if n := len(taken); n == 0 || n > pipesMax || pipeEnds(t) != before+2*n {
		t.Fatalf("%d pipes, %d ends more", n, pipeEnds(t)-before)
	}
	last := taken[0]
	for _, p := range taken[1:] {
		p.Give()
	}
	if kept := (pipeEnds(t)-before)/2 - 1; kept != min(pipesKept, len(taken)-1) {
		t.Errorf("%d pipes are kept", kept)
	}
	c.Close()
	l.Close()
	last.Give() // later than the loop
	if after := pipeEnds(t); after != before {
		t.Errorf("%d ends of pipes are left", after-before)
	}
	if n := l.pipes.made; n != 0 {
		t.Errorf("%d pipes are counted", n)
	}
}

// Without descriptors there is no pipe, and none is counted.
func TestPipeWithoutDescriptors(t *testing.T) {
	l := started(t)
	c, _ := pair(t, l)
	defer c.Close()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	p := c.TakePipe()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if p != nil || l.pipes.made != 0 {
		t.Errorf("a pipe: %v, %d are counted", p, l.pipes.made)
	}
	takePipe(t, c).Give()
}

// Who fills waits for bytes, the end, the deadline and the cut; who drains for room.
func TestPipeWaits(t *testing.T) {
	l := started(t)
	from, app := pair(t, l)
	defer from.Close()
	to, client := pair(t, l)
	defer to.Close()
	p := takePipe(t, from)
	defer p.Give()
	from.LimitRead(time.Millisecond)
	if n, err := from.SpliceTo(p.In(), p.Size()); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing came: %d, %v", n, err)
	}
	from.LimitRead(0)
	// A client that does not read: what it did not take is in the pipe, and goes on.
	piece := strings.Repeat("0123456789abcdef", 4<<10)
	sent, err := 0, error(nil)
	for err == nil {
		say(t, app, piece)
		for loaded := 0; loaded < len(piece) && err == nil; {
			n, short := from.SpliceTo(p.In(), p.Size())
			if short != nil {
				t.Fatal(short)
			}
			p.Filled(n)
			loaded += n
			to.LimitWrite(time.Millisecond)
			n, err = p.DrainTo(to)
			sent += n
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || p.Held() == 0 {
		t.Fatalf("%v, %d bytes in the pipe", err, p.Held())
	}
	to.LimitWrite(0)
	want := int64(sent + p.Held())
	heard := make(chan int64)
	go func() {
		n, _ := io.CopyN(io.Discard, client, want)
		heard <- n
	}()
	if _, err := p.DrainTo(to); err != nil || p.Held() != 0 {
		t.Errorf("%v, %d bytes in the pipe", err, p.Held())
	}
	if n := <-heard; n != want {
		t.Errorf("%d of %d bytes came", n, want)
	}
}

// A peer that has gone and a connection that was cut end both ways of a pipe.
func TestPipeEnds(t *testing.T) {
	l := started(t)
	from, app := pair(t, l)
	defer from.Close()
	to, client := pair(t, l)
	defer to.Close()
	p := takePipe(t, from)
	defer p.Give()
	say(t, app, "last words")
	app.Close()
	load(t, from, p, 10) // before the end
	if n, err := from.SpliceTo(p.In(), p.Size()); n != 0 || err != io.EOF {
		t.Errorf("an end: %d, %v", n, err)
	}
	client.Close()
	if n, err := p.DrainTo(to); n != 0 || !errors.Is(err, unix.EPIPE) {
		t.Errorf("nobody there: %d, %v", n, err)
	}
	to.Cut()
	if n, err := p.DrainTo(to); n != 0 || err != net.ErrClosed {
		t.Errorf("cut: %d, %v", n, err)
	}
	ended := make(chan error)
	waits, other := pair(t, l)
	defer other.Close()
	defer waits.Close()
	go func() {
		_, err := waits.SpliceTo(p.In(), 1)
		ended <- err
	}()
	waits.Cut()
	if err := <-ended; err != net.ErrClosed {
		t.Errorf("cut: %v", err)
	}
}
