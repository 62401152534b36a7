package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
	"sallyport/upstream/board"
)

// A turnstile is an app that says which requests have come, and answers one at a time.
type turnstile struct {
	*stage
	come chan string   // bodies of the requests, in their order
	next chan struct{} // one answer each
}

func newTurnstile(t *testing.T, plan conf.App) *turnstile {
	s := &turnstile{come: make(chan string, 2000), next: make(chan struct{})}
	s.stage = newStage(t, plan, func(a *actor) {
		if a.request() {
			s.come <- a.body.Load().(string)
			<-s.next
			a.say(okReply)
		}
	})
	return s
}

// An ended is a request that has come to its end.
type ended struct {
	number int
	err    error
}

// send sends requests numbered from first on, and returns when each of them waits.
func (s *stage) send(first, last int, client board.Client, over chan<- ended) {
	s.Helper()
	for number := first; number <= last; number++ {
		before := s.app.queue.Stats().Queued
		go func() { over <- ended{number, s.post(number, client)} }()
		s.await(fmt.Sprintf("request %d in the line", number), func() bool { return s.app.queue.Stats().Queued > before })
	}
}

// post sends a request whose body is a number.
func (s *stage) post(number int, client board.Client) error {
	body := fmt.Sprint(number)
	req := asking("POST", int64(len(body)))
	l, err := s.app.Send(req, &text{body, 100}, client)
	defer l.Release()
	if err == nil {
		_, _, err = hear(l, req)
	}
	return err
}

// rests checks that nobody has a slot or a place, and that every slot can be had.
func (s *stage) rests() {
	s.Helper()
	stats := s.app.queue.Stats()
	for m, n := range stats.InFlight {
		if n != 0 {
			s.Errorf("member %d has %d in flight", m, n)
		}
	}
	if stats.Queued != 0 || stats.Waiting != 0 {
		s.Errorf("in the line: %+v", stats)
	}
	for m := range s.app.members {
		s.app.queue.Open(m)
	}
	waiters := make([]board.Waiter, s.app.plan.InFlightMax*len(s.app.members))
	for i := range waiters {
		if _, err := s.app.queue.Acquire(&waiters[i], 0, time.Now(), nil); err != nil {
			s.Errorf("slot %d of %d: %v", i+1, len(waiters), err)
		}
	}
	for i := range waiters {
		s.app.queue.Release(&waiters[i])
	}
}

// TestLine: of 1,000 requests to an app that takes 2, these are with it, 100 wait, and
// 898 are refused at once; those that wait come in the order in which they came.
func TestLine(t *testing.T) {
	const inFlight, places, all = 2, 100, 1000
	s := newTurnstile(t, conf.App{InFlightMax: inFlight, QueueLen: places, QueueTime: patience})
	over := make(chan ended, all)
	for number := range inFlight {
		go func() { over <- ended{number, s.post(number, nil)} }()
	}
	for range inFlight {
		<-s.come
	}
	s.send(inFlight, inFlight+places-1, nil, over)
	for number := inFlight + places; number < all; number++ {
		err := s.post(number, nil)
		fault, ok := errors.AsType[*Error](err)
		if !ok || fault.Status() != 503 || fault.Cause() != "queue full" || !strings.Contains(fault.Error(), "queue is full") {
			t.Fatalf("request %d: %v", number, err)
		}
	}
	if got := s.app.queue.Stats(); got.InFlight[0] != inFlight || got.Queued != places || len(s.come) != 0 {
		t.Errorf("%+v, and %d more at the app", got, len(s.come))
	}
	for number := inFlight; number < inFlight+places; number++ {
		s.next <- struct{}{}
		if got := <-s.come; got != fmt.Sprint(number) {
			t.Fatalf("%s came, and it was the turn of %d", got, number)
		}
		if left, got := inFlight+places-1-number, s.app.queue.Stats().Queued; got != left {
			t.Errorf("%d have a place, and %d wait", got, left)
		}
	}
	close(s.next)
	for range inFlight + places {
		if e := <-over; e.err != nil {
			t.Errorf("request %d: %v", e.number, e.err)
		}
	}
	s.rests()
}

// TestQueueTime: who waits too long is told so.
func TestQueueTime(t *testing.T) {
	s := newTurnstile(t, conf.App{InFlightMax: 1, QueueLen: 1, QueueTime: 5 * time.Millisecond})
	over := make(chan ended, 1)
	go func() { over <- ended{0, s.post(0, nil)} }()
	<-s.come
	fault, ok := errors.AsType[*Error](s.post(1, nil))
	if !ok || fault.Status() != 503 || fault.Cause() != "queue time over" {
		t.Errorf("%v", fault)
	}
	close(s.next)
	if e := <-over; e.err != nil {
		t.Error(e.err)
	}
	s.rests()
}

