package upstream

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// What the app does to the request that is to fail.
func resets(a *actor)    { a.arrived() } // closes with it unread
func readsIt(a *actor)   { a.request() } // and closes
func halfReply(a *actor) { a.request(); a.say("H") }

// TestRepeat: which requests are sent once more, on which connections.
func TestRepeat(t *testing.T) {
	const small, large = 2000, 5000 // of bodies, on either side of resendMax
	for name, test := range map[string]struct {
		act     func(*actor)
		method  string
		length  int
		reused  bool // it fails on a connection that was idle
		retries int
		again   bool
	}{
		"GET, closed":                  {readsIt, "GET", 0, false, 1, true},
		"GET, closed, no retries":      {readsIt, "GET", 0, false, 0, false},
		"GET, idle closed, no retries": {readsIt, "GET", 0, true, 0, true},
		"HEAD, idle closed":            {readsIt, "HEAD", 0, true, 0, true},
		"OPTIONS, reset":               {resets, "OPTIONS", 0, false, 1, true},
		"GET, half a reply":            {halfReply, "GET", 0, true, 1, false},
		"GET with a body, closed":      {readsIt, "GET", small, true, 1, false},
		"POST, closed":                 {readsIt, "POST", small, false, 1, false},
		"POST, idle closed":            {readsIt, "POST", small, true, 1, false},
		"POST without body, closed":    {readsIt, "POST", 0, true, 1, false},
		"DELETE, closed":               {readsIt, "DELETE", 0, true, 1, false},
		"POST, reset":                  {resets, "POST", small, false, 1, true},
		"POST, reset, no retries":      {resets, "POST", small, false, 0, false},
		"POST, idle reset, no retries": {resets, "POST", small, true, 0, true},
		"large POST, reset":            {resets, "POST", large, false, 1, false},
		"large POST, idle reset":       {resets, "POST", large, true, 1, false},
		"longer POST, reset":           {resets, "POST", 100 << 10, false, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, conf.App{Keepalive: 1, Retries: test.retries}, func(a *actor) {
				if a.number == 1 {
					if test.reused {
						a.request()
						a.say(okReply)
					}
					test.act(a)
					return
				}
				answers("HTTP/1.1 204 No Content\r\n\r\n")(a)
			})
			if test.reused {
				s.get()
			}
			body := strings.Repeat("b", test.length)
			_, err := s.ask(test.method, body)
			if again := err == nil; again != test.again {
				t.Fatalf("sent again: %v (%v)", again, err)
			}
			want := int64(1)
			if test.again {
				want = 2
			} else {
				s.failed(err)
			}
			if n := s.accepted.Load(); n != want || test.again && s.body.Load() != body {
				t.Errorf("%d connections, want %d; or the body was another one", n, want)
			}
		})
	}
}

// TestTriesEnd: a request that fails everywhere is sent retries times more, and once
// more where it began on a connection that was idle.
func TestTriesEnd(t *testing.T) {
	for _, retries := range []int{0, 1, 3} {
		s := newStage(t, conf.App{Keepalive: 1, Retries: retries}, func(a *actor) {
			a.request()
			if a.number == 1 {
				a.say(okReply)
				a.request()
			}
		})
		s.get()
		_, err := s.ask("GET", "")
		s.failed(err)
		if n := s.requests.Load(); n != int64(3+retries) {
			t.Errorf("%d retries: %d requests came, want %d", retries, n, 3+retries)
		}
	}
}

// TestNothingSent: an idle connection that takes not one byte costs no request, be it
// as long as it may and of any method. The loop must not know of its end yet, so it is
// taken out of the pool before.
func TestNothingSent(t *testing.T) {
	for _, length := range []int{0, 100, 5000, 1 << 20} {
		end := make(chan struct{})
		s := newStage(t, conf.App{Keepalive: 1}, func(a *actor) {
			a.request()
			a.say(okReply)
			if a.number == 1 {
				<-end
			}
		})
		s.get()
		l := s.app.lease(nil)
		if err := l.open(); err != nil || !l.reused {
			t.Fatalf("%v, reused: %v", err, l.reused)
		}
		close(end)
		s.await("end", l.on.raw.Ended)
		body := strings.Repeat("b", length)
		req := asking("POST", int64(length))
		err := l.send(req, &text{body, 20 << 10})
		if err == nil {
			_, _, err = hear(l, req)
		}
		if err != nil || s.body.Load() != body || l.tries != 0 {
			t.Errorf("%d bytes: %v, or another body came; %d tries", length, err, l.tries)
		}
		l.Release()
	}
}

// TestNothingSentNowhere: the same when the app has left altogether.
func TestNothingSentNowhere(t *testing.T) {
	end := make(chan struct{})
	s := newStage(t, conf.App{Keepalive: 1}, func(a *actor) {
		a.request()
		a.say(okReply)
		<-end
	})
	s.get()
	l := s.app.lease(nil)
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	close(end)
	s.await("end", l.on.raw.Ended)
	l.member = &Member{Socket: "/nowhere", idle: pool{keep: 1, spare: &s.app.conns}}
	err := l.send(asking("POST", 5), &text{"hello", 5})
	s.failed(err)
	if fault, ok := err.(*Error); !ok || fault.Op != Connect {
		t.Errorf("%v", err)
	}
	l.Release()
}

// TestLastWorker: the processes of an app are killed one after the other. A request that
// was with the first is not sent to a socket that ends with the last.
func TestLastWorker(t *testing.T) {
	s, socket := absentee(t, conf.App{QueueLen: 9, QueueTime: patience, Hold: patience, Retries: 1})
	s.app.again = time.Second
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan ended, 1)
	go func() { over <- ended{0, s.post(0, nil)} }()
	first, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	(&actor{s, first, nil, 1}).arrived()
	first.Close()
	raw, err := listener.(*net.UnixListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { // the next one would come in much less
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
	}); err != nil {
		t.Fatal(err)
	}
	listener.Close()
	come := answerOn(t, socket)
	if e := <-over; e.err != nil || len(come) != 1 {
		t.Errorf("%+v, %d came", e, len(come))
	}
	s.rests()
}
