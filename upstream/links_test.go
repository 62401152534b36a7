package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/conf"
	"sallyport/proxy/h2"
	"sallyport/proxy/message"
	"sallyport/upstream/board"
)

// A talker is a connection to an app that speaks HTTP/2.
type talker struct {
	*actor
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

// talks has act run once for every connection, when it was greeted.
func talks(act func(*talker)) func(*actor) {
	return talksFirst(func(k *talker) {
		_ = k.WriteSettings()
		act(k)
	})
}

// talksFirst is talks for an act that greets.
func talksFirst(act func(*talker)) func(*actor) {
	return func(a *actor) {
		k := &talker{actor: a, Framer: http2.NewFramer(a.Conn, a.r)}
		k.enc = hpack.NewEncoder(&k.block)
		hello := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(a.r, hello); err != nil || string(hello) != http2.ClientPreface {
			return
		}
		act(k)
	}
}

// ask hears a request to its end, and is its stream; 0 is the end of the connection.
func (k *talker) ask() (stream uint32) {
	for {
		f, err := k.ReadFrame()
		if err != nil {
			k.closed.Add(1)
			return 0
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				k.requests.Add(1)
				return f.StreamID
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				k.requests.Add(1)
				return f.StreamID
			}
		}
	}
}

// answer answers 200 with a body.
func (k *talker) answer(stream uint32, body string) {
	k.block.Reset()
	_ = k.enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: k.block.Bytes(), EndHeaders: true})
	_ = k.WriteData(stream, true, []byte(body)) // who has left is seen by the test
}

func (k *talker) answers() {
	for id := k.ask(); id != 0; id = k.ask() {
		k.answer(id, "ok")
	}
}

// TestRepeatCall: which calls are made once more, when the first one fails, on a connection
// that is new or has carried another one.
func TestRepeatCall(t *testing.T) {
	refuse := func(k *talker) { _ = k.WriteRSTStream(k.ask(), http2.ErrCodeRefusedStream); k.answers() }
	goAway := func(last uint32) func(k *talker) {
		return func(k *talker) { k.ask(); _ = k.WriteGoAway(last, http2.ErrCodeNo, nil) }
	}
	reads := func(k *talker) { k.ask() }
	cancel := func(k *talker) { _ = k.WriteRSTStream(k.ask(), http2.ErrCodeCancel); k.answers() }
	half := func(k *talker) {
		id := k.ask()
		k.block.Reset()
		_ = k.enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: k.block.Bytes(), EndHeaders: true})
	}
	unread := func(k *talker) { k.arrived() }
	// As Go's own server, which reads one frame at a time, and begins with the first.
	head := func(k *talker) {
		defer k.Close()
		exact := http2.NewFramer(io.Discard, k.Conn)
		for f, err := exact.ReadFrame(); err == nil; f, err = exact.ReadFrame() {
			if f.Header().Type == http2.FrameHeaders {
				return
			}
		}
	}
	for name, test := range map[string]struct {
		act     func(*talker)
		method  string
		length  int
		reused  bool
		retries int
		again   bool
	}{
		"POST, refused":                 {refuse, "POST", 2000, false, 1, true},
		"POST, refused, no retries":     {refuse, "POST", 2000, false, 0, false},
		"POST, refused, reused":         {refuse, "POST", 2000, true, 0, true},
		"large POST, refused":           {refuse, "POST", 30_000, false, 1, true},
		"too large POST, refused":       {refuse, "POST", 40_000, false, 1, false},
		"POST, beyond the last":         {goAway(0), "POST", 2000, false, 1, true},
		"POST, beyond the last, reused": {goAway(1), "POST", 2000, true, 0, true},
		"POST, the last":                {goAway(1), "POST", 2000, false, 1, false},
		"POST, read":                    {reads, "POST", 2000, false, 1, false},
		"POST, read, reused":            {reads, "POST", 2000, true, 1, false},
		"GET, read":                     {reads, "GET", 0, false, 1, true},
		"GET, read, no retries":         {reads, "GET", 0, false, 0, false},
		"GET, cancelled":                {cancel, "GET", 0, false, 1, false},
		"GET, half a reply":             {half, "GET", 0, true, 1, false},
		"POST, not read":                {unread, "POST", 0, true, 1, true},
		"POST, not read, no retries":    {unread, "POST", 0, true, 0, true},
		"POST, head read":               {head, "POST", 2000, true, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, conf.App{H2C: true, Retries: test.retries}, talks(func(k *talker) {
				if k.number == 1 {
					if test.reused {
						k.answer(k.ask(), "ok")
					}
					test.act(k)
					return
				}
				k.answers()
			}))
			if test.reused {
				s.get()
			}
			got, err := s.ask(test.method, strings.Repeat("x", test.length))
			if test.again && (err != nil || got != "ok") {
				t.Errorf("%q: %v", got, err)
			}
			if !test.again {
				s.failed(err)
			}
		})
	}
}

