package h1

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// nothing wants f to allocate nothing, once buffers have grown.
func nothing(t *testing.T, name string, f func()) {
	t.Helper()
	if raced {
		t.Skip("the race detector allocates")
	}
	if n := testing.AllocsPerRun(200, f); n != 0 {
		t.Errorf("%s: %v allocations", name, n)
	}
}

const browserHead = "GET /a/path?with=query HTTP/1.1\r\nHost: Shop.Example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Connection: keep-alive, Foo\r\nFoo: bar\r\nCookie: session=0123456789abcdef\r\nExpect: 100-continue\r\nUpgrade: h2c\r\nTE: trailers\r\n\r\n"

func TestHeadsAllocateNothing(t *testing.T) {
	limits := testLimits()
	limits.LineBytes, limits.Fields = 1000, 100
	var req message.Request
	var scratch, out []byte
	for _, head := range []string{
		browserHead,
		"GET http://a-host-with-a-long-name.shop.example.com/ HTTP/1.1\r\nHost: A-Host-With-A-Long-Name.shop.example.com\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		b := []byte(head)
		nothing(t, "parse "+head[:20], func() {
			req.Reset()
			if _, _, err := parseRequest(b, &req, &scratch, &limits); err != nil {
				t.Fatal(err)
			}
			req.Fields.RemoveUnclear()
			req.Fields.Add("X-Forwarded-For", req.Host)
		})
		nothing(t, "append "+head[:20], func() { out = appendRequest(out[:0], &req, closing) })
	}
	var resp message.Response
	b := []byte("HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 11\r\n\r\n")
	nothing(t, "parse a reply", func() {
		if _, _, err := parseResponse(b, &resp, &limits); err != nil {
			t.Fatal(err)
		}
	})
	nothing(t, "append a reply", func() { out = appendFields(appendStatusLine(out[:0], resp.Status), &resp.Fields) })
}

func TestBodiesAllocateNothing(t *testing.T) {
	conn := &script{}
	limits := testLimits()
	in := reader{wire: wireOf(conn), buffers: new(Buffers)}
	b := body{in: &in, limits: &limits, trailer: new(message.Fields)}
	text := "5;a=b\r\nhello\r\n" + "2000\r\n" + strings.Repeat("x", 0x2000) + "\r\n0\r\nA: b\r\n\r\n"
	pieces := make([]string, 1)
	nothing(t, "read chunks", func() {
		in.discard()
		pieces[0], conn.pieces, conn.limits = text, pieces, conn.limits[:0]
		b.inChunks()
		for {
			if _, err := b.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
	var a AppConn
	buffers := new(Buffers)
	req := &message.Request{Method: []byte("POST"), Host: []byte("a"), Target: []byte("/"), Length: -1}
	req.Trailer.Add("A", []byte("b"))
	source := &pieceSource{piece: []byte(strings.Repeat("x", 1000))}
	reply := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + text
	nothing(t, "an exchange with an app", func() {
		pieces[0], conn.pieces, conn.limits, conn.said = reply, pieces, conn.limits[:0], conn.said[:0]
		a.Open(conn, buffers, limits, time.Second)
		source.left = 100
		if done, err := a.Send(req, source); !done || err != nil {
			t.Fatal(done, err)
		}
		if err := a.Await(time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ReadReply(req); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := a.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		a.Close()
	})
}

// A pieceSource is a body of left equal pieces.
type pieceSource struct {
	piece []byte
	left  int
}

func (s *pieceSource) Ready() bool { return true }

func (s *pieceSource) Next() ([]byte, error) {
	if s.left == 0 {
		return nil, io.EOF
	}
	s.left--
	return s.piece, nil
}

// A loop is a client that says the same request again each time it is told.
type looping struct {
	net.Conn // nil
	request  string
	at       int
	next     chan struct{}
	waits    chan struct{}
	said     int
}

func (l *looping) Read(p []byte) (int, error) {
	if l.at == 0 {
		l.waits <- struct{}{}
		if _, ok := <-l.next; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, l.request[l.at:])
	l.at = (l.at + n) % len(l.request)
	return n, nil
}

func (l *looping) Write(p []byte) (int, error)      { l.said += len(p); return len(p), nil }
func (l *looping) SetReadDeadline(time.Time) error  { return nil }
func (l *looping) SetWriteDeadline(time.Time) error { return nil }
func (l *looping) Close() error                     { return nil }

// An answerer reads the body and answers with what it was made with.
type answerer struct {
	length int64
	body   []byte
	resp   message.Response
}

func (a *answerer) Serve(ex *message.Exchange) {
	for {
		if _, err := ex.Stream.Next(); err == io.EOF {
			break
		} else if err != nil {
			panic(err)
		}
	}
	a.resp.Status, a.resp.Length = 200, a.length
	a.resp.Fields.Reset()
	a.resp.Fields.Add("Content-Type", []byte("text/plain"))
	if err := ex.Stream.Reply(&a.resp); err != nil {
		panic(err)
	}
	for range 40 {
		if _, err := ex.Stream.Write(a.body); err != nil {
			panic(err)
		}
	}
	if err := ex.Stream.Finish(nil); err != nil {
		panic(err)
	}
}

func TestExchangesAllocateNothing(t *testing.T) {
	for name, test := range map[string]struct {
		request string
		length  int64
	}{
		"GET":                {browserHead, 40 * 1000},
		"POST":               {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", 40 * 1000},
		"long POST":          {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000), 40 * 1000},
		"chunks":             {"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", 40 * 1000},
		"reply in chunks":    {browserHead, -1},
		"HTTP/1.0":           {"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n", 40 * 1000},
		"pipelined requests": {strings.Repeat("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 20), -1},
	} {
		c := &looping{request: test.request, next: make(chan struct{}), waits: make(chan struct{})}
		limits := conf.Limits{
			HeadBytes: 32 << 10, Fields: 100, LineBytes: 8 << 10,
			HeadTime: time.Second, BodyIdle: time.Second, WriteIdle: time.Second, KeepaliveIdle: time.Second,
		}
		e := &Engine{Handler: &answerer{length: test.length, body: make([]byte, 1000)}, Limits: limits, Buffers: new(Buffers)}
		served := make(chan struct{})
		go func() {
			e.Serve(c, message.Peer{})
			close(served)
		}()
		<-c.waits
		nothing(t, name, func() {
			c.next <- struct{}{}
			<-c.waits
		})
		if c.said < 40000 {
			t.Errorf("%s: %d bytes were said", name, c.said)
		}
		close(c.next)
		<-served
	}
}