// A guest is a client that leaves when it is told to.
type guest struct{ left atomic.Bool }

func (g *guest) Left() bool { return g.left.Load() }

// TestLeft: a client that leaves makes room for another one.
func TestLeft(t *testing.T) {
	s := newTurnstile(t, conf.App{InFlightMax: 1, QueueLen: 1, QueueTime: patience})
	over := make(chan ended, 3)
	go func() { over <- ended{0, s.post(0, nil)} }()
	<-s.come
	g := new(guest)
	s.send(1, 1, g, over)
	g.left.Store(true)
	if e := <-over; e.number != 1 || !errors.Is(e.err, board.ErrGone) {
		t.Errorf("%+v", e)
	}
	s.send(2, 2, nil, over)
	close(s.next)
	for range 2 {
		if e := <-over; e.err != nil {
			t.Errorf("%+v", e)
		}
	}
	s.rests()
}

// An absentee is the only app of a stage, whose socket is not there yet.
func absentee(t *testing.T, plan conf.App) (s *stage, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "app")
	plan.Name, plan.Sockets, plan.Idle, plan.FirstByte = "app", []string{socket}, patience, patience
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { watcher.Close() })
	return &stage{T: t, app: appOf(t, plan, watcher)}, socket
}

// answerOn answers each request on a socket and writes down what came, in order.
func answerOn(t *testing.T, socket string) (come chan string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	come = make(chan string, 1000)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			head := make([]byte, 1000)
			n, _ := conn.Read(head) // a request of these tests is one write
			_, body, _ := strings.Cut(string(head[:n]), "\r\n\r\n")
			come <- body
			_, _ = conn.Write([]byte(okReply))
			conn.Close()
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return come
}

// TestHold: requests of any method wait for a socket that is missing, or left behind by
// an app that has ended, and are sent in the order in which they came.
func TestHold(t *testing.T) {
	for _, left := range []bool{false, true} {
		s, socket := absentee(t, conf.App{InFlightMax: 1, QueueLen: 50, QueueTime: patience, Hold: patience})
		if left {
			listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
			if err != nil {
				t.Fatal(err)
			}
			listener.SetUnlinkOnClose(false)
			listener.Close()
		}
		over := make(chan ended, 50)
		s.send(0, 49, nil, over)
		s.await("a look", s.app.queue.Held)
		if left {
			if err := os.Remove(socket); err != nil {
				t.Fatal(err)
			}
		}
		come := answerOn(t, socket)
		for number := range 50 {
			if got := <-come; got != fmt.Sprint(number) {
				t.Errorf("%s came, and it was the turn of %d", got, number)
			}
		}
		for range 50 {
			if e := <-over; e.err != nil {
				t.Errorf("%+v", e)
			}
		}
		if s.app.queue.Held() {
			t.Error("requests are held, and the app is there")
		}
		s.rests()
	}
}

// TestHoldOver: nobody waits for longer than hold, not at all without it, and the
// answer names the errno.
func TestHoldOver(t *testing.T) {
	for _, hold := range []time.Duration{0, 30 * time.Millisecond} {
		s, _ := absentee(t, conf.App{InFlightMax: 1, QueueLen: 9, QueueTime: patience, Hold: hold, Retries: 1})
		over := make(chan ended, 5)
		begun := time.Now()
		for number := range 5 {
			go func() { over <- ended{number, s.post(number, nil)} }()
		}
		for range 5 {
			fault, ok := errors.AsType[*Error]((<-over).err)
			if !ok || fault.Op != Connect || fault.Errno() != syscall.ENOENT || fault.Status() != 502 {
				t.Errorf("%v", fault)
			}
		}
		if time.Since(begun) < hold {
			t.Error("they did not wait")
		}
		s.rests()
	}
}