// TestRefusedForEver: an app that refuses all it is asked is asked no more often than retries
// and a spared connection let it.
func TestRefusedForEver(t *testing.T) {
	s := newStage(t, conf.App{H2C: true, Retries: 2}, talks(func(k *talker) {
		for id := k.ask(); id != 0; id = k.ask() {
			_ = k.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		}
	}))
	s.app.again = 0
	_, err := s.ask("POST", "x")
	s.failed(err)
	if fault, ok := errors.AsType[*Error](err); !ok || fault.Status() != 503 || !strings.Contains(fault.Hint(), "max_inflight") {
		t.Errorf("%v", err)
	}
	if n := s.requests.Load(); n > 4 {
		t.Errorf("asked %d times", n)
	}
}

// TestManyOnOne: calls at a time share a connection, and never more than max_inflight.
func TestManyOnOne(t *testing.T) {
	const most, many = 10, 200
	s := newStage(t, conf.App{H2C: true, InFlightMax: most, QueueLen: many, QueueTime: patience}, talks(func(k *talker) {
		var open []uint32
		for id := k.ask(); id != 0; id = k.ask() {
			if open = append(open, id); len(open) > most {
				k.Errorf("%d at a time", len(open))
			}
			if len(open) == most { // all at once
				for _, id := range open {
					k.answer(id, "ok")
				}
				open = open[:0]
			}
		}
	}))
	var asking sync.WaitGroup
	for range many {
		asking.Go(func() {
			if got, err := s.ask("POST", "x"); err != nil || got != "ok" {
				t.Errorf("%q: %v", got, err)
			}
		})
	}
	asking.Wait()
	if n := s.accepted.Load(); n > 1 {
		t.Errorf("%d connections", n)
	}
}

// TestFewAtATime: an app that takes two calls at a time on a connection is never asked for a
// third there, though it says so only when the first ones have come; and nothing is lost by it.
func TestFewAtATime(t *testing.T) {
	const many = 40
	s := newStage(t, conf.App{H2C: true}, talksFirst(func(k *talker) {
		_ = k.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
		open := map[uint32]bool{}
		for {
			f, err := k.ReadFrame()
			if err != nil {
				return
			}
			id, end := f.Header().StreamID, f.Header().Flags.Has(http2.FlagDataEndStream)
			switch f.(type) {
			case *http2.HeadersFrame, *http2.DataFrame:
				if open[id] = true; len(open) > 2 {
					k.Errorf("%d at a time", len(open))
				}
				if n := f.Header().Length; n > 0 {
					_ = k.WriteWindowUpdate(0, n)
				}
				if end {
					k.answer(id, "ok")
					delete(open, id)
				}
			}
		}
	}))
	var asking sync.WaitGroup
	for range many {
		asking.Go(func() {
			if got, err := s.ask("POST", strings.Repeat("x", 50_000)); err != nil || got != "ok" { // more than is kept
				t.Errorf("%q: %v", got, err)
			}
		})
	}
	asking.Wait()
}

// TestNoneAtATime: connections to an app that takes no calls are not kept, for each request
// makes some of its own.
func TestNoneAtATime(t *testing.T) {
	s := newStage(t, conf.App{H2C: true, Retries: 1}, talksFirst(func(k *talker) {
		_ = k.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		k.answers()
	}))
	s.app.again = 0
	for range 10 {
		_, err := s.ask("GET", "")
		s.failed(err)
	}
	links := &s.app.members[0].links
	for begun := time.Now(); links.count() > 0; runtime.Gosched() {
		if time.Since(begun) > h2.AppIdle/2 {
			t.Fatalf("%d connections", links.count())
		}
	}
}

