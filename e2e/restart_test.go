package e2e

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// restartRounds is how often each app is restarted; SALLYPORT_RESTARTS says otherwise.
const restartRounds = 3

// restarted is a file for an app that may take its time: what a start takes on a machine that
// is busy is not what is tested. startMax bounds it.
const restarted = `listen = { http = ["127.0.0.1:0"], https = [] }
[[site]]
host = "shop.test"
app = "shop"
[app.shop]
socket = "unix:{dir}/app/app.sock"
hold = "60s"
queue = { time = "60s" }
`

const startMax = 50 * time.Second

// A restart is a way in which an app server is restarted.
type restart struct {
	kind, way string
	signal    syscall.Signal // to its main process
	how       manner
	up        string // what it writes into its log when it serves and hears signals
	ups       int    // how often: once by each worker
	cuts      bool   // it ends workers in the middle of a request
}

// A manner is what follows the signal of a restart.
type manner int

const (
	inPlace  manner = iota // the main process stays
	anew                   // it ends, and is started again
	replaced               // it starts its successor, and is then told to end by QUIT
)

func restarts() []restart {
	const gunicorn, booted, usual = "Worker ready", "booted", "Use Ctrl-C to stop"
	return []restart{
		{"gunicorn-sync", "TERM and start", syscall.SIGTERM, anew, gunicorn, 2, false},
		{"gunicorn-sync", "HUP", syscall.SIGHUP, inPlace, gunicorn, 2, false},
		{"gunicorn-gthread", "TERM and start", syscall.SIGTERM, anew, gunicorn, 1, false},
		{"gunicorn-gthread", "HUP", syscall.SIGHUP, inPlace, gunicorn, 1, false},
		{"unicorn", "USR2", syscall.SIGUSR2, replaced, " ready", 3, false}, // two workers and their master
		// "TERM - quick shutdown, kills all workers immediately" unicorn(1), SIGNALS
		{"unicorn", "TERM and start", syscall.SIGTERM, anew, " ready", 3, true},
		{"unicorn", "QUIT and start", syscall.SIGQUIT, anew, " ready", 3, false},
		{"puma", "TERM and start", syscall.SIGTERM, anew, usual, 1, false},
		{"puma-cluster", "phased", syscall.SIGUSR1, inPlace, booted, 2, false},
		{"puma-cluster", "TERM and start", syscall.SIGTERM, anew, booted, 2, false},
		{"uvicorn", "TERM and start", syscall.SIGTERM, anew, "Uvicorn running", 1, false},
	}
}

// TestRestart: no GET and no POST of up to 4 KiB fails while its app is restarted, in the
// ways that its users do; larger POSTs only where the app had a part of them.
func TestRestart(t *testing.T) {
	rounds := restartRounds
	if text := os.Getenv("SALLYPORT_RESTARTS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range restarts() {
		t.Run(r.kind+", "+r.way, func(t *testing.T) { r.run(t, rounds) })
	}
}

func (r *restart) run(t *testing.T, rounds int) {
	serverOf(t, r.kind).installed(t)
	s := newScene(t)
	s.folder()
	pid := s.startApp(r.kind).Process.Pid
	r.await(s, 1)
	defer func() {
		if said := s.said(); t.Failed() {
			t.Logf("the app says\n%s", said[max(0, len(said)-10000):])
		}
	}()
	s.write("sallyport.toml", restarted)
	h := s.start()
	ctx, stop := context.WithTimeout(t.Context(), time.Duration(rounds)*loadMax)
	c := newCustom()
	for number := range clients {
		c.done.Go(func() { c.askLoop(ctx, h.http, number) })
	}
	for round := range rounds {
		c.more(t, 100)
		pid = r.once(s, pid, 2+round)
	}
	c.more(t, 200)
	stop()
	c.done.Wait()
	t.Logf("%d restarts under %d requests: failed were GET %v, POST up to 4 KiB %v, larger %v", rounds, c.asked.Load(), &c.gets, &c.small, &c.large)
	r.judge(t, h, c)
}

