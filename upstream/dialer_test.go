package upstream

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// A switchboard is the dialer's end of a link, for a test to answer by.
type switchboard struct {
	t    *testing.T
	link int
}

func newSwitchboard(t *testing.T) (*Dialer, *switchboard) {
	t.Helper()
	core, theirs, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDialer(core)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { d.Serve(); close(ended) }()
	t.Cleanup(func() { unix.Close(theirs); <-ended; d.link.Close() })
	return d, &switchboard{t, theirs}
}

func (s *switchboard) hears() sockets.Dial {
	s.t.Helper()
	buffer := make([]byte, sockets.DialBytes)
	n, _, err := sockets.Receive(s.link, buffer)
	if err != nil {
		s.t.Fatal(err)
	}
	asked, err := sockets.ParseDial(buffer[:n], 100)
	if err != nil {
		s.t.Fatal(err)
	}
	return asked
}

func (s *switchboard) says(answer sockets.Dialed, descriptors ...int) {
	s.t.Helper()
	if err := sockets.Send(s.link, answer.Append(nil), descriptors...); err != nil {
		s.t.Fatal(err)
	}
}

// A connected is what came of a connect.
type connected struct {
	fd  int
	err error
}

func ask(d *Dialer, member int) <-chan connected {
	done := make(chan connected, 1)
	go func() {
		fd, err := d.connect(member)
		done <- connected{fd, err}
	}()
	return done
}

// streams are two ends of a connection.
func streams(t *testing.T) [2]int {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ends
}

// TestDialer shows that answers find who has asked, in any order, and that what was asked
// before there was a dialer is not lost.
func TestDialer(t *testing.T) {
	d, s := newSwitchboard(t)
	first := ask(d, 5)
	a := s.hears()
	s.says(sockets.Dialed{Tag: sockets.TagHello})
	second := ask(d, 6)
	b := s.hears()
	if a.Member != 5 || b.Member != 6 || a.Tag == b.Tag {
		t.Errorf("asked %+v, %+v", a, b)
	}
	s.says(sockets.Dialed{Tag: b.Tag, Errno: unix.ECONNREFUSED})
	if got := <-second; !errors.Is(got.err, unix.ECONNREFUSED) {
		t.Errorf("%+v", got)
	}
	ends := streams(t)
	s.says(sockets.Dialed{Tag: a.Tag}, ends[1])
	got := <-first
	if got.err != nil {
		t.Fatal(got.err)
	}
	sockets.CloseAll([]int{ends[0], ends[1], got.fd})
}

// TestDialerLost shows that a dialer which has died takes nobody with it: what it had heard is
// as if the backlog were full, and an answer that nobody waits for is closed.
func TestDialerLost(t *testing.T) {
	d, s := newSwitchboard(t)
	s.says(sockets.Dialed{Tag: sockets.TagHello})
	probe := ask(d, 0) // its answer comes behind the hello
	s.says(sockets.Dialed{Tag: s.hears().Tag, Errno: unix.ENOENT})
	<-probe
	asked := ask(d, 1)
	tag := s.hears().Tag
	s.says(sockets.Dialed{Tag: sockets.TagHello}) // of its successor
	if got := <-asked; !errors.Is(got.err, unix.EAGAIN) {
		t.Errorf("%+v", got)
	}
	ends := streams(t)
	s.says(sockets.Dialed{Tag: tag}, ends[1])
	unix.Close(ends[1])
	if n, err := unix.Read(ends[0], make([]byte, 1)); n != 0 || err != nil { // the end: nobody has the other one
		t.Errorf("%d, %v", n, err)
	}
	unix.Close(ends[0])
}

// TestDialerSilent shows that nobody waits for ever, and how many may at all.
func TestDialerSilent(t *testing.T) {
	d, s := newSwitchboard(t)
	var waiting []<-chan connected
	for range dialsMax {
		waiting = append(waiting, ask(d, 1))
		s.hears()
	}
	if _, err := d.connect(1); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("one more: %v", err)
	}
	for _, w := range waiting {
		if got := <-w; !errors.Is(got.err, unix.EAGAIN) {
			t.Errorf("%+v", got)
		}
	}
	if len(d.calls) != 0 {
		t.Errorf("%d calls are left", len(d.calls))
	}
}
