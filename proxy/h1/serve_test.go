package h1

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// serveFunc is a Handler.
type serveFunc func(*message.Exchange)

func (f serveFunc) Serve(ex *message.Exchange) { f(ex) }

// readAll is an answerer of 204 that reads the body first.
func readAll(ex *message.Exchange) {
	for {
		if _, err := ex.Stream.Next(); err != nil {
			break
		}
	}
	_ = ex.Stream.Reply(&message.Response{Status: 204})
	_ = ex.Stream.Finish(nil)
}

// TestWaitsHaveTheirLimits: the deadline that holds for each read, by the limit
// that set it; an hour stands for one that is not there.
func TestWaitsHaveTheirLimits(t *testing.T) {
	const head, body, idle, none = time.Minute, 2 * time.Minute, 3 * time.Minute, time.Hour
	all := conf.Limits{HeadTime: head, BodyIdle: body, KeepaliveIdle: idle}
	post := []string{"POST / HTTP/1.1\r\n", "Host: a.test\r\nContent-Length: 4\r\n\r\n", "ha", "lf", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"}
	for name, test := range map[string]struct {
		change func(*conf.Limits)
		want   []time.Duration
	}{
		"all":            {func(*conf.Limits) {}, []time.Duration{head, head, body, body, idle, idle}},
		"no body_idle":   {func(l *conf.Limits) { l.BodyIdle = 0 }, []time.Duration{head, head, none, none, idle, idle}},
		"a rate":         {func(l *conf.Limits) { l.BodyRate = 1 }, []time.Duration{head, head, body, body, idle, idle}},
		"only a rate":    {func(l *conf.Limits) { l.BodyIdle, l.BodyRate = 0, 1 }, []time.Duration{head, head, time.Minute, time.Minute, idle, idle}},
		"no head_time":   {func(l *conf.Limits) { l.HeadTime = 0 }, []time.Duration{none, none, body, body, idle, idle}},
		"no keepalive":   {func(l *conf.Limits) { l.KeepaliveIdle = 0 }, []time.Duration{head, head, body, body, none, none}},
		"nothing at all": {func(l *conf.Limits) { *l = conf.Limits{} }, []time.Duration{none, none, none, none, none, none}},
	} {
		limits := all
		test.change(&limits)
		limits.HeadBytes, limits.LineBytes, limits.Fields = 1000, 200, 10
		conn := &script{pieces: append([]string(nil), post...)}
		e := &Engine{Handler: serveFunc(readAll), Limits: limits, Buffers: new(Buffers)}
		begun := time.Now()
		e.Serve(conn, message.Peer{})
		if len(conn.limits) != len(test.want) {
			t.Fatalf("%s: %d reads; said %q", name, len(conn.limits), conn.said)
		}
		for i, at := range conn.limits {
			got := none
			if !at.IsZero() {
				got = at.Sub(begun).Truncate(30 * time.Second)
			}
			if got != test.want[i] {
				t.Errorf("%s: read %d within %v, want %v", name, i, got, test.want[i])
			}
		}
	}
}

func TestAppWaitsHaveTheirLimits(t *testing.T) {
	const none = time.Hour
	for _, test := range []struct{ firstByte, idle, want, wantLater time.Duration }{
		{time.Minute, 2 * time.Minute, time.Minute, 2 * time.Minute},
		{time.Minute, 0, time.Minute, none},
		{0, time.Minute, none, time.Minute},
		{0, 0, none, none},
	} {
		conn := &script{pieces: []string{"HTTP/1.1 200 OK\r\n", "\r\n"}}
		var a AppConn
		begun := time.Now()
		a.Open(conn, new(Buffers), testLimits(), test.idle)
		if err := a.Await(test.firstByte); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ReadReply(&message.Request{}); err != nil {
			t.Fatal(err)
		}
		for i, want := range []time.Duration{test.want, test.wantLater} {
			got := none
			if at := conn.limits[i]; !at.IsZero() {
				got = at.Sub(begun).Truncate(30 * time.Second)
			}
			if got != want {
				t.Errorf("%+v: read %d within %v, want %v", test, i, got, want)
			}
		}
	}
}

// TestHeadOfAnApp: however a head comes, it has one limit, and so has the next.
func TestHeadOfAnApp(t *testing.T) {
	conn := &script{pieces: []string{
		"HTTP/1.1 103", " Early Hints\r\n", "A: b\r\n", "\r\n", "HTTP/1.1 200", " OK\r\n", "\r\n", "body", "more",
	}}
	var a AppConn
	a.Open(conn, new(Buffers), testLimits(), time.Minute)
	defer a.Close()
	if err := a.Await(time.Hour); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := a.ReadReply(&message.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := a.Next(); err != nil {
			t.Fatal(err)
		}
	}
	// Which reads have the deadline of the read before them: the later ones of a head.
	var same []int
	for i := 1; i < len(conn.limits); i++ {
		if conn.limits[i].Equal(conn.limits[i-1]) {
			same = append(same, i)
		}
	}
	if want := []int{2, 3, 6}; !slices.Equal(same, want) {
		t.Errorf("reads %v have the limit of those before, want %v", same, want)
	}
}

// TestDrainAsARequestComes: a request that was begun is answered, or its connection
// ends without a word; the deadline that ends an idle wait must not end its head.
func TestDrainAsARequestComes(t *testing.T) {
	limits := testLimits()
	limits.HeadTime, limits.KeepaliveIdle = time.Minute, time.Minute
	for range 500 {
		e := &Engine{Handler: serveFunc(readAll), Limits: limits, Buffers: new(Buffers), Refused: func(_ *message.Exchange, refusal *message.Refusal) {
			t.Errorf("refused: %v", refusal)
		}}
		ours, theirs := net.Pipe()
		served, drained := make(chan struct{}), make(chan struct{})
		go func() { e.Serve(ours, message.Peer{}); close(served) }()
		go func() { e.Drain(); close(drained) }()
		if _, err := io.WriteString(theirs, "GET / HT"); err == nil {
			_, _ = io.WriteString(theirs, "TP/1.1\r\nHost: a.test\r\n\r\n")
		}
		if said, _ := io.ReadAll(theirs); len(said) > 0 && !strings.HasPrefix(string(said), "HTTP/1.1 204 ") {
			t.Errorf("said %q", said)
		}
		<-served
		<-drained
	}
}

// TestUnfinishedExchanges: a Handler that returns without an answer, or with half
// of one, leaves a connection that cannot be used.
func TestUnfinishedExchanges(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	limits := testLimits()
	for name, test := range map[string]struct {
		serve serveFunc
		said  string
	}{
		"nothing": {func(*message.Exchange) {}, ""},
		"half": {func(ex *message.Exchange) {
			_ = ex.Stream.Reply(&message.Response{Status: 200, Length: 10})
			_, _ = ex.Stream.Write([]byte("half"))
			_ = ex.Stream.Flush()
			if err := ex.Stream.Finish(nil); err != errTooShort {
				t.Errorf("half: %v", err)
			}
		}, "\r\n\r\nhalf"},
		"too long": {func(ex *message.Exchange) {
			_ = ex.Stream.Reply(&message.Response{Status: 200, Length: 1})
			if _, err := ex.Stream.Write([]byte("ab")); err != errTooLong {
				t.Errorf("too long: %v", err)
			}
			ex.Stream.Abort(message.Reason{})
		}, ""},
		"aborted": {func(ex *message.Exchange) {
			_ = ex.Stream.Reply(&message.Response{Status: 200, Length: -1})
			ex.Stream.Abort(message.Reason{})
		}, ""},
	} {
		conn := &script{pieces: []string{get + get}}
		served := 0
		e := &Engine{Limits: limits, Buffers: new(Buffers), Handler: serveFunc(func(ex *message.Exchange) {
			served++
			test.serve(ex)
		})}
		e.Serve(conn, message.Peer{})
		if served != 1 || !strings.HasSuffix(string(conn.said), test.said) || test.said == "" && len(conn.said) > 0 {
			t.Errorf("%s: served %d, said %q", name, served, conn.said)
		}
	}
}

// TestBodyLeftUnread: what is left of a body is not read as a request.
func TestBodyLeftUnread(t *testing.T) {
	limits := testLimits()
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n26\r\n",
	} {
		for _, read := range []int{0, 1} {
			conn := &script{pieces: []string{request + "GET / HTTP/1.1\r\n", "Host: a.test\r\n\r\n"}}
			served := 0
			e := &Engine{Limits: limits, Buffers: new(Buffers), Handler: serveFunc(func(ex *message.Exchange) {
				served++
				for range read {
					if _, err := ex.Stream.Next(); err != nil {
						t.Error(err)
					}
				}
				_ = ex.Stream.Reply(&message.Response{Status: 204})
				_ = ex.Stream.Finish(nil)
			})}
			e.Serve(conn, message.Peer{})
			if served != 1 || strings.Count(string(conn.said), "HTTP/1.1") != 1 || !strings.Contains(string(conn.said), "\r\nConnection: close\r\n") {
				t.Errorf("%q, %d read: served %d, said %q", request, read, served, conn.said)
			}
		}
	}
}

