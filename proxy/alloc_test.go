//go:build !race

package proxy_test

import (
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/proxy"
	"sallyport/proxy/h1"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
	"sallyport/upstream"
	"sallyport/upstream/board"
)

// A looping is a client that says the same request again each time it is told, in two parts
// if it has a body that comes later.
type looping struct {
	net.Conn // nil
	request  string
	later    string
	rest     string // of later
	next     chan struct{}
	waits    chan struct{}
	said     int
}

func (l *looping) Read(p []byte) (int, error) {
	if len(l.rest) > 0 {
		n := copy(p, l.rest)
		l.rest = l.rest[n:]
		return n, nil
	}
	l.rest = l.later
	l.waits <- struct{}{}
	if _, ok := <-l.next; !ok {
		return 0, io.EOF
	}
	return copy(p, l.request), nil
}

func (l *looping) Write(p []byte) (int, error)      { l.said += len(p); return len(p), nil }
func (l *looping) SetReadDeadline(time.Time) error  { return nil }
func (l *looping) SetWriteDeadline(time.Time) error { return nil }
func (l *looping) Close() error                     { return nil }

// TestPassageAllocations: what a request allocates beyond what the app does for it,
// which a bare dial tells. It rises only by a change of this number.
func TestPassageAllocations(t *testing.T) {
	plain := get("X-Forwarded-For: 1.2.3.4", "Cookie: a=b")
	for name, c := range map[string]struct {
		client    looping
		keepalive int
		guarded   bool // the site asks for certificates, and says HSTS
		h2c       bool // the app speaks HTTP/2
	}{
		"app closes":      {looping{request: plain}, 0, false, false},
		"keepalive":       {looping{request: plain}, 1, false, false},
		"body":            {looping{request: post(long(1000))}, 1, false, false},
		"body comes late": {looping{request: request("POST / HTTP/1.1", "Content-Length: 1000"), later: long(1000)}, 1, false, false},
		"in chunks":       {looping{request: request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + inChunks(long(1000), 100)}, 1, false, false},
		"chunks late":     {looping{request: request("POST / HTTP/1.1", "Transfer-Encoding: chunked"), later: inChunks(long(1000), 100)}, 1, false, false},
		"h2c":             {looping{request: plain}, 1, false, true},
		"h2c, body":       {looping{request: post(long(1000))}, 1, false, true},
		"h2c, body late":  {looping{request: request("POST / HTTP/1.1", "Content-Length: 1000"), later: long(1000)}, 1, false, true},
		"guarded":         {looping{request: get("X-Forwarded-Proto: https", "Client-Cert: :AAAA:")}, 1, true, false},
	} {
		t.Run(name, func(t *testing.T) { passageAllocations(t, &c.client, c.keepalive, c.guarded, c.h2c) })
	}
}

func passageAllocations(t *testing.T, c *looping, keepalive int, guarded, h2c bool) {
	const passageAllocs = 0
	socket := filepath.Join(t.TempDir(), "app")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var accepted atomic.Int64
	plan := plainPlan(socket)
	if plan.Apps[0].H2C = h2c; h2c {
		go answerFrames(l, &accepted)
	} else {
		go answerAll(l, keepalive > 0, &accepted)
	}
	plan.Apps[0].Keepalive = keepalive
	plan.Sites[0].Routes[0].Buffer = true
	peer := message.Peer{Addr: netip.MustParseAddrPort("192.0.2.1:4242")}
	if guarded {
		plan.Sites[0].HSTS, plan.Sites[0].Clients = "max-age=31536000", &conf.Clients{Door: 1}
		plan.Trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // which makes it secure
		peer.Client = &message.Client{Door: 1, Certificate: []byte(long(2000)), Subject: []byte("CN=alice")}
	}
	buffers := new(h1.Buffers)
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	shared, err := board.Private(plan.Apps)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	apps := upstream.New(plan.Apps, shared, watcher, buffers)
	defer apps[0].Close()
	forwarder := proxy.New(plan, apps, zerolog.New(io.Discard).With().Timestamp().Logger())
	arena := openSpool(t, plan.Spool)
	defer arena.Close()
	forwarder.Buffer(arena)
	e := &h1.Engine{Handler: forwarder, Limits: plan.Limits, Buffers: buffers, Refused: forwarder.Refused}
	c.next, c.waits = make(chan struct{}), make(chan struct{})
	served := make(chan struct{})
	go func() {
		e.Serve(c, peer)
		close(served)
	}()
	<-c.waits
	passage := testing.AllocsPerRun(500, func() {
		c.next <- struct{}{}
		<-c.waits
	})
	if n := accepted.Load(); (n == 1) != (keepalive > 0) {
		t.Errorf("%d connections to the app", n)
	}
	dial := 0.0
	if keepalive == 0 {
		dial = dialAllocations(t, socket, c.request)
	}
	if got := passage - dial; got != passageAllocs {
		t.Errorf("%v allocations (%v with those of a dial), want %v", got, passage, passageAllocs)
	}
	if c.said < 500*100 {
		t.Errorf("%d bytes were said", c.said)
	}
	close(c.next)
	<-served
}

// dialAllocations is what an app allocates for a connection of its own.
func dialAllocations(t *testing.T, socket, question string) float64 {
	addr, scratch := &unix.SockaddrUnix{Name: socket}, make([]byte, 1000)
	request := []byte(question)
	return testing.AllocsPerRun(500, func() {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Write(fd, request)
		for n := 1; n > 0; {
			n, _ = unix.Read(fd, scratch)
		}
		unix.Close(fd)
	})
}

// answerAll is an app that answers without a look at the question, one connection after
// the other.
func answerAll(l net.Listener, keep bool, accepted *atomic.Int64) {
	scratch, reply := make([]byte, 4096), []byte(ok)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		accepted.Add(1)
		for {
			if _, err := conn.Read(scratch); err != nil {
				break
			}
			if _, err := conn.Write(reply); err != nil || !keep {
				break
			}
		}
		conn.Close()
	}
}

// answerFrames is answerAll in HTTP/2.
func answerFrames(l net.Listener, accepted *atomic.Int64) {
	const lengthLiteral = 13 // "content-length: 2" without a table, as 0x0f 0x0d 1 '2'
	hello := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	reply := []byte{
		0, 0, 5, 1, 4, 0, 0, 0, 0, 0x88, 0x0f, lengthLiteral, 1, '2', // HEADERS
		0, 0, 2, 0, 1, 0, 0, 0, 0, 'o', 'k', // DATA, and the end
		0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, // 4 KiB of window
	}
	scratch := make([]byte, 16<<10)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		accepted.Add(1)
		_, _ = io.ReadFull(conn, scratch[:24]) // the preface
		_, _ = conn.Write(hello)
		for {
			head := scratch[:9]
			if _, err := io.ReadFull(conn, head); err != nil {
				break
			}
			length, last := int(head[1])<<8|int(head[2]), head[3] <= 1 && head[4]&1 != 0
			copy(reply[5:], head[5:])
			copy(reply[19:], head[5:])
			if _, err := io.ReadFull(conn, scratch[9:9+length]); err != nil {
				break
			}
			if last {
				if _, err := conn.Write(reply); err != nil {
					break
				}
			}
		}
		conn.Close()
	}
}
