package e2e

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A callsCase is what one request may cost in system calls of a busy core.
type callsCase struct {
	name   string
	keep   bool    // the app keeps its connections
	more   string  // lines of [app.shop]
	all    float64 // calls of every kind but pauses, and but waits where these are apart
	apart  bool
	waits  float64 // of epoll
	pauses float64 // futex and nanosleep, each: they are the runtime's own
}

func callsCases() []callsCase {
	return []callsCase{
		// Read and write of the client; socket, connect, epoll_ctl, write, 2 reads and close of the app.
		{name: "closes", all: 9.5, waits: 9.5, pauses: 0.3},
		// A free slot is found without the kernel.
		{name: "closes, limited", more: "max_inflight = 64\n", all: 9.5, waits: 9.5, pauses: 0.3},
		// Checks and counts are beside the requests.
		{name: "closes, checked", more: "max_inflight = 64\nhealth = { path = \"/\", every = \"500ms\" }\n", all: 9.5, waits: 9.5, pauses: 0.3},
		// Read and write of both.
		{name: "keeps", keep: true, more: "keepalive = 16\n", all: 4.3, apart: true, waits: 1.0, pauses: 0.3},
		{name: "keeps, checked", keep: true, more: "keepalive = 16\nhealth = { path = \"/\", every = \"500ms\" }\n", all: 4.3, apart: true, waits: 1.0, pauses: 0.3},
	}
}

// TestCalls counts the system calls of a busy core. A count is no timing: while
// strace is attached everything takes its time, and the core never runs out of work.
func TestCalls(t *testing.T) {
	needRoot(t)
	needProgram(t, "/usr/bin/strace")
	for _, c := range callsCases() {
		t.Run(c.name, func(t *testing.T) { c.count(t) })
	}
}

func (c callsCase) count(t *testing.T) {
	const connections, warm, each = 16, 50, 1000
	s := newScene(t)
	s.startBareApp(c.keep)
	s.write("sallyport.toml", bare+c.more)
	h := s.start()
	if err := busy(h.http, nil, connections, warm); err != nil {
		t.Fatal(err)
	}
	counts := s.strace(named(t, "sallyport-core").pid, func() {
		if err := busy(h.http, nil, connections, each); err != nil {
			t.Fatal(err)
		}
	})
	all, waits, pauses := 0.0, 0.0, map[string]float64{}
	for call, count := range counts {
		per := float64(count) / (connections * each)
		switch call {
		case "futex", "nanosleep":
			pauses[call] = per
			continue
		case "epoll_wait", "epoll_pwait":
			if waits += per; c.apart {
				continue
			}
		}
		all += per
	}
	t.Logf("%s: %.2f calls per request, %.2f waits, pauses %v; %v", c.name, all, waits, pauses, counts)
	if all < 3.9 {
		t.Errorf("%.2f calls are fewer than a request can do with: not everything was counted", all)
	}
	if all > c.all || waits > c.waits || pauses["futex"] > c.pauses || pauses["nanosleep"] > c.pauses {
		t.Errorf("more than %.2f calls, %.2f waits or %.2f pauses of a kind", c.all, c.waits, c.pauses)
	}
}

// strace counts the system calls of all threads of a process while something is done.
func (s *scene) strace(pid int, while func()) map[string]int {
	s.t.Helper()
	cmd := exec.Command("/usr/bin/strace", "-c", "-f", "-o", s.path("calls"), "-p", strconv.Itoa(pid))
	var said strings.Builder
	cmd.Stderr = &said
	s.must(cmd.Start())
	ended := make(chan error, 1)
	attached := until(patience, func() bool { return tracedAll(pid) })
	if attached {
		while()
	}
	_ = cmd.Process.Signal(syscall.SIGINT) // which lets the process go, and writes the counts
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-ended
	}
	text, err := os.ReadFile(s.path("calls"))
	if err != nil || !attached {
		s.t.Fatalf("strace: attached %v, %v\n%s", attached, err, said.String())
	}
	return parseCalls(string(text))
}

// tracedAll says whether every thread of a process has a tracer.
func tracedAll(pid int) bool {
	threads, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return false
	}
	for _, thread := range threads {
		facts, err := status("/proc/" + strconv.Itoa(pid) + "/task/" + thread.Name() + "/status")
		if err != nil || facts["TracerPid"] == "0" {
			return false
		}
	}
	return len(threads) > 0
}

// parseCalls reads the table of strace -c: "% time, seconds, usecs/call, calls, errors
// where there are any, syscall", and a total that is no call.
func parseCalls(table string) map[string]int {
	counts := map[string]int{}
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) < 5 || words[len(words)-1] == "total" {
			continue
		}
		if count, err := strconv.Atoi(words[3]); err == nil {
			counts[words[len(words)-1]] = count
		}
	}
	return counts
}
