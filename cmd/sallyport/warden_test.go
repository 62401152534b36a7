package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// TestReady shows what a start reports, in the log and to --ready-fd.
func TestReady(t *testing.T) {
	h := build(t, settings{key: "good"})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	h.cmd.Args = append(h.cmd.Args, "--ready-fd", "3")
	h.cmd.ExtraFiles = []*os.File{writer}
	facts := h.startReady()
	writer.Close()
	if pid, _ := facts["pid"].(float64); int(pid) != h.cmd.Process.Pid {
		t.Errorf("pid %v, want the one that was started: %d", facts["pid"], h.cmd.Process.Pid)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", text(facts, "time")); err != nil || text(facts, "level") != "info" {
		t.Errorf("time %v, level %v", facts["time"], facts["level"])
	}
	if https, _ := facts["https"].([]any); len(https) != 1 {
		t.Errorf("https %v", facts["https"])
	}
	if line, err := io.ReadAll(reader); string(line) != "ready\n" || err != nil {
		t.Errorf("announced %q, %v", line, err)
	}
	// Two listeners, a slot for QUIC and the link are given, the stand-in's copy of a listener and
	// the guest are its own: neither leash nor control socket is among them.
	if got := h.ask("sockets"); got != "6" {
		t.Errorf("the core has %s sockets", got)
	}
	// Ctrl-C is for the main warden alone.
	if pid := number(t, h.ask("pid")); groupOf(t, pid) != pid {
		t.Errorf("the core is in process group %d", groupOf(t, pid))
	}
	h.signal(syscall.SIGTERM)
	h.ends(exitFine)
	h.empty(0)
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func groupOf(t *testing.T, pid int) int {
	t.Helper()
	group, err := unix.Getpgid(pid)
	if err != nil {
		t.Fatal(err)
	}
	return group
}

// TestOrphans shows that processes which a ward leaves behind are the warden's,
// and are reaped: it may be pid 1 of a container.
func TestOrphans(t *testing.T) {
	h := build(t, settings{})
	h.startReady()
	pid := number(t, h.ask("orphan"))
	defer func() { _ = unix.Kill(pid, unix.SIGKILL) }() // if the test has not
	status := func() string {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // "" when it is gone
		return string(text)
	}
	if parent := fmt.Sprintf("\nPPid:\t%d\n", h.cmd.Process.Pid); !strings.Contains(status(), parent) {
		t.Errorf("want%s in\n%s", parent, status())
	}
	kill(t, pid, syscall.SIGKILL)
	if !until(time.Second, func() bool { return status() == "" }) {
		t.Errorf("not reaped:\n%s", status())
	}
}

// TestOrphansEnd shows that nothing which a ward has left outlives the ward for
// long, or the service at all.
func TestOrphansEnd(t *testing.T) {
	for name, end := range map[string]func(h *house){
		"death": func(h *house) { h.ask("exit 7"); h.says("process died") },
		"drain": func(h *house) { h.signal(syscall.SIGTERM); h.ends(exitFine) },
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, settings{})
			h.startReady()
			pid := number(t, h.ask("orphan"))
			defer func() { _ = unix.Kill(pid, unix.SIGKILL) }() // if the test has failed
			end(h)
			gone := func() bool { _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); return err != nil }
			if name == "drain" && !gone() || !until(time.Second, gone) {
				t.Error("an orphan is left")
			}
		})
	}
}

// TestUnlinked shows that a core without a way to the keeper has a successor, who
// has one of its own.
func TestUnlinked(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	h.ask("exit 4")
	if died := h.says("process died"); text(died, "process") != "core" || text(died, "code") != "4" {
		t.Errorf("%v", died)
	}
	h.says("process ready")
	if got := h.ask("sockets"); got != "6" { // as TestReady has it
		t.Errorf("the successor has %s sockets", got)
	}
}

// TestRestart shows that children come back, with the listeners intact, and
// that the second death in a row is followed by a pause.
func TestRestart(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	for _, wait := range []string{"0s", "100ms"} {
		before := h.ask("pid")
		kill(t, h.one("sallyport-core"), syscall.SIGKILL)
		died := h.says("process died")
		if text(died, "process") != "core" || text(died, "signal") != "SIGKILL" || text(died, "pid") != before || text(died, "restart_in") != wait {
			t.Errorf("%v", died)
		}
		if after := h.ask("pid"); after == before { // it waits in the backlog meanwhile
			t.Errorf("pid %s answers again", after)
		}
	}
	kill(t, h.one("sallyport-keeper"), syscall.SIGKILL)
	if died := h.says("process died"); text(died, "process") != "keeper" {
		t.Errorf("%v", died)
	}
	for text(h.says("process ready"), "process") != "keeper" { // the core's may come late: another warden says it
	}
	if h.ask("exit 7") != "" {
		t.Error("the core answers an order to exit")
	}
	if died := h.says("process died"); text(died, "code") != "7" {
		t.Errorf("%v", died)
	}
}

