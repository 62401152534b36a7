package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// A statusReport is what a program takes from status --json. The names are those that
// status --help promises, written down a second time.
type statusReport struct {
	State     string
	Processes []struct{ Name string }
	Apps      []appReport
}

type appReport struct {
	Name        string `json:"name"`
	MaxInFlight int    `json:"max_inflight"`
	QueueLen    int    `json:"queue_len"`
	InFlight    int    `json:"in_flight"`
	Queued      int    `json:"queued"`
	Served      int    `json:"served"`
	QueueFull   int    `json:"queue_full"`
	QueueTime   int    `json:"queue_time"`
	Holds       int    `json:"holds"`
	Retries     int    `json:"retries"`
	Failed      int    `json:"failed"`
	Drained     int    `json:"drained"`
	Clogged     int    `json:"clogged"`
	Members     []memberReport
}

type memberReport struct {
	Socket       string `json:"socket"`
	State        string `json:"state"`
	Why          string `json:"why"`
	InFlight     int    `json:"in_flight"`
	Served       int    `json:"served"`
	Ejections    int    `json:"ejections"`
	Checks       int    `json:"checks"`
	ChecksFailed int    `json:"checks_failed"`
	Peer         struct {
		PID     int    `json:"pid"`
		UID     int    `json:"uid"`
		User    string `json:"user"`
		Command string `json:"command"`
		Why     string `json:"why"`
	} `json:"peer"`
}

// appStatuses asks for the status of all apps of a scene.
func (s *scene) appStatuses() []appReport {
	s.t.Helper()
	out, code := s.shell("sallyport status -c sallyport.toml --json")
	var r statusReport
	decoder := json.NewDecoder(strings.NewReader(out))
	if err := decoder.Decode(&r); err != nil || code != 0 {
		s.t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	return r.Apps
}

// shopStatus asks for the status of the one app of a scene.
func (s *scene) shopStatus() appReport {
	s.t.Helper()
	apps := s.appStatuses()
	if len(apps) != 1 || apps[0].Name != "shop" {
		s.t.Fatalf("apps: %+v", apps)
	}
	return apps[0]
}

// control is a line of a file whose status can be asked for by whoever runs the test.
const control = "control = \"control.sock\"\n"

// TestStatusApps: status knows what is in flight and waits, over all cores; who listens; and
// what was, also after the core that has counted it was replaced.
func TestStatusApps(t *testing.T) {
	const slots, places = 2, 100
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			s := newScene(t)
			g := s.gate()
			s.write("sallyport.toml", control+fmt.Sprintf(limited, workers))
			h := s.start()
			if a := s.shopStatus(); a.MaxInFlight != slots || a.QueueLen != places || a.InFlight+a.Queued+a.Served != 0 {
				t.Errorf("before: %+v", a)
			}
			total := turnout{counts: map[int]int{}}
			total.send(h.http, slots+7)
			await(t, "2 at the app", func() bool { return g.in() == slots })
			await(t, "7 in the queue", func() bool { return s.shopStatus().Queued == 7 })
			a := s.shopStatus()
			if a.InFlight != slots || a.Members[0].InFlight != slots || a.Served != 0 || a.Members[0].State != "up" {
				t.Errorf("with 2 at the app: %+v", a)
			}
			if p := a.Members[0].Peer; p.PID != os.Getpid() || p.UID != os.Getuid() || !strings.Contains(p.Command, "e2e.test") {
				t.Errorf("the app is process %d of %d, and not %+v", os.Getpid(), os.Getuid(), p)
			}
			total.send(h.http, places-7+3)
			await(t, "3 refused", func() bool { return total.of(503) == 3 })
			s.reload(h, 2)
			g.answer()
			total.all.Wait()
			await(t, "the end of the old cores", func() bool { return len(h.find("reloaded")) == 1 && coresOf() == workers })
			a = s.shopStatus()
			if a.InFlight+a.Queued != 0 || a.Served != slots+places || a.Members[0].Served != slots+places || a.QueueFull != 3 || a.Failed != 0 {
				t.Errorf("after: %+v", a)
			}
			out, code := s.shell("sallyport status -c sallyport.toml")
			t.Log("\n" + out)
			if code != 0 || !strings.Contains(out, "shop  0/2        0/100   102") {
				t.Errorf("%d: %s", code, out)
			}
			if out, code := s.shell("sallyport status --help"); code != 0 || !strings.Contains(out, "queue_full, queue_time") {
				t.Errorf("%d: %s", code, out)
			}
		})
	}
}

// coresOf is how many cores there are.
func coresOf() (n int) {
	for _, p := range ours() {
		if p.name == "sallyport-core" {
			n++
		}
	}
	return n
}

// TestStatusAbsent: an app that nobody has asked for anything yet is said to be absent, and
// one that requests wait for to be out. Both say why.
func TestStatusAbsent(t *testing.T) {
	s := newScene(t)
	s.write("sallyport.toml", control+fmt.Sprintf(limited, 1))
	h := s.start()
	m := s.shopStatus().Members[0]
	if m.State != "absent" || m.Why != "connect: no such file or directory" || m.Peer.UID != -1 || m.Peer.PID != 0 {
		t.Errorf("%+v", m)
	}
	total := turnout{counts: map[int]int{}}
	total.send(h.http, 1)
	h.wait(t, "member lost", "app=shop", "errno=ENOENT", "socket="+s.path("gate.sock"))
	total.send(h.http, 2)
	await(t, "3 in the queue", func() bool { return s.shopStatus().Queued == 3 })
	if m := s.shopStatus().Members[0]; m.State != "out" || m.Why != "connect: no such file or directory" || m.Ejections != 1 {
		t.Errorf("%+v", m)
	}
	s.gate().answer()
	total.all.Wait()
	h.wait(t, "member back", "app=shop", "socket="+s.path("gate.sock"))
	await(t, "the last slot to be free", func() bool { return s.shopStatus().InFlight == 0 }) // a moment after its client has the answer
	if a := s.shopStatus(); a.Members[0].State != "up" || a.Members[0].Why != "" || a.Holds != 3 || a.Served != 3 || total.of(200) != 3 {
		t.Errorf("%+v, %v", a, total.counts)
	}
	if n := len(h.find("member lost")) + len(h.find("member back")); n != 2 {
		t.Errorf("%d lines of news, want one each", n)
	}
}

// TestStatusForbidden: who may not go to an app is told that he cannot see it, and who may
// not ask is told nothing.
func TestStatusForbidden(t *testing.T) {
	needRoot(t)
	s := newSceneFor(t, nobody)
	s.gate()
	s.must(os.Chmod(s.path("gate.sock"), 0o600))
	s.write("sallyport.toml", control+fmt.Sprintf(limited, 1))
	s.start()
	m := s.shopStatus().Members[0]
	if m.State != "up" || m.Peer.UID != -1 || m.Peer.Why != "permission denied" {
		t.Errorf("%+v", m)
	}
	out, code := s.shell("sallyport status -c sallyport.toml")
	if code != 0 || !strings.Contains(out, "not visible: permission denied") {
		t.Errorf("%d: %s", code, out)
	}
}
