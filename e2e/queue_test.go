package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// limited is a file for an app that takes two requests at a time.
const limited = `workers = %d
listen = { http = ["127.0.0.1:0"], https = [] }
[[site]]
host = "shop.test"
app = "shop"
[app.shop]
socket = "unix:{dir}/gate.sock"
max_inflight = 2
queue = { len = 100, time = "60s" }
`

// A gate is an app that answers when it is opened, and counts the requests that it has
// at a time. One whose connection is over is none: its core has died.
type gate struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed to answer
	inner map[*net.UnixConn]bool
	most  int // at a time, ever
}

func (s *scene) gate() *gate {
	s.t.Helper()
	listener, err := net.Listen("unix", s.path("gate.sock"))
	s.must(err)
	s.must(os.Chmod(s.path("gate.sock"), 0o666))
	g := &gate{listener: listener, open: make(chan struct{}), inner: map[*net.UnixConn]bool{}}
	g.serving.Go(g.acceptLoop)
	s.t.Cleanup(func() {
		listener.Close()
		g.answer()
		g.serving.Wait()
	})
	return g
}

// acceptLoop ends with the listener.
func (g *gate) acceptLoop() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.serving.Go(func() { g.serve(conn.(*net.UnixConn)) })
	}
}

func (g *gate) serve(conn *net.UnixConn) {
	defer conn.Close()
	if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
		return
	}
	g.mu.Lock()
	open := g.open
	g.inner[conn] = true
	g.most = max(g.most, g.count())
	g.mu.Unlock()
	<-open
	g.mu.Lock()
	delete(g.inner, conn)
	g.mu.Unlock()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") // to a core that may be dead
}

// count is how many requests are in; mu is held.
func (g *gate) count() (n int) {
	for conn := range g.inner {
		if alive(conn) {
			n++
		}
	}
	return n
}

// alive reports whether the other end of a connection is there.
func alive(conn *net.UnixConn) (alive bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var one [1]byte
	err = raw.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = err == syscall.EAGAIN
	})
	return err == nil && alive
}

// holder is the process of one of the requests that are in.
func (g *gate) holder(t *testing.T) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.inner {
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var who *syscall.Ucred
		if err := errors.Join(raw.Control(func(fd uintptr) {
			who, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		}), err); err != nil {
			t.Fatal(err)
		}
		return int(who.Pid)
	}
	t.Fatal("nobody is in")
	return 0
}

// in is how many requests are in.
func (g *gate) in() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count()
}

// answer opens the gate for those who are in and all who come.
func (g *gate) answer() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

// shut closes the gate for who comes.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

// A turnout is what became of requests, by status; 0 is those that had no answer.
type turnout struct {
	path   string // behind the first "/"
	all    sync.WaitGroup
	mu     sync.Mutex
	counts map[int]int
	vague  int // of 503: without Retry-After
}

// send makes so many requests at once, each on a connection of its own.
func (t *turnout) send(address string, count int) {
	for range count {
		t.all.Go(func() {
			status, retry := get(address, t.path)
			t.mu.Lock()
			defer t.mu.Unlock()
			t.counts[status]++
			if status == 503 && retry == "" {
				t.vague++
			}
		})
	}
}

func (t *turnout) of(status int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[status]
}

// get makes a request, for as long as it takes.
func get(address, path string) (status int, retryAfter string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, ""
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n", path) // seen by the read
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, ""
	}
	answer.Body.Close()
	return answer.StatusCode, answer.Header.Get("Retry-After")
}

// TestQueue: of 1,000 clients at once of an app that takes 2 requests, 2 are with it, 100
// wait and 898 are told 503, over all cores together. Then, in half of the cases, a core
// that has a slot is killed: others take it, the app never has more than two, and at the end all
// slots and places are there.
func TestQueue(t *testing.T) {
	for _, workers := range []int{1, 2, 4} {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d workers, killed %v", workers, kill), func(t *testing.T) { queue(t, workers, kill) })
		}
	}
}

