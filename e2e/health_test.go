package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// twoMembers is a file for an app with two sockets.
const twoMembers = control + `workers = 2
listen = { http = ["127.0.0.1:0"], https = [] }
[[site]]
host = "shop.test"
app = "shop"
[app.shop]
socket = ["unix:{dir}/app/a.sock", "unix:{dir}/app/b.sock"]
`

// TestMemberLost: of an app with two members one ends, and no request fails: the other has
// them all, until the first is started again. Both are said once, over all cores.
func TestMemberLost(t *testing.T) {
	const kind = "gunicorn-sync"
	serverOf(t, kind).installed(t)
	s := newScene(t)
	s.folder()
	members := map[string]*exec.Cmd{}
	for _, name := range []string{"a", "b"} {
		members[name] = s.startAppOn(kind, s.path("app/"+name+".sock"))
		takes(t, s.path("app/"+name+".sock"))
	}
	s.write("sallyport.toml", twoMembers+"max_inflight = 2\n")
	h := s.start()
	ctx, stop := context.WithTimeout(t.Context(), 2*loadMax)
	defer stop()
	c := newCustom()
	for number := range clients {
		c.done.Go(func() { c.askLoop(ctx, h.http, number) })
	}
	c.more(t, 100)
	before := s.shopStatus()
	for i, name := range []string{"a", "b"} {
		m, app := before.Members[i], members[name].Process.Pid
		if m.State != "up" || m.Served == 0 || m.Peer.PID != app || os.Getuid() == 0 && m.Peer.UID != nobody {
			t.Errorf("%s, process %d: %+v", name, app, m)
		}
	}
	s.must(members["a"].Process.Signal(syscall.SIGTERM))
	_ = members["a"].Wait() // how it ends is its own business
	lost := h.wait(t, "member lost", "socket="+s.path("app/a.sock"), "errno=ENOENT")
	t.Log(lost.text)
	var during appReport
	await(t, "the end of what it still had", func() bool { during = s.shopStatus(); return during.Members[0].InFlight == 0 })
	if a, b := during.Members[0], during.Members[1]; a.State != "out" || a.Why == "" || a.Ejections != 1 || b.State != "up" || b.Ejections != 0 {
		t.Errorf("%+v", during)
	}
	c.more(t, 100)
	if a := s.shopStatus(); a.Members[0].Served != during.Members[0].Served || a.Members[1].Served < during.Members[1].Served+90 {
		t.Errorf("from %+v to %+v", during, a)
	}
	s.startAppOn(kind, s.path("app/a.sock"))
	h.wait(t, "member back", "socket="+s.path("app/a.sock"))
	await(t, "requests at the one that is back", func() bool { return s.shopStatus().Members[0].Served > during.Members[0].Served+50 })
	stop()
	c.done.Wait()
	after := s.shopStatus()
	if after.Members[0].State != "up" || after.Failed != len(c.large.lost) {
		t.Errorf("%+v", after)
	}
	t.Logf("failed: GETs %v, POSTs %v, large ones %v; %+v", &c.gets, &c.small, &c.large, after)
	for _, err := range slices.Concat(c.gets.lost, c.small.lost) { // a large one may have been read in part
		t.Error(err)
	}
	if n, m := len(h.find("member lost")), len(h.find("member back")); n != 1 || m != 1 {
		t.Errorf("%d times lost and %d times back in the log", n, m)
	}
}

// A patient is a member whose checks go as the test says.
type patient struct {
	mu     sync.Mutex
	answer string // to a check; "" is none
	asked  int    // requests that were no checks
	checks []time.Time
	heads  map[string]int // of checks: host, agent and target
}

func (s *scene) patient(name string) *patient {
	s.t.Helper()
	listener := listen(s.t, s.path(name), 0o666)
	p := &patient{answer: well, heads: map[string]int{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(conn) })
		}
	})
	s.t.Cleanup(func() { listener.Close(); serving.Wait() })
	return p
}

const (
	well = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	ill  = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)

func (p *patient) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	p.mu.Lock()
	answer := well
	if req.URL.Path == "/up" {
		answer = p.answer
		p.checks = append(p.checks, time.Now())
		p.heads[req.Method+" "+req.Host+" "+req.UserAgent()+" "+req.RequestURI]++
	} else {
		p.asked++
	}
	p.mu.Unlock()
	if answer == "" {
		_, _ = io.Copy(io.Discard, in) // until who checks has gone
		return
	}
	_, _ = io.WriteString(conn, answer) // seen by who asks
}

func (p *patient) is(answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *patient) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// TestChecks: a member whose check fails, by its answer or by none, gets no requests until
// one passes, and the last one gets them in any case. One core checks for all.
func TestChecks(t *testing.T) {
	s := newScene(t)
	s.must(os.Mkdir(s.path("app"), 0o755))
	a, b := s.patient("app/a.sock"), s.patient("app/b.sock")
	const every = 500 * time.Millisecond
	s.write("sallyport.toml", twoMembers+"max_inflight = 1\nhealth = { path = \"/up?deep=1\", every = \"500ms\" }\n")
	begun := time.Now()
	h := s.start()
	goes := func(count int) {
		t.Helper()
		for range count {
			if status, _ := get(h.http, ""); status != 200 {
				t.Errorf("status %d", status)
			}
		}
	}
	socket := "socket=" + s.path("app/a.sock")
	for round, test := range []struct{ answer, why string }{
		{ill, "status 503"}, {"", "no answer in time"}, {"nonsense\r\n\r\n", "the answer is no HTTP"},
	} {
		a.is(test.answer)
		h.wait(t, "check failed", socket, "cause="+test.why)
		// A core learns of it a moment after the one that has checked.
		await(t, "requests at b alone", func() bool { before := a.count(); goes(20); return a.count() == before })
		if m := s.shopStatus().Members[0]; m.State != "out" || m.Why != "check: "+test.why || m.ChecksFailed == 0 || m.Ejections != 0 {
			t.Errorf("%+v", m)
		}
		a.is(well)
		await(t, "the check to pass", func() bool { return len(h.find("check passed", socket)) == round+1 })
		before := a.count()
		await(t, "requests at a", func() bool { goes(4); return a.count() > before })
	}
	a.is(ill)
	b.is(ill)
	h.wait(t, "check failed", "socket="+s.path("app/b.sock"), "cause=status 503")
	await(t, "a to be out too", func() bool { return s.shopStatus().Members[0].State == "out" })
	before := a.count() + b.count()
	goes(20)
	if n := a.count() + b.count(); n != before+20 {
		t.Errorf("%d requests of 20", n-before)
	}
	if n := len(h.find("check failed", socket)); n != 4 {
		t.Errorf("%d times in the log", n)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if most := int(time.Since(begun)/every) + 1; len(a.checks) > most {
		t.Errorf("%d checks, and more than %d are not due: they multiply with the cores", len(a.checks), most)
	}
	if want := fmt.Sprint(map[string]int{"GET shop.test sallyport /up?deep=1": len(a.checks)}); fmt.Sprint(a.heads) != want {
		t.Errorf("%v, want %s", a.heads, want)
	}
}