func (s *links) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// TestClosedApp: what an app is asked after it was closed, it answers, and its connections
// end.
func TestClosedApp(t *testing.T) {
	s := newStage(t, conf.App{H2C: true}, talks((*talker).answers))
	s.get()
	s.app.Close()
	s.get()
	s.get()
	s.await("end of three connections", func() bool { return s.accepted.Load() == 3 && s.closed.Load() == 3 })
}

// TestCheckCall: checks speak what the app does.
func TestCheckCall(t *testing.T) {
	s := newStage(t, conf.App{}, func(a *actor) {
		server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 || r.Host != "app.test" || r.URL.Path != "/up" {
				a.Errorf("asked %s %s %s", r.Proto, r.Host, r.URL)
			}
			w.WriteHeader(204)
		})}
		server.Protocols.SetUnencryptedHTTP2(true)
		_ = server.Serve(&onlyOne{conn: a.Conn, over: make(chan struct{})})
	})
	plan := conf.App{H2C: true, Health: &conf.Health{Path: "/up", Host: "app.test", Every: patience}}
	s.watched(plan, s.app.members[0].Socket)
	if verdict, _ := s.app.ask(s.app.members[0], patience); verdict != 0 {
		t.Errorf("a check says %v", verdict)
	}
	s = newStage(t, plan, func(a *actor) {
		a.arrived()
		a.say(okReply)
		_, _ = io.Copy(io.Discard, a.Conn)
	})
	if verdict, _ := s.app.ask(s.app.members[0], patience); verdict == 0 {
		t.Error("a check of an app that speaks HTTP/1 says nothing")
	}
}

// TestUpgradeCall: who takes no WebSockets is not asked for any.
func TestUpgradeCall(t *testing.T) {
	s := newStage(t, conf.App{H2C: true}, talks((*talker).answers))
	req := asking("GET", 0)
	req.Upgrade = []byte("websocket")
	l, err := s.app.Send(req, &text{}, nil)
	l.Release()
	if fault, ok := errors.AsType[*Error](err); !ok || fault.Status() != 501 || !strings.Contains(fault.Hint(), "RFC 8441") {
		t.Errorf("%v", err)
	}
	if n := s.requests.Load(); n > 0 {
		t.Errorf("asked %d times", n)
	}
}

// TestUpgradeWithoutGet: a handshake is a GET (RFC 6455, section 4.1); what else asks for an
// upgrade is asked without it.
func TestUpgradeWithoutGet(t *testing.T) {
	s := newStage(t, conf.App{H2C: true}, talksFirst(func(k *talker) {
		_ = k.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		k.answers()
	}))
	req := asking("POST", 0)
	req.Upgrade = []byte("websocket")
	l, err := s.app.Send(req, &text{}, nil)
	defer l.Release()
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := hear(l, req); err != nil || status != 200 {
		t.Errorf("%d: %v", status, err)
	}
}

// A leaver is a client that has left.
type leaver struct{ message.Stream }

func (leaver) Left() bool { return true }
func (leaver) Gone() bool { return true }

// TestLeavesSilent: who leaves before the app has said its first word is no fault of the app.
func TestLeavesSilent(t *testing.T) {
	s := newStage(t, conf.App{H2C: true, Idle: patience}, func(a *actor) { _, _ = io.Copy(io.Discard, a.Conn) })
	l, err := s.app.Send(asking("GET", 0), &text{}, leaver{})
	l.Release()
	if !errors.Is(err, board.ErrGone) {
		t.Errorf("%v", err)
	}
}

// onlyOne is a listener that has one connection, and ends with it.
type onlyOne struct {
	conn net.Conn
	over chan struct{}
}

func (l *onlyOne) Accept() (net.Conn, error) {
	if l.conn == nil {
		<-l.over
		return nil, net.ErrClosed
	}
	c := &lasting{Conn: l.conn, over: l.over}
	l.conn = nil
	return c, nil
}

func (l *onlyOne) Close() error   { return nil }
func (l *onlyOne) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// A lasting is a connection that says when it is closed.
type lasting struct {
	net.Conn
	over chan struct{}
	once sync.Once
}

func (c *lasting) Close() error {
	c.once.Do(func() { close(c.over) })
	return c.Conn.Close()
}