// TestHeal shows that a core which disconnects the listener disturbs for a
// second at most.
func TestHeal(t *testing.T) {
	h := build(t, settings{})
	h.startReady()
	if errno := h.ask("unlisten"); errno != "0" {
		t.Fatalf("errno %s", errno)
	}
	if healed := h.says("listener healed"); text(healed, "listener") != h.address {
		t.Errorf("%v", healed)
	}
	if pid := h.ask("pid"); pid == "" {
		t.Error("no answer")
	}
}

// TestHealBeforeStart shows that the successor of a dead core does not have to
// wait for the second to be over.
func TestHealBeforeStart(t *testing.T) {
	l := bound(t, "127.0.0.1:0")
	defer unix.Close(l.FD)
	w := &warden{
		log: slog.New(slog.DiscardHandler), state: serving, healed: time.Now(),
		doors: []door{{listening: listening{Address: l.Address}, fd: l.FD}},
	}
	if err := unix.Shutdown(l.FD, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	w.wardDied(&ward{proved: true}, unix.WaitStatus(unix.SIGSYS), time.Now())
	w.tend(time.Now())
	if healed, err := sockets.Heal(l.FD); healed || err != nil {
		t.Errorf("had to be healed: %v, %v", healed, err)
	}
}

// TestHealInVain shows that a listener which is beyond help ends the service, with
// one line in the log.
func TestHealInVain(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // what cannot listen
	if err != nil {
		t.Fatal(err)
	}
	log := new(strings.Builder)
	w := &warden{
		duty: &duty{}, log: slog.New(slog.NewTextHandler(log, nil)), state: serving,
		doors: []door{{listening: listening{Address: "127.0.0.1:1"}, fd: fd}},
	}
	for now := time.Now(); w.state == serving && w.unhealed < 10; now = now.Add(healEvery) {
		w.heal(now)
	}
	if w.state != draining || w.code != exitLost || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "listener lost") {
		t.Errorf("state %v, code %d, %s", w.state, w.code, log)
	}
}

