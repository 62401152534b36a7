package upstream

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets/loop"
	"sallyport/upstream/board"
)

// A diary is a log that can be read while it is written.
type diary struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (d *diary) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(p)
}

// count is how many lines have all these words.
func (d *diary) count(words ...string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
next:
	for line := range strings.Lines(d.text.String()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue next
			}
		}
		n++
	}
	return n
}

// watched is an app with these sockets, one of which is that of s, and its log.
func (s *stage) watched(plan conf.App, sockets ...string) *diary {
	s.Helper()
	plan.Name, plan.Sockets, plan.Idle, plan.FirstByte = "app", sockets, patience, patience
	s.app = appOf(s.T, plan, s.app.loop)
	log := new(diary)
	s.app.Watch(zerolog.New(log))
	s.Cleanup(func() {
		s.app.Close()
		s.app.checks.running.Wait()
	})
	return log
}

// count is one of the member's, or of the app's.
func (s *stage) counted(member int, what board.MemberTally) uint64 {
	return s.app.queue.Report().Members[member].Counts[what]
}

// TestLost: a member that refuses is left alone for longer and longer, up to a limit. When it
// has refused a few times in a row that is news, once; and so is that it is back.
func TestLost(t *testing.T) {
	for _, plan := range []conf.App{
		{QueueLen: 9, QueueTime: patience, Hold: patience},
		{QueueLen: 9, QueueTime: patience, Retries: 1}, // nobody is held: they go elsewhere by a retry
		{Retries: 1},
	} {
		s := newStage(t, conf.App{}, answers(okReply))
		there, absent := s.app.members[0].Socket, filepath.Join(t.TempDir(), "absent")
		log := s.watched(plan, absent, there)
		m := s.app.members[0]
		for times := 1; times <= 8; times++ {
			s.get()
			s.get() // goes to the other one at once
			if got := m.refused.Load(); got != int32(times) {
				t.Fatalf("refused %d times, want %d", got, times)
			}
			pause := time.Until(m.lookAt)
			if most := min(refusedPause<<(times-1), refusedPauseMax); pause > most || pause < most/2 {
				t.Errorf("after %d times it is left alone for %v, want %v", times, pause, most)
			}
			if got, want := log.count("member lost", absent, "ENOENT", "no such file"), btoi(times >= lostAfter); got != want {
				t.Errorf("after %d times: %d lines", times, got)
			}
			m.lookAt = time.Now() // its pause is over
			s.app.lookAt.Store(&m.lookAt)
		}
		come := answerOn(t, absent)
		s.get()
		if len(come) != 1 || m.refused.Load() != 0 || log.count("member back", absent) != 1 {
			t.Errorf("%d requests came to it, refused %d times, %d lines", len(come), m.refused.Load(), log.count("member back"))
		}
		if got := s.app.queue.Report(); got.Members[0].Counts[board.TimesLost] != 1 || got.Members[0].Counts[board.Served] != 1 ||
			got.Members[1].Counts[board.Served] != 16 || got.Counts[board.Held] != 0 || got.Counts[board.Failed] != 0 {
			t.Errorf("%+v", got)
		}
		s.rests()
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestLostNotTheLast: where nobody is held, the last member is asked however often it refuses.
func TestLostNotTheLast(t *testing.T) {
	s := newStage(t, conf.App{}, answers(okReply))
	dir := t.TempDir()
	log := s.watched(conf.App{QueueLen: 9, QueueTime: patience}, filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	for range 10 {
		if _, err := s.ask("GET", ""); err == nil {
			t.Error("nobody is there")
		}
	}
	if s.app.queue.Held() || log.count("") != 0 {
		t.Errorf("held %v, %s", s.app.queue.Held(), log.text.String())
	}
	if n := s.app.queue.Report().Counts[board.Failed]; n != 10 {
		t.Errorf("%d failed", n)
	}
	s.rests()
}

// TestLostHeld: the one for which requests wait is lost at once, and back with the first.
func TestLostHeld(t *testing.T) {
	s := newStage(t, conf.App{}, answers(okReply))
	absent := filepath.Join(t.TempDir(), "absent")
	log := s.watched(conf.App{InFlightMax: 1, QueueLen: 9, QueueTime: patience, Hold: patience}, absent)
	over := make(chan ended, 3)
	s.send(0, 2, nil, over)
	s.await("the news", func() bool { return log.count("member lost", absent) == 1 })
	come := answerOn(t, absent)
	for range 3 {
		<-come
		if e := <-over; e.err != nil {
			t.Error(e.err)
		}
	}
	if got := s.app.queue.Report().Counts[board.Held]; got != 3 || log.count("member back") != 1 || log.count("") != 2 {
		t.Errorf("%d held; %s", got, log.text.String())
	}
	s.rests()
}

// TestRefuses: what is wanting on our side is not held against a member.
func TestRefuses(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EAGAIN, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, 0} {
		if refuses(errno) {
			t.Errorf("%v says nothing of the member", errno)
		}
	}
}

// TestCheck: what an app says to a check, and what that says of it.
func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		act  func(*actor)
		want board.Trouble
	}{
		"200":              {answers(okReply), 0},
		"204":              {answers("HTTP/1.1 204 No Content\r\n\r\n"), 0},
		"redirect":         {answers("HTTP/1.1 301 Moved\r\nLocation: https://a.test/up\r\nContent-Length: 0\r\n\r\n"), 0},
		"interim":          {answers("HTTP/1.1 103 Early Hints\r\n\r\n" + okReply), 0},
		"half a body":      {answers("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok"), 0},
		"without end":      {endless, 0},
		"404":              {answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), board.BadStatus(404)},
		"503":              {answers("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), board.BadStatus(503)},
		"nonsense":         {answers("nonsense\r\n\r\n"), board.Malformed},
		"silence":          {readsAll, board.Silent},
		"interim for ever": {interimLoop, board.Silent},
		"half a head":      {answers("HTTP/1.1 200 OK\r\nContent-"), board.Silent},
		"closed":           {readsIt, board.HungUp},
		"closed in head":   {func(a *actor) { a.request(); a.say("HTTP/1.1 200") }, board.Malformed},
		"reset":            {resets, board.HungUp},
		"resets at once":   {func(*actor) {}, board.HungUp},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, conf.App{Health: &conf.Health{Path: "/up", Host: "a.test"}}, test.act)
			limit := patience
			switch {
			case test.want == board.Silent:
				limit = 100 * time.Millisecond
			case name == "without end", name == "half a body": // which end by the limit, after the head
				limit = time.Second
			}
			begun := time.Now()
			got, known := s.app.ask(s.app.members[0], limit)
			if got != test.want && !(test.want == board.HungUp && got == board.Trouble(unix.ECONNRESET)) || !known {
				t.Errorf("%v, known: %v; want %v", got, known, test.want)
			}
			if time.Since(begun) > patience/2 {
				t.Error("it did not end by its limit")
			}
		})
	}
}

