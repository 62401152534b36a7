package upstream

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// TestRest: which replies leave a connection to the next request.
func TestRest(t *testing.T) {
	for name, test := range map[string]struct {
		method, reply string
		kept          bool
	}{
		"length":              {"GET", okReply, true},
		"empty":               {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true},
		"chunks":              {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true},
		"trailer":             {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n", true},
		"HEAD":                {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true},
		"HEAD without length": {"HEAD", "HTTP/1.1 200 OK\r\n\r\n", true},
		"204":                 {"GET", "HTTP/1.1 204 No Content\r\n\r\n", true},
		"304":                 {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", true},
		"early hints":         {"GET", "HTTP/1.1 103 Early Hints\r\n\r\n" + okReply, true},
		"POST":                {"POST", okReply, true},
		"a named field":       {"GET", "HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", true},
		"HTTP/1.0 asking":     {"GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", true},
		"HTTP/1.0":            {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		"close":               {"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false},
		"close in a list":     {"GET", "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 2\r\n\r\nok", false},
		"both":                {"GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok", false},
		"surplus":             {"GET", okReply + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", false},
		"surplus byte":        {"GET", okReply + "\n", false},
		"HEAD with a body":    {"HEAD", okReply, false},
		"304 with a body":     {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", false},
		"surplus of chunks":   {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, conf.App{Keepalive: 1}, answers(test.reply))
			for range 3 {
				if got, err := s.ask(test.method, ""); err != nil || got != "ok" && got != "" {
					t.Errorf("%q, %v", got, err)
				}
			}
			want := int64(3)
			if test.kept {
				want = 1
			}
			if n := s.accepted.Load(); n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
			if !test.kept {
				s.await("end of each", func() bool { return s.closed.Load() == 3 })
			}
		})
	}
}

// TestUntilClose: a reply that its connection ends leaves nothing to keep, and one to
// an Upgrade neither.
func TestUntilClose(t *testing.T) {
	s := newStage(t, conf.App{Keepalive: 1}, func(a *actor) {
		if a.request() {
			a.say("HTTP/1.1 200 OK\r\n\r\nok")
		}
	})
	s.get()
	s.get()
	if n := s.accepted.Load(); n != 2 || s.idle() != 0 {
		t.Errorf("%d connections, %d idle", n, s.idle())
	}
	s = newStage(t, conf.App{Keepalive: 1}, func(a *actor) {
		answers("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")(a)
	})
	req := asking("GET", 0)
	req.Upgrade = []byte("websocket")
	l, err := s.app.Send(req, nothingToSend{}, nil)
	if err == nil {
		_, err = l.ReadReply(req)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	if s.idle() != 0 {
		t.Error("a tunnel was kept")
	}
	s.await("end", func() bool { return s.closed.Load() == 1 })
}

// TestHalfRead: a reply that nobody has read to its end ends its connection.
func TestHalfRead(t *testing.T) {
	s := newStage(t, conf.App{Keepalive: 1}, answers(okReply))
	req := asking("GET", 0)
	l, err := s.app.Send(req, nothingToSend{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Release() // before its head
	s.await("end", func() bool { return s.closed.Load() == 1 })
	s = newStage(t, conf.App{Keepalive: 1}, answers("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"))
	if l, err = s.app.Send(req, nothingToSend{}, nil); err == nil {
		if _, err = l.ReadReply(req); err == nil {
			_, err = l.Next()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Release() // one byte is missing
	s.await("end", func() bool { return s.closed.Load() == 1 })
}

// TestPool: the last one first, no more than keepalive, and none after Close.
func TestPool(t *testing.T) {
	s := newStage(t, conf.App{Keepalive: 3}, answers(okReply))
	together := func(n int) (on []*conn) {
		var leases []*Lease
		req := asking("GET", 0)
		for range n {
			l, err := s.app.Send(req, nothingToSend{}, nil)
			if err == nil {
				_, _, err = hear(l, req)
			}
			if err != nil {
				t.Fatal(err)
			}
			leases = append(leases, l)
			on = append(on, l.on)
		}
		for _, l := range leases {
			l.Release()
		}
		return on
	}
	first := together(4)
	s.await("end of the one too many", func() bool { return s.closed.Load() == 1 && s.idle() == 3 })
	second := together(3)
	for i := range second {
		if second[i] != first[2-i] {
			t.Errorf("taken as number %d: not what was put as number %d", i, 2-i)
		}
	}
	for range 20 {
		if on := together(1); on[0] != second[2] {
			t.Fatal("not the one that was used last")
		}
	}
	s.app.Close()
	s.await("end of all", func() bool { return s.closed.Load() == 4 && s.idle() == 0 })
	s.get()
	s.await("end of one that came back after Close", func() bool { return s.closed.Load() == 5 })
	if n := s.accepted.Load(); n != 5 {
		t.Errorf("%d connections, want 5", n)
	}
}

// TestIdleEnds: what the app closes, or talks on, is gone at once; what nobody uses
// is later. None has a goroutine.
func TestIdleEnds(t *testing.T) {
	for name, act := range map[string]func(*actor){
		"closed":  func(*actor) {},
		"unasked": func(a *actor) { a.say("HTTP/1.1 408 Request Timeout\r\n\r\n"); a.request() },
		"unused":  func(a *actor) { a.request() },
	} {
		t.Run(name, func(t *testing.T) {
			end := make(chan struct{})
			s := newStage(t, conf.App{Keepalive: 50}, func(a *actor) {
				a.request()
				a.say(okReply)
				<-end
				act(a)
			})
			before := runtime.NumGoroutine()
			req, leases := asking("GET", 0), make([]*Lease, 50)
			for i := range leases {
				l, err := s.app.Send(req, nothingToSend{}, nil)
				if err == nil {
					_, _, err = hear(l, req)
				}
				if err != nil {
					t.Error(err)
				}
				leases[i] = l
			}
			for _, l := range leases {
				l.Release()
			}
			ours := runtime.NumGoroutine() - before - int(s.accepted.Load()) // one of the app for each
			if s.idle() == 50 && ours > 5 {
				t.Errorf("%d goroutines for 50 idle connections", ours)
			}
			close(end)
			s.await("end of all", func() bool { return s.idle() == 0 })
		})
	}
}

// A slowBody comes when it is told to, or breaks.
type slowBody struct{ come chan []byte }

func (b slowBody) Ready() bool { return false }

func (b slowBody) Next() ([]byte, error) {
	piece, ok := <-b.come
	switch {
	case !ok:
		return nil, errors.New("the client has left")
	case piece == nil:
		return nil, io.EOF
	}
	return piece, nil
}

// TestUploads: a connection is kept after an upload that was finished, and not after
// an answer that came before.
func TestUploads(t *testing.T) {
	s := newStage(t, conf.App{Keepalive: 1}, answers(okReply))
	for range 2 {
		come := make(chan []byte, 3)
		come <- []byte("one ")
		come <- []byte("two")
		come <- nil
		req := asking("POST", 7)
		l, err := s.app.Send(req, slowBody{come}, nil)
		if err == nil {
			_, _, err = hear(l, req)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.await("end of the upload", func() bool { return len(l.uploaded) == 1 })
		l.Release()
	}
	if n := s.accepted.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}

	s = newStage(t, conf.App{Keepalive: 1}, func(a *actor) {
		a.arrived()
		a.say(okReply)
		_, _ = io.Copy(io.Discard, a.Conn)
		a.closed.Add(1)
	})
	come := make(chan []byte)
	req := asking("POST", 7)
	l, err := s.app.Send(req, slowBody{come}, nil)
	if err == nil {
		_, _, err = hear(l, req)
	}
	if err != nil {
		t.Fatal(err)
	}
	close(come)
	l.Release()
	if s.idle() != 0 {
		t.Error("kept with half a request on it")
	}
	s.await("end", func() bool { return s.closed.Load() == 1 })
}

// TestSurplus: bytes behind a reply are told of where the connection would be kept.
func TestSurplus(t *testing.T) {
	for keepalive, want := range []bool{false, true} {
		s := newStage(t, conf.App{Keepalive: keepalive}, func(a *actor) {
			a.request()
			a.say(okReply + "more")
		})
		req := asking("GET", 0)
		l, err := s.app.Send(req, nothingToSend{}, nil)
		if err == nil {
			_, _, err = hear(l, req)
		}
		if err != nil {
			t.Fatal(err)
		}
		if fault := l.Surplus(); (fault != nil) != want || want && (fault.Hint() == "" || !errors.Is(fault, ErrSurplus)) {
			t.Errorf("keepalive %d: %v", keepalive, fault)
		}
		l.Release()
	}
}

// TestStale: an app that promises to keep connections and closes each right behind its
// answer costs nobody a request.
func TestStale(t *testing.T) {
	s := newStage(t, conf.App{Keepalive: 8}, func(a *actor) {
		a.request()
		a.say(okReply)
	})
	var askers sync.WaitGroup
	for range 20 {
		askers.Go(func() {
			for range 50 {
				if got, err := s.ask("GET", ""); err != nil || got != "ok" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	askers.Wait()
	s.await("empty pool", func() bool { return s.idle() == 0 })
}

var _ message.Source = slowBody{}