// TestEmptyWritesAndTrailers: a piece of no bytes is not the last chunk.
func TestEmptyWritesAndTrailers(t *testing.T) {
	limits := testLimits()
	conn := &script{pieces: []string{"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"}}
	e := &Engine{Limits: limits, Buffers: new(Buffers), Handler: serveFunc(func(ex *message.Exchange) {
		_ = ex.Stream.Reply(&message.Response{Status: 200, Length: -1})
		_, _ = ex.Stream.Write(nil) // no last chunk
		_, _ = ex.Stream.Write([]byte("x"))
		_, _ = ex.Stream.Write([]byte{})
		var trailer message.Fields
		trailer.Add("A", []byte("b"))
		_ = ex.Stream.Finish(&trailer)
	})}
	e.Serve(conn, message.Peer{})
	if _, body, _ := strings.Cut(string(conn.said), "\r\n\r\n"); body != "1\r\nx\r\n0\r\nA: b\r\n\r\n" {
		t.Errorf("%q", body)
	}
}

// TestBuffersGoBack: each buffer goes to the pool of its size, and what grew does not.
func TestBuffersGoBack(t *testing.T) {
	var b Buffers
	for _, p := range [][]byte{b.takeSmall(), b.takeOut(), b.takeLarge(), nil, make([]byte, 100), make([]byte, 128<<10)} {
		b.give(p)
	}
	if len(b.takeSmall()) != smallBytes || len(b.takeOut()) != 0 || cap(b.takeOut()) != outBytes || len(b.takeLarge()) != largeBytes {
		t.Error("sizes are mixed up")
	}
}

// TestReaderMoves: bytes survive every move of the buffer.
func TestReaderMoves(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 1000)
	r := readerOf(text[:4096], text[4096:5000], text[5000:9000], text[9000:])
	for range 3 {
		if err := r.fill(); err != nil {
			t.Fatal(err)
		}
	}
	r.from += 3000
	r.widen()
	for r.fill() != io.EOF {
	}
	if string(r.unused()) != text[3000:] {
		t.Error("bytes were lost")
	}
	r.narrow() // too much is unused
	r.from = len(r.buf[:r.to]) - 100
	r.narrow()
	if string(r.unused()) != text[len(text)-100:] || len(r.buf) != smallBytes {
		t.Errorf("%d bytes in a buffer of %d", len(r.unused()), len(r.buf))
	}
}
