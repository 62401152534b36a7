package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for something that is about to happen.
const patience = 10 * time.Second

// A house is a running sallyport.
type house struct {
	*journal
	t           *testing.T
	cmd         *exec.Cmd
	http, https string        // the first address of each kind; "" if there is none
	exited      chan struct{} // closed when the main process is gone and code is set
	code        int           // exit code of the main process, -1 for a signal
}

// start runs sallyport on the scene's sallyport.toml until it is ready. At the
// end of the test it is stopped, and nothing of it may be left.
func (s *scene) start() *house {
	s.t.Helper()
	return s.startWithin(patience)
}

// startWithin is start for what may take longer.
func (s *scene) startWithin(limit time.Duration) *house {
	s.t.Helper()
	return s.beginWithin(exec.Command(bin("sallyport"), "run", "-c", "sallyport.toml"), limit)
}

// begin is start for a command that becomes sallyport.
func (s *scene) begin(cmd *exec.Cmd) *house {
	s.t.Helper()
	return s.beginWithin(cmd, patience)
}

func (s *scene) beginWithin(cmd *exec.Cmd, limit time.Duration) *house {
	s.t.Helper()
	h := s.launch(cmd)
	var ready []line
	if !until(limit, func() bool { ready = h.find("ready", "pid=*"); return len(ready) > 0 || h.gone() }) || len(ready) == 0 {
		s.t.Fatalf("sallyport is not ready:\n%s", h.tail())
	}
	h.http, h.https = first(ready[0], "http"), first(ready[0], "https")
	s.curlrc(h)
	return h
}

// launch starts a command as the main process of a house.
func (s *scene) launch(cmd *exec.Cmd) *house {
	s.t.Helper()
	stderr, theirs, err := os.Pipe()
	s.must(err)
	cmd.Stderr = theirs
	s.must(s.as(cmd).Start())
	theirs.Close()
	h := &house{journal: follow(stderr), t: s.t, cmd: cmd, exited: make(chan struct{})}
	go h.reap()
	s.t.Cleanup(h.close)
	return h
}

// reap ends when the main process does.
func (h *house) reap() {
	_ = h.cmd.Wait() // what it says is in ProcessState
	h.code = h.cmd.ProcessState.ExitCode()
	close(h.exited)
}

func first(ready line, kind string) string {
	list, _ := ready.facts[kind].([]any)
	if len(list) == 0 {
		return ""
	}
	address, _ := list[0].(string)
	return address
}

// gone says whether the main process has ended.
func (h *house) gone() bool {
	select {
	case <-h.exited:
		return true
	default:
		return false
	}
}

func (h *house) signal(s syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// stop asks the house to end, as a supervisor does, and returns its exit code.
func (h *house) stop() int {
	h.t.Helper()
	h.signal(syscall.SIGTERM)
	return h.end()
}

// end waits for the main process and returns its exit code.
func (h *house) end() int {
	h.t.Helper()
	await(h.t, "the end of the main process", h.gone)
	return h.code
}

// close ends the house after its test, by force if it must, and fails the test
// when a process of ours is left.
func (h *house) close() {
	if h.t.Failed() {
		h.t.Logf("the log:\n%s", h.tail())
	}
	if !h.gone() {
		// It may end by itself in this very moment: the error tells nothing.
		_ = h.cmd.Process.Signal(syscall.SIGTERM)
		if !until(patience, h.gone) {
			h.t.Errorf("the house did not end on TERM; there are %v, and the log:\n%s", ours(), h.tail())
			_ = h.cmd.Process.Kill()
		}
	}
	for _, l := range h.find("jail killed process") {
		h.t.Errorf("a system call that the table does not have: %s", l.text)
	}
	if !until(2*time.Second, func() bool { return len(ours()) == 0 }) {
		h.t.Errorf("left behind: %v", ours())
		for _, p := range ours() {
			p.kill()
		}
	}
	<-h.ended
}

// refused says whether nobody listens on a TCP address.
func refused(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// curl prepares the real curl with the scene's .curlrc.
func (s *scene) curl(args ...string) *exec.Cmd {
	return s.as(exec.Command("/usr/bin/curl", args...))
}

// answered runs curl and returns the body; any trouble ends the test.
func (s *scene) answered(args ...string) string {
	s.t.Helper()
	out, err := s.curl(append(args, "--fail-with-body")...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("curl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// statusOf returns the status that curl gets.
func (s *scene) statusOf(url string) string {
	s.t.Helper()
	out, err := s.curl("-o", "/dev/null", "-w", "%{http_code}", url).CombinedOutput()
	if err != nil {
		s.t.Fatalf("curl %s: %v\n%s", url, err, out)
	}
	return string(out)
}