func queue(t *testing.T, workers int, kill bool) {
	const all, slots, refused = 1000, 2, 898
	s := newScene(t)
	g := s.gate()
	s.write("sallyport.toml", fmt.Sprintf(limited, workers))
	h := s.start()
	total := turnout{counts: map[int]int{}}
	total.send(h.http, all)
	await(t, "898 refused", func() bool { return total.of(503) >= refused })
	await(t, "2 at the app", func() bool { return g.in() == slots })
	if kill {
		cores := func() []process {
			return slices.DeleteFunc(ours(), func(p process) bool { return p.name != "sallyport-core" })
		}
		victim := process{g.holder(t), "sallyport-core"}
		victim.kill()
		await(t, "a successor", func() bool { return len(cores()) == workers && !slices.Contains(cores(), victim) })
		await(t, "its clients to notice", func() bool { return total.of(0) > 0 })
		total.send(h.http, slots) // if there is no room for them, 2 of the others are at the app
		await(t, "2 at the app again", func() bool { return g.in() == slots })
	}
	g.answer()
	total.all.Wait()
	t.Logf("%v by status, at most %d at a time", total.counts, g.most)
	if g.most > slots {
		t.Errorf("%d at a time", g.most)
	}
	if kill {
		if n := total.of(503); n < refused || n > refused+slots || total.of(200)+total.of(0)+n != all+slots {
			t.Errorf("%v", total.counts)
		}
	} else if total.of(503) != refused || total.of(200) != all-refused {
		t.Errorf("%v", total.counts)
	}
	if total.vague > 0 {
		t.Errorf("%d refusals without Retry-After", total.vague)
	}
	if !kill && workers == 1 { // several mingle lines on a pipe, and a dead one has half a line there
		await(t, "898 refusals in the log", func() bool {
			return len(h.find("request answered", "status=503", "cause=queue full")) == refused
		})
		await(t, "100 queue times in the log", func() bool {
			return len(h.find("request answered", "status=200", "queue_ms=*")) == all-refused-slots
		})
	}
	// Every slot and every place can be had again. A slot is free a moment after its client
	// has the answer; one that is lost is lost for good.
	const tries = 10
	again := turnout{}
	for range tries {
		g.shut()
		again.counts = map[int]int{}
		again.send(h.http, slots+100+1)
		await(t, "one refused", func() bool { return again.of(503) > 0 })
		await(t, "2 at the app", func() bool { return g.in() == slots })
		g.answer()
		again.all.Wait()
		if again.of(200) == slots+100 && again.of(503) == 1 {
			break
		}
	}
	if again.of(200) != slots+100 || again.of(503) != 1 || g.most > slots {
		t.Errorf("then %v, at most %d at a time", again.counts, g.most)
	}
}

// TestQueueLeft: a client that leaves while it waits frees its place, and its request
// does not reach the app.
func TestQueueLeft(t *testing.T) {
	s := newScene(t)
	g := s.gate()
	s.write("sallyport.toml", fmt.Sprintf(limited, 1)+"\n")
	h := s.start()
	total := turnout{counts: map[int]int{}}
	total.send(h.http, 2)
	await(t, "2 at the app", func() bool { return g.in() == 2 })
	for _, leave := range []func(*net.TCPConn) error{(*net.TCPConn).Close, (*net.TCPConn).CloseWrite} {
		conn, err := net.Dial("tcp", h.http)
		s.must(err)
		_, err = io.WriteString(conn, "GET /left HTTP/1.1\r\nHost: shop.test\r\n\r\n")
		s.must(err)
		before := len(h.find("request answered", "target=/left", "cause=client gone"))
		s.must(leave(conn.(*net.TCPConn)))
		await(t, "the line in the log", func() bool {
			return len(h.find("request answered", "target=/left", "cause=client gone")) > before
		})
		conn.Close()
	}
	g.answer()
	total.all.Wait()
	if total.of(200) != 2 {
		t.Errorf("%v", total.counts)
	}
}

// TestQueueReload: the cores of two generations count together, and what waits in the old
// one has its turn.
func TestQueueReload(t *testing.T) {
	s := newScene(t)
	g := s.gate()
	s.write("sallyport.toml", "control = \"control.sock\"\n"+fmt.Sprintf(limited, 1))
	h := s.start()
	total := turnout{counts: map[int]int{}}
	total.send(h.http, 5)
	await(t, "2 at the app", func() bool { return g.in() == 2 })
	s.reload(h, 2)
	total.send(h.http, 100-3)
	total.send(h.http, 1) // one of these finds no place
	await(t, "one refused", func() bool { return total.of(503) == 1 })
	if n := g.in(); n != 2 {
		t.Errorf("%d at the app", n)
	}
	g.answer()
	total.all.Wait()
	if total.of(200) != 102 || total.of(503) != 1 || g.most != 2 {
		t.Errorf("%v, at most %d at a time", total.counts, g.most)
	}
}
