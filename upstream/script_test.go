package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/proxy/h1"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
	"sallyport/upstream/board"
)

// patience bounds every wait of a test. It is no limit of anything that is tested.
const patience = 20 * time.Second

// A stage is an app that a test has written, behind an App.
type stage struct {
	*testing.T
	app      *App
	accepted atomic.Int64 // connections
	closed   atomic.Int64 // of these, the ones that we ended
	requests atomic.Int64
	body     atomic.Value // of the last request, a string
}

// An actor is one connection to the app, as the app sees it.
type actor struct {
	*stage
	net.Conn
	r      *bufio.Reader
	number int64 // of the connection, from 1
}

// newStage has act run once for every connection, which is closed after it.
func newStage(t *testing.T, plan conf.App, act func(*actor)) *stage {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "app")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	plan.Name, plan.Sockets, plan.Connect, plan.Idle, plan.FirstByte = "app", []string{socket}, patience, patience, patience
	s := &stage{T: t, app: appOf(t, plan, watcher)}
	var acting sync.WaitGroup
	acting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a := &actor{s, conn, bufio.NewReader(conn), s.accepted.Add(1)}
			acting.Go(func() {
				defer conn.Close()
				act(a)
			})
		}
	})
	t.Cleanup(func() {
		s.app.Close()
		listener.Close()
		acting.Wait()
		watcher.Close()
	})
	return s
}

// appOf is the only app of a board of its own.
func appOf(t *testing.T, plan conf.App, watcher *loop.Loop) *App {
	t.Helper()
	apps := []conf.App{plan}
	shared, err := board.Private(apps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shared.Close() })
	return New(apps, shared, watcher, new(h1.Buffers))[0]
}

// request reads a request to its end; false when we have ended the connection.
func (a *actor) request() (more bool) {
	if _, err := a.r.Peek(1); err != nil {
		a.closed.Add(1)
		return false
	}
	req, err := http.ReadRequest(a.r)
	if err != nil {
		a.Error(err)
		return false
	}
	b, err := io.ReadAll(req.Body)
	if err != nil {
		a.Error(err)
	}
	a.body.Store(string(b))
	a.requests.Add(1)
	return true
}

func (a *actor) say(text string) {
	_, _ = io.WriteString(a.Conn, text) // who does not listen any more is seen by the test
}

// arrived waits until there are bytes to read, and leaves them.
func (a *actor) arrived() {
	raw, err := a.Conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		a.Error(err)
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return err != syscall.EAGAIN
	})
}

const okReply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// answers answers every request with reply.
func answers(reply string) func(*actor) {
	return func(a *actor) {
		for {
			if !a.request() {
				return
			}
			a.say(reply)
		}
	}
}

func asking(method string, length int64) *message.Request {
	return &message.Request{Method: []byte(method), Target: []byte("/"), Host: []byte("a.test"), Length: length}
}

// A text is the body of a request that is there already, in pieces.
type text struct {
	left  string
	piece int
}

func (b *text) Ready() bool { return true }

func (b *text) Next() ([]byte, error) {
	if b.left == "" {
		return nil, io.EOF
	}
	n := min(b.piece, len(b.left))
	piece := b.left[:n]
	b.left = b.left[n:]
	return []byte(piece), nil
}

// hear reads the reply of a lease to its end.
func hear(l *Lease, req *message.Request) (status int, body string, err error) {
	for {
		resp, err := l.ReadReply(req)
		if err != nil {
			return 0, "", err
		}
		if !resp.Interim() {
			status = resp.Status
			break
		}
	}
	var b strings.Builder
	for {
		piece, err := l.Next()
		b.Write(piece)
		if err == io.EOF {
			return status, b.String(), nil
		}
		if err != nil {
			return status, b.String(), err
		}
	}
}

// ask makes a request with a body that is there already.
func (s *stage) ask(method, body string) (string, error) {
	req := asking(method, int64(len(body)))
	l, err := s.app.Send(req, &text{body, 16 << 10}, nil)
	defer l.Release()
	if err != nil {
		return "", err
	}
	_, got, err := hear(l, req)
	return got, err
}

func (s *stage) get() {
	s.Helper()
	if _, err := s.ask("GET", ""); err != nil {
		s.Error(err)
	}
}

// idle is how many connections are.
func (s *stage) idle() int {
	p := &s.app.members[0].idle
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// await waits for what happens on another goroutine.
func (s *stage) await(what string, is func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !is(); runtime.Gosched() {
		if time.Now().After(deadline) {
			s.Fatalf("no %s: %d accepted, %d closed, %d idle", what, s.accepted.Load(), s.closed.Load(), s.idle())
		}
	}
}

// failed wants err to be a fault of the app.
func (s *stage) failed(err error) {
	s.Helper()
	if _, ok := errors.AsType[*Error](err); !ok {
		s.Errorf("%v is no fault of the app", err)
	}
}
