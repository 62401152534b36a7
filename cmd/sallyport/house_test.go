package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 10 * time.Second

// A house is sallyport run with stand-ins for core and keeper, each a real
// process that came through the door.
type house struct {
	t       *testing.T
	dir     string
	cmd     *exec.Cmd
	log     *bufio.Scanner
	control string
	address string        // of http0
	ended   chan struct{} // closed when the main process is reaped
}

// settings are what differs between houses.
type settings struct {
	host string // of the site, "shop.test" by default; the stand-in for the core knows others
	key  string // content of the key, which the stand-in for the keeper reads; none: no TLS
	uid  int    // who starts it, if root runs the tests
}

// build prepares a folder with programs and configuration.
func build(t *testing.T, s settings) *house {
	t.Helper()
	dir := t.TempDir()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sallyport", "sallyport-core", "sallyport-keeper"} {
		write(t, filepath.Join(dir, name), string(program), 0o755)
	}
	if s.host == "" {
		s.host = "shop.test"
	}
	tls := ""
	https := ""
	if s.key != "" {
		tls = `tls = { cert = "c.pem", key = "k.pem" }`
		https = `"127.0.0.1:0"`
		write(t, filepath.Join(dir, "c.pem"), "chain", 0o644)
		write(t, filepath.Join(dir, "k.pem"), s.key, 0o600)
	}
	h := &house{t: t, dir: dir, control: filepath.Join(dir, "control.sock"), ended: make(chan struct{})}
	write(t, filepath.Join(dir, "sallyport.toml"), fmt.Sprintf(`
user = "60610" # the fixed ids are for the tests of the whole, which run beside these
keeper_user = "60611"
control = %q
drain = { requests = "5s" }
listen = { http = ["127.0.0.1:0"], https = [%s] }
[[site]]
host = %q
app = "unix:/nonexistent/app.sock"
%s
`, h.control, https, s.host, tls), 0o600)
	h.cmd = exec.Command(filepath.Join(dir, "sallyport"), "run")
	h.cmd.Args[0] = "sallyport"
	h.cmd.Dir = dir
	h.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // or a race build takes a second to end
	if s.uid != 0 && os.Geteuid() == 0 {
		own(t, dir, s.uid)
		h.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.uid)}}
	}
	return h
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// own gives the folder and its files to a user, and lets him in.
func own(t *testing.T, dir string, uid int) {
	t.Helper()
	for folder := dir; folder != os.TempDir(); folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, dir) {
		if err := os.Chown(file, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs the house.
func (h *house) start() {
	h.t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		h.t.Fatal(err)
	}
	h.cmd.Stderr = writer
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	writer.Close()
	if err := reader.SetReadDeadline(time.Now().Add(patience)); err != nil {
		h.t.Fatal(err)
	}
	h.log = bufio.NewScanner(reader)
	go h.reapLoop()
	h.t.Cleanup(func() {
		if !h.gone(0) {
			_ = h.cmd.Process.Kill() // the leash and the parent-death signals do the rest
		}
		<-h.ended
		reader.Close()
	})
}

// reapLoop ends with the main process.
func (h *house) reapLoop() {
	_ = h.cmd.Wait() // ProcessState has it
	close(h.ended)
}

// gone waits for the end of the main process.
func (h *house) gone(limit time.Duration) bool {
	select {
	case <-h.ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// ends waits for the end of the main process and checks its exit code.
func (h *house) ends(code int) {
	h.t.Helper()
	if !h.gone(patience) {
		h.t.Fatal("does not end")
	}
	if got := h.cmd.ProcessState.ExitCode(); got != code {
		h.t.Errorf("exit code %d, want %d (%v)", got, code, h.cmd.ProcessState)
	}
}

// says reads the log up to a line with this message, and returns its facts.
func (h *house) says(message string) map[string]any {
	h.t.Helper()
	for h.log.Scan() {
		var facts map[string]any
		if err := json.Unmarshal(h.log.Bytes(), &facts); err != nil {
			h.t.Logf("not JSON: %s", h.log.Text())
			continue
		}
		if facts["message"] == message {
			return facts
		}
		h.t.Logf("%s", h.log.Text())
	}
	h.t.Fatalf("never said: %s (%v)", message, h.log.Err())
	return nil
}

// saysBoth reads the log until two wardens have had their say, in either order.
func (h *house) saysBoth(one, other string) (of, and map[string]any) {
	h.t.Helper()
	for of == nil || and == nil {
		if !h.log.Scan() {
			h.t.Fatalf("never said: %s and %s (%v)", one, other, h.log.Err())
		}
		var facts map[string]any
		_ = json.Unmarshal(h.log.Bytes(), &facts) // what is no JSON has no message
		switch facts["message"] {
		case one:
			of = facts
		case other:
			and = facts
		}
	}
	return of, and
}

// startReady runs the house and waits until it serves.
func (h *house) startReady() map[string]any {
	h.t.Helper()
	h.start()
	facts := h.says("ready")
	list, _ := facts["http"].([]any)
	if len(list) != 1 {
		h.t.Fatalf("ready without an address: %v", facts)
	}
	h.address, _ = list[0].(string)
	return facts
}

// dial connects to the core.
func (h *house) dial() (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", h.address, time.Second)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// ask says a word to the core and returns its answer.
func (h *house) ask(word string) string {
	h.t.Helper()
	conn, err := h.dial()
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, word); err != nil {
		h.t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		h.t.Fatal(err)
	}
	return string(answer)
}

// hold opens a connection that keeps the core from ending.
func (h *house) hold() net.Conn {
	h.t.Helper()
	conn, err := h.dial()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "hold"); err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("held"))); err != nil {
		h.t.Fatal(err)
	}
	return conn
}

func (h *house) signal(s syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// processes lists pids of this house by what they execute; zombies have no exe.
func (h *house) processes() map[string][]int {
	found := map[string][]int{}
	links, _ := filepath.Glob("/proc/[0-9]*/exe") // the pattern is right
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err != nil || filepath.Dir(exe) != h.dir {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link))) // the pattern again
		name := filepath.Base(exe)
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		if bytes.HasPrefix(args, []byte("sallyport\x00warden\x00keeper")) {
			name = "keeper's warden"
		}
		if bytes.HasPrefix(args, []byte("sallyport\x00warden\x00app")) {
			name = "app's warden"
		}
		found[name] = append(found[name], pid)
	}
	return found
}

// one returns the pid of the only process of a name, and waits for it.
func (h *house) one(name string) int {
	h.t.Helper()
	if os.Geteuid() != 0 {
		h.t.Skip("SKIPPED, NOT TESTED: what a process executes that is not dumpable, only root sees")
	}
	var pids []int
	if !until(patience, func() bool { pids = h.processes()[name]; return len(pids) == 1 }) {
		h.t.Fatalf("%s: %v", name, pids)
	}
	return pids[0]
}

// empty waits until nothing of the house is left: no process, no port.
func (h *house) empty(limit time.Duration) {
	h.t.Helper()
	if !until(limit, func() bool { return len(h.processes()) == 0 && h.closed() }) {
		h.t.Errorf("after %v: %v, port closed: %v", limit, h.processes(), h.closed())
	}
}

// closed reports whether nobody listens for the core any more.
func (h *house) closed() bool {
	conn, err := h.dial()
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// until asks every few milliseconds.
func until(limit time.Duration, so func() bool) bool {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}

func kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

func text(facts map[string]any, key string) string { return strings.TrimSpace(fmt.Sprint(facts[key])) }