// judge says which failures are none of ours: of a larger POST that has been sent in part,
// and, where the app was cut off in the middle of a request, of what it had read or begun to
// answer. The log names each of them.
func (r *restart) judge(t *testing.T, h *house, c *custom) {
	t.Helper()
	for _, sort := range []*tally{&c.gets, &c.small, &c.large} {
		named, causes := h.losses(sort), map[loss]int{}
		for _, l := range named {
			causes[l]++
			switch {
			case sort == &c.large && (strings.HasPrefix(l.cause, "read") || strings.HasPrefix(l.cause, "send")):
			case r.cuts && (l.begun || sort == &c.small && l.cause == "read: connection closed"):
			default:
				t.Errorf("%s: %+v", sort.target, l)
			}
		}
		if len(named) != len(sort.lost) {
			t.Errorf("%s: the log names %d failures, and the clients had %d: %v", sort.target, len(named), len(sort.lost), sort.lost)
		}
		if len(causes) > 0 {
			t.Logf("%s: %+v", sort.target, causes)
		}
	}
}

// once restarts the app whose main process is pid, and returns the one that it has when it
// serves again.
func (r *restart) once(s *scene, pid, starts int) int {
	s.t.Helper()
	s.must(syscall.Kill(pid, r.signal))
	if r.how == anew {
		if !until(startMax, func() bool { return over(pid) }) {
			s.t.Fatalf("%s has not ended after %v", r.kind, startMax)
		}
		pid = s.startApp(r.kind).Process.Pid
	}
	r.await(s, starts)
	if r.how == replaced {
		s.must(syscall.Kill(pid, syscall.SIGQUIT))
		await(s.t, "the end of the old app", func() bool { return over(pid) })
		pid = s.successor()
	}
	return pid
}

// over reports whether a process has ended, be it waited for or not.
func over(pid int) bool {
	facts, err := status(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || strings.HasPrefix(facts["State"], "Z")
}

// await waits until the app has been up so many times.
func (r *restart) await(s *scene, starts int) {
	s.t.Helper()
	if !until(startMax, func() bool { return strings.Count(s.said(), r.up) >= starts*r.ups }) {
		s.t.Fatalf("%s is not up after %v", r.kind, startMax)
	}
}

// said is all that the apps have written.
func (s *scene) said() string {
	s.t.Helper()
	text, err := os.ReadFile(s.path("app.log"))
	s.must(err)
	return string(text)
}

// successor is the main process that unicorn was the last to start.
func (s *scene) successor() int {
	s.t.Helper()
	ready := regexp.MustCompile(`#(\d+)\]  INFO -- : master process ready`)
	all := ready.FindAllStringSubmatch(s.said(), -1)
	pid, err := strconv.Atoi(all[len(all)-1][1])
	s.must(err)
	return pid
}

// TestModeLate: some servers make their socket first and give it its mode then (uvicorn).
// Whoever comes between the two has to wait a moment. Where nothing changes, that is over
// after a second.
func TestModeLate(t *testing.T) {
	s := newScene(t)
	needRoot(t)
	g := s.gate()
	g.answer()
	s.write("sallyport.toml", fmt.Sprintf(limited, 1))
	h := s.start()
	ask := func() <-chan int {
		answer := make(chan int, 1)
		go func() {
			status, _ := get(h.http, "")
			answer <- status
		}()
		return answer
	}
	s.must(os.Chmod(s.path("gate.sock"), 0o600))
	answer := ask()
	<-time.After(100 * time.Millisecond) // an app server needs one
	s.must(os.Chmod(s.path("gate.sock"), 0o666))
	if status := <-answer; status != 200 {
		t.Errorf("status %d", status)
	}
	s.must(os.Chmod(s.path("gate.sock"), 0o600))
	for range 3 {
		if status := <-ask(); status != 502 {
			t.Errorf("may not be reached: status %d", status)
		}
	}
	h.wait(t, "app failed", "errno=EACCES", "hint=*")
	if waited := h.find("request answered", "status=502", "queue_ms=*"); len(waited) != 1 && len(waited) != 2 {
		t.Errorf("%d of 3 waited; the first was to, and the last not", len(waited))
	}
}