// endless answers with a body that has no end.
func endless(a *actor) {
	a.request()
	a.say("HTTP/1.1 200 OK\r\n\r\n")
	for {
		if _, err := a.Write(make([]byte, 10000)); err != nil {
			return
		}
	}
}

// interimLoop answers with heads that do not count.
func interimLoop(a *actor) {
	a.request()
	for {
		if _, err := io.WriteString(a.Conn, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
			return
		}
	}
}

// TestCheckConnects: what it says of a member that it cannot be reached.
func TestCheckConnects(t *testing.T) {
	s := newStage(t, conf.App{Health: &conf.Health{Path: "/up", Host: "a.test"}}, answers(okReply))
	m := &Member{Socket: filepath.Join(t.TempDir(), "app")}
	if got, known := s.app.ask(m, patience); got != board.Trouble(unix.ENOENT) || !known {
		t.Errorf("%v, %v", got, known)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.Socket})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if got, known := s.app.ask(m, patience); got != board.Trouble(unix.ECONNREFUSED) || !known {
		t.Errorf("%v, %v", got, known)
	}
	if err := os.Remove(m.Socket); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: m.Socket}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", m.Socket) // a backlog of 0 holds one
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if got, known := s.app.ask(m, patience); known {
		t.Errorf("%v: a full backlog is a busy app", got)
	}
}