// TestFullLog shows that no warden waits for who reads the log: all are gone in time.
func TestFullLog(t *testing.T) {
	h := build(t, settings{key: "good"})
	log, readiness := make([]int, 2), make([]int, 2)
	for _, pipe := range [][]int{log, readiness} {
		if err := unix.Pipe2(pipe, unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := unix.Write(log[1], make([]byte, 4096)); err == nil; {
		_, err = unix.Write(log[1], make([]byte, 4096))
	}
	if err := unix.SetNonblock(log[1], false); err != nil {
		t.Fatal(err)
	}
	full, ready := os.NewFile(uintptr(log[1]), "log"), os.NewFile(uintptr(readiness[0]), "ready")
	defer unix.Close(log[0])
	defer ready.Close()
	h.cmd.Args = append(h.cmd.Args, "--ready-fd", "3")
	h.cmd.Stderr, h.cmd.ExtraFiles = full, []*os.File{os.NewFile(uintptr(readiness[1]), "ready")}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	full.Close()
	h.cmd.ExtraFiles[0].Close()
	go h.reapLoop()
	defer func() { _ = h.cmd.Process.Kill(); <-h.ended }()
	if line, err := io.ReadAll(ready); string(line) != "ready\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	kill(t, h.one("sallyport-keeper"), syscall.SIGKILL) // which its warden logs
	h.one("sallyport-keeper")
	h.signal(syscall.SIGKILL)
	if !until(time.Second, func() bool { return len(h.processes()) == 0 }) {
		t.Errorf("left: %v", h.processes())
		for _, pids := range h.processes() {
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// TestKillMain shows that the leash and the parent-death signal leave nothing.
func TestKillMain(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	h.one("sallyport-keeper")
	h.signal(syscall.SIGKILL)
	h.empty(time.Second)
}

// TestKillSibling shows that the loss of the keeper's warden is said, and ends
// the service with what is in flight.
func TestKillSibling(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	guest := h.hold()
	kill(t, h.one("keeper's warden"), syscall.SIGKILL)
	if died := h.says("warden died"); text(died, "process") != "keeper" || text(died, "signal") != "SIGKILL" {
		t.Errorf("%v", died)
	}
	if h.gone(100 * time.Millisecond) {
		t.Error("ended with a guest inside")
	}
	guest.Close()
	h.ends(exitLost)
	h.empty(time.Second)
}

// TestDrain shows what TERM does: no new guest, and the end after the last one.
func TestDrain(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	guest := h.hold()
	h.signal(syscall.SIGTERM)
	if !until(time.Second, h.closed) {
		t.Error("listens on")
	}
	if h.gone(100 * time.Millisecond) {
		t.Error("ended with a guest inside")
	}
	guest.Close()
	h.ends(exitFine)
	h.empty(0)
}

// TestSecondSignal shows that the impatient are obeyed.
func TestSecondSignal(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	h.hold()
	h.signal(syscall.SIGINT)
	h.says("service ending")
	h.signal(syscall.SIGINT)
	h.says("service ended at once")
	if !h.gone(time.Second) {
		t.Error("is still there")
	}
	h.ends(exitFine)
	h.empty(time.Second)
}

// TestGroupSignal shows that a supervisor may signal all processes at once.
func TestGroupSignal(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	guest := h.hold()
	keeper := h.one("sallyport-keeper") // with which its warden can take a signal
	kill(t, h.one("keeper's warden"), syscall.SIGTERM)
	kill(t, keeper, syscall.SIGTERM)
	kill(t, h.one("sallyport-core"), syscall.SIGTERM)
	h.signal(syscall.SIGTERM)
	if h.gone(100 * time.Millisecond) {
		t.Error("ended with a guest inside")
	}
	h.one("sallyport-keeper") // whom the guest may still need
	guest.Close()
	if !h.gone(keeperGrace / 2) {
		t.Error("the keeper was not asked to end")
	}
	h.ends(exitFine)
	h.empty(0)
}

// TestFirstFailure shows that what fails at the start by a mistake of the
// operator is not tried again.
func TestFirstFailure(t *testing.T) {
	for name, c := range map[string]struct {
		settings settings
		says     []string
	}{
		"core":   {settings{host: "fail.test"}, []string{"process failed"}},
		"keeper": {settings{host: "never.test", key: "bad"}, []string{"process failed", "start given up"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, c.settings)
			h.start()
			for _, message := range c.says {
				if said := h.says(message); text(said, "process") != name {
					t.Errorf("%v", said)
				}
			}
			h.ends(exitMistake)
			if !until(time.Second, func() bool { return len(h.processes()) == 0 }) {
				t.Errorf("left: %v", h.processes())
			}
		})
	}
}

// TestDrainLimit shows that who does not end in time is killed.
func TestDrainLimit(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	w := &warden{
		duty: &duty{}, log: slog.New(slog.DiscardHandler), state: draining,
		ending: ending{deadline: time.Now().Add(time.Minute)},
		wards:  []*ward{{pid: child.Process.Pid}},
	}
	if w.tend(time.Now()); w.hurried || w.state != draining {
		t.Fatalf("before the deadline: %+v", w)
	}
	if w.tend(w.deadline); !w.hurried || w.state != draining || !w.deadline.Before(time.Now().Add(2*hurryingTime)) {
		t.Fatalf("at the deadline: %+v", w)
	}
	if err := child.Wait(); err == nil {
		t.Error("the ward was not killed")
	}
	if w.tend(w.deadline); w.state != gone { // even if the ward could not be killed
		t.Errorf("after the last deadline: %+v", w)
	}
}

// TestPlainUser shows that the same works without root, and what is said then.
func TestPlainUser(t *testing.T) {
	h := build(t, settings{key: "good", uid: 65534})
	h.start()
	said := h.says("jail incomplete")
	if !strings.Contains(text(said, "lacking"), "separate users") || text(said, "level") != "warn" || !strings.Contains(text(said, "danger"), "key files") {
		t.Errorf("%v", said)
	}
	h.says("ready")
	h.signal(syscall.SIGTERM)
	h.ends(exitFine)
}

// TestInherited shows that a socket of the supervisor replaces a bind.
func TestInherited(t *testing.T) {
	h := build(t, settings{})
	sh := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:other exec ./sallyport run`)
	sh.Dir, sh.Env = h.dir, os.Environ()
	h.cmd = sh
	passed, address := listenTCP(t)
	other, _ := listenTCP(t)
	h.cmd.ExtraFiles = []*os.File{passed, other}
	config, err := os.ReadFile(h.dir + "/sallyport.toml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, h.dir+"/sallyport.toml", strings.Replace(string(config), `http = ["127.0.0.1:0"]`, `http = ["fd:web"]`, 1), 0o600)
	h.start()
	if said := h.says("inherited socket closed"); text(said, "name") != "other" {
		t.Errorf("%v", said)
	}
	if said := h.says("ready"); text(said, "http") != "["+address+"]" {
		t.Errorf("%v, want %s", said, address)
	}
}