// TestHoldBehind: who waits for a slot when the app goes away is held as those are who come
// later, though queue.time is over.
func TestHoldBehind(t *testing.T) {
	const queueTime = 500 * time.Millisecond
	s, socket := absentee(t, conf.App{InFlightMax: 1, QueueLen: 9, QueueTime: queueTime, Hold: patience})
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan ended, 3)
	go func() { over <- ended{0, s.post(0, nil)} }()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(listener.Close(), readRequest(conn)); err != nil {
		t.Fatal(err)
	}
	for number := 1; number <= 2; number++ {
		go func() { over <- ended{number, s.post(number, nil)} }()
	}
	s.await("line of two", func() bool { return s.app.queue.Stats().Waiting == 2 })
	conn.Close()
	s.failed((<-over).err)
	<-time.After(2 * queueTime)
	come := answerOn(t, socket)
	for range 2 {
		if e := <-over; e.err != nil {
			t.Errorf("request %d: %v", e.number, e.err)
		}
	}
	if len(come) != 2 {
		t.Errorf("%d came", len(come))
	}
	s.rests()
}

// readRequest reads what a request of these tests is, one write.
func readRequest(conn net.Conn) error {
	_, err := conn.Read(make([]byte, 1000))
	return err
}

// TestOthersFirst: while one member is there, nobody waits for the other.
func TestOthersFirst(t *testing.T) {
	s := newStage(t, conf.App{QueueLen: 9, QueueTime: patience, Hold: patience}, answers(okReply))
	there := s.app.members[0].Socket
	plan := s.app.plan
	plan.Sockets = []string{there + ".absent", there}
	s.app = appOf(t, plan, s.app.loop)
	for range 5 {
		l, err := s.app.Send(asking("GET", 0), nothingToSend{}, nil)
		if err != nil || l.Socket() != there || l.slot.Waited() {
			t.Errorf("%v, %s, waited: %v", err, l.Socket(), l.slot.Waited())
		}
		l.Release()
	}
	s.rests()
}

// TestMemberBack: a member that was absent gets requests again once it is there, though
// the other one was there all the time.
func TestMemberBack(t *testing.T) {
	s := newStage(t, conf.App{QueueLen: 9, QueueTime: patience, Hold: patience}, answers(okReply))
	plan, back := s.app.plan, filepath.Join(t.TempDir(), "back")
	plan.Sockets = []string{back, s.app.members[0].Socket}
	s.app = appOf(t, plan, s.app.loop)
	s.get()
	come := answerOn(t, back)
	s.await("request at the one that is back", func() bool {
		s.get()
		return len(come) > 0
	})
}

// TestBacklog: an app that takes no more connections has its requests queue, and none
// of them fails once it does.
func TestBacklog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "app")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: socket}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", socket) // a backlog of 0 holds one
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	plan := conf.App{Name: "app", Sockets: []string{socket}, QueueLen: 20, QueueTime: patience, FirstByte: patience}
	s := &stage{T: t, app: appOf(t, plan, watcher)}
	over := make(chan ended, 20)
	s.send(0, 19, nil, over)
	file := os.NewFile(uintptr(fd), "app")
	listener, err := net.FileListener(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1000)) // nothing, from the first
			_, _ = conn.Write([]byte(okReply))
			conn.Close()
		}
	})
	for range 20 {
		if e := <-over; e.err != nil {
			t.Errorf("%+v", e)
		}
	}
	listener.Close()
	accepting.Wait()
	s.rests()
}

// brokenBody is the body of a client that has gone.
type brokenBody struct{}

func (brokenBody) Ready() bool           { return false }
func (brokenBody) Next() ([]byte, error) { return nil, errors.New("gone") }

// readsAll reads until the connection ends.
func readsAll(a *actor) { _, _ = io.Copy(io.Discard, a.Conn) }

// TestSlotsComeBack: however a lease ends, its slot is there again.
func TestSlotsComeBack(t *testing.T) {
	hello := func() message.Source { return &text{"hello", 5} }
	broken := func() message.Source { return brokenBody{} }
	for name, test := range map[string]struct {
		act  func(*actor)
		body func() message.Source
	}{
		"answered":     {answers(okReply), hello},
		"closed":       {readsIt, hello},
		"reset":        {resets, hello},
		"half a reply": {halfReply, hello},
		"too much":     {answers(okReply + "surplus"), hello},
		"refused":      {answers("nonsense\r\n\r\n"), hello},
		"client gone":  {readsAll, broken},
	} {
		t.Run(name, func(t *testing.T) {
			for _, keepalive := range []int{0, 1} {
				s := newStage(t, conf.App{InFlightMax: 2, QueueLen: 3, QueueTime: patience, Keepalive: keepalive, Retries: 1}, test.act)
				for range 4 {
					req := asking("POST", 5)
					l, err := s.app.Send(req, test.body(), nil)
					if err == nil {
						_, _, _ = hear(l, req) // what becomes of it is not for this test
					}
					l.Release()
				}
				s.rests()
			}
		})
	}
}