// TestChecks: the member whose check fails has no requests until one passes; both are in
// the log once. A check that finds a lost member there ends that too.
func TestChecks(t *testing.T) {
	var ill atomic.Bool
	s := newStage(t, conf.App{}, func(a *actor) {
		for a.request() {
			if ill.Load() {
				a.say("HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			a.say(okReply)
		}
	})
	first, second := s.app.members[0].Socket, filepath.Join(t.TempDir(), "second")
	answerOn(t, second)
	ill.Store(true)
	log := s.watched(conf.App{Health: &conf.Health{Path: "/up", Host: "a.test", Every: 300 * time.Millisecond}}, first, second)
	s.await("the first check", func() bool { return log.count("check failed", first, "status 500") == 1 })
	for range 5 {
		l, err := s.app.Send(asking("GET", 0), nothingToSend{}, nil)
		if err != nil || l.Socket() != second {
			t.Errorf("%v, %s", err, l.Socket())
		}
		l.Release()
	}
	s.await("more checks", func() bool { return s.counted(0, board.ChecksFailed) > 1 })
	s.app.queue.Lose(0, board.Trouble(unix.ENOENT))
	s.await("its return", func() bool { return log.count("member back", first) == 1 })
	ill.Store(false)
	s.await("the check to pass", func() bool { return log.count("check passed", first) == 1 })
	s.await("a request at the first", func() bool { // which is busy while it is checked
		l, err := s.app.Send(asking("GET", 0), nothingToSend{}, nil)
		defer l.Release()
		return err == nil && l.Socket() == first
	})
	if log.count("") != 3 || s.counted(1, board.Checks) == 0 {
		t.Errorf("%s", log.text.String())
	}
	if n := s.counted(0, board.Served); n != 1 {
		t.Errorf("%d served: checks are no requests", n)
	}
	s.app.Close()
	s.app.Close() // as a core that is told twice
	s.app.checks.running.Wait()
	s.rests()
}

// TestChecksWhileBusy: a member whose slots are taken is not checked, and never has more
// than them.
func TestChecksWhileBusy(t *testing.T) {
	var now, most atomic.Int64
	next := make(chan struct{})
	s := newStage(t, conf.App{}, func(a *actor) {
		if !a.request() {
			return
		}
		n := now.Add(1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		if a.body.Load() != "" { // is no check
			<-next
		}
		now.Add(-1)
		a.say(okReply)
	})
	s.watched(conf.App{
		InFlightMax: 2, QueueLen: 9, QueueTime: patience,
		Health: &conf.Health{Path: "/up", Host: "a.test", Every: 50 * time.Millisecond},
	}, s.app.members[0].Socket)
	s.await("a check", func() bool { return s.counted(0, board.Checks) > 0 })
	over := make(chan ended, 5)
	for number := range 2 {
		go func() { over <- ended{number, s.post(number, nil)} }()
	}
	s.await("2 at the app", func() bool { return now.Load() == 2 && s.app.queue.Stats().InFlight[0] == 2 })
	before := s.counted(0, board.Checks)
	s.send(2, 4, nil, over)
	due := func() time.Time { // asks without a claim, as the last one was not an hour ago
		_, next := s.app.queue.ClaimCheck(0, time.Now(), time.Hour)
		return next
	}
	for range 3 {
		was := due()
		s.await("a check to be due", func() bool { return due().After(was) })
	}
	if n := s.counted(0, board.Checks); n != before {
		t.Errorf("%d checks of a busy app", n-before)
	}
	close(next)
	for range 5 {
		if e := <-over; e.err != nil {
			t.Error(e.err)
		}
	}
	s.await("more checks", func() bool { return s.counted(0, board.Checks) > before })
	if most.Load() > 2 {
		t.Errorf("%d at a time", most.Load())
	}
	s.app.Close()
	s.app.checks.running.Wait()
	s.rests()
}

// TestChecksOfTwo: two cores check a member no more often than one does, and both leave it
// out.
func TestChecksOfTwo(t *testing.T) {
	plan := conf.App{Name: "app", Health: &conf.Health{Path: "/up", Host: "a.test", Every: time.Hour}, Idle: patience}
	s := newStage(t, conf.App{}, answers("HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n"))
	plan.Sockets = []string{s.app.members[0].Socket, filepath.Join(t.TempDir(), "other")}
	answerOn(t, plan.Sockets[1])
	layout := board.PlanOf(&conf.Core{Apps: []conf.App{plan}, Workers: 1})
	fd, wakes, err := board.Create(layout)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var apps []*App
	for row := range 2 {
		shared, err := board.Open(fd, wakes, layout, row)
		if err != nil {
			t.Fatal(err)
		}
		watcher, err := loop.New()
		if err != nil {
			t.Fatal(err)
		}
		app := New([]conf.App{plan}, shared, watcher, s.app.buffers)[0]
		app.Watch(zerolog.Nop())
		apps = append(apps, app)
		t.Cleanup(func() {
			app.Close()
			app.checks.running.Wait()
			watcher.Close()
			shared.Close()
		})
	}
	s.await("both to know", func() bool { return apps[0].queue.LeftOut() == 1 && apps[1].queue.LeftOut() == 1 })
	if n := s.requests.Load(); n != 1 {
		t.Errorf("%d checks", n)
	}
}

// TestCounts: what became of requests is counted once each.
func TestCounts(t *testing.T) {
	s := newStage(t, conf.App{}, func(a *actor) {
		if a.request() && a.body.Load() == "answer" {
			a.say(okReply)
		}
	})
	s.watched(conf.App{Retries: 1, InFlightMax: 1}, s.app.members[0].Socket)
	for _, c := range []struct{ method, body string }{
		{"POST", "answer"},
		{"POST", "none"}, // was read, so that it may not be sent again
		{"GET", ""},      // is sent twice
	} {
		if _, err := s.ask(c.method, c.body); (err == nil) != (c.body == "answer") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	var w board.Waiter
	if _, err := s.app.queue.Acquire(&w, 0, time.Now(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ask("GET", ""); err == nil {
		t.Error("there is no slot and no queue")
	}
	s.app.queue.Release(&w)
	got := s.app.queue.Report()
	want := [board.Tallies]uint64{board.Full: 1, board.Retried: 1, board.Failed: 2}
	if got.Counts != want || got.Members[0].Counts != [board.MemberTallies]uint64{board.Served: 1} {
		t.Errorf("%+v, want %v", got, want)
	}
}
