package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/sockets"
)

// reloads asks for new cores, and returns what it was told.
func (h *house) reloads() reloadAnswer {
	h.t.Helper()
	a, err := askReload(h.control, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// cores are the cores of a house as its status has them, by their pids.
func (h *house) cores() map[int]coreStatus {
	h.t.Helper()
	text, along, err := askStatus(h.control)
	sockets.CloseAll(along)
	var s status
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	cores := map[int]coreStatus{}
	for _, p := range s.Processes {
		if p.Core != nil {
			cores[p.PID] = *p.Core
		}
	}
	return cores
}

// serving is the only core in force.
func (h *house) serving() (pid int, core coreStatus) {
	h.t.Helper()
	for pid, core = range h.cores() {
		if core.State == "serving" {
			return pid, core
		}
	}
	h.t.Fatalf("none: %v", h.cores())
	return 0, core
}

// stay is hold in the core in force: for a moment an old one may still accept.
func (h *house) stay() (guest net.Conn) {
	h.t.Helper()
	pid, _ := h.serving()
	if !until(patience, func() bool {
		var err error
		if guest, err = h.dial(); err != nil {
			h.t.Fatal(err)
		}
		answer := make([]byte, 20)
		_, _ = io.WriteString(guest, "stay") // the answer tells
		n, _ := guest.Read(answer)
		if string(answer[:n]) == strconv.Itoa(pid) {
			return true
		}
		guest.Close()
		return false
	}) {
		h.t.Fatalf("never in %d", pid)
	}
	h.t.Cleanup(func() { guest.Close() })
	return guest
}

// TestReload shows new cores beside the old ones: by the command and by HUP, as root
// and without.
func TestReload(t *testing.T) {
	asBoth(t, func(t *testing.T, uid int) {
		h := build(t, settings{key: "good", uid: uid})
		h.startReady()
		first, _ := h.serving()
		guest := h.hold()
		out, code := commandAs(t, h, "reload")
		second, current := h.serving()
		if want := fmt.Sprintf("reloaded: generation 2, core %d; generation 1 drains\n", second); code != exitFine || !strings.HasPrefix(out, want) {
			t.Errorf("%d, %q, want %q", code, out, want)
		}
		if said := h.says("reloaded"); text(said, "generation") != "2" || text(said, "draining") != "[1]" {
			t.Errorf("%v", said)
		}
		old := h.cores()[first]
		if first == second || old.State != "draining" || old.Since == "" || old.Generation != 1 || current != (coreStatus{Generation: 2, Row: 1, State: "serving"}) {
			t.Errorf("%d: %+v, %d: %+v", first, old, second, current)
		}
		h.signal(syscall.SIGHUP)
		if said := h.says("reloaded"); text(said, "generation") != "3" || text(said, "level") != "info" {
			t.Errorf("%v", said)
		}
		guest.Close()
		if !until(patience, func() bool { return len(h.cores()) == 1 }) {
			t.Errorf("%v", h.cores())
		}
		if _, core := h.serving(); h.ask("row") != strconv.Itoa(core.Row) {
			t.Errorf("%+v, and it was told another row", core)
		}
		h.signal(syscall.SIGTERM)
		h.ends(exitFine)
	})
}

// TestReloadFails shows that the old core serves on if the new one cannot, and that the
// next reload is as good as any.
func TestReloadFails(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	pid, program := h.ask("pid"), filepath.Join(h.dir, "sallyport-core")
	if err := os.Chmod(program, 0o644); err != nil {
		t.Fatal(err)
	}
	out, code := commandAs(t, h, "reload")
	if code != exitMistake || !strings.Contains(out, "not reloaded: a new core, pid ") || !strings.Contains(out, "code 1; generation 1 serves on") {
		t.Errorf("%d, %q", code, out)
	}
	if said := h.says("not reloaded"); !strings.Contains(text(said, "reason"), "code 1") {
		t.Errorf("%v", said)
	}
	if after := h.ask("pid"); after != pid || len(h.cores()) != 1 {
		t.Errorf("%s serves, want %s: %v", after, pid, h.cores())
	}
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	if a := h.reloads(); a.Generation != 3 || slices.Contains(a.Cores, number(t, pid)) {
		t.Errorf("%+v", a)
	}
}

// TestReloadTooEarly shows that nobody is promised new cores before the first are
// ready, or after the end has begun.
func TestReloadTooEarly(t *testing.T) {
	h := build(t, settings{host: "never.test"})
	h.start()
	h.address = "" // it never says
	if !until(patience, func() bool { _, code := askAs(t, h); return code == exitFine }) {
		t.Fatal("nobody answers")
	}
	if out, code := commandAs(t, h, "reload"); code != exitMistake || !strings.Contains(out, "is not ready yet") {
		t.Errorf("%d, %q", code, out)
	}
	other := build(t, settings{})
	other.startReady()
	other.hold()
	other.signal(syscall.SIGTERM)
	other.says("service ending")
	if out, code := commandAs(t, other, "reload"); code != exitMistake || !strings.Contains(out, "the service ends") {
		t.Errorf("%d, %q", code, out)
	}
}

// TestFourGenerations shows that a fifth one has the oldest end, that rows are shared
// by no two living cores, and that a death costs no generation its place.
func TestFourGenerations(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	var guests []net.Conn
	for range generationsMax - 1 {
		guests = append(guests, h.stay())
		h.reloads()
	}
	guests = append(guests, h.stay())
	cores := h.cores()
	var rows []int
	for _, core := range cores {
		rows = append(rows, core.Row)
	}
	if slices.Sort(rows); !slices.Equal(rows, []int{0, 1, 2, 3}) {
		t.Errorf("rows %v: %v", rows, cores)
	}
	if a := h.reloads(); !slices.Equal(a.Draining, []int{2, 3, 4}) || a.Generation != 5 {
		t.Errorf("%+v", a)
	}
	if said := h.says("generation told to end"); text(said, "generation") != "1" {
		t.Errorf("%v", said)
	}
	if n, err := guests[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the oldest guest reads %d bytes, %v", n, err)
	}
	if _, core := h.serving(); core.Row != 0 {
		t.Errorf("%+v, want the row of the one that is gone", core)
	}
	for pid, core := range h.cores() {
		kill(t, pid, syscall.SIGKILL)
		if died := h.says("process died"); number(t, text(died, "pid")) != pid {
			t.Errorf("%v", died)
		}
		if row := h.ask("row"); core.Generation == 5 && row != "0" {
			t.Errorf("started again in row %s", row)
		}
	}
	if !until(patience, func() bool { return len(h.cores()) == 1 }) {
		t.Errorf("%v", h.cores())
	}
}

// TestEndOfGenerations shows that stop drains all of them, and that the death of the
// main process leaves nothing.
func TestEndOfGenerations(t *testing.T) {
	for name, end := range map[string]func(h *house, guests []net.Conn){
		"stop": func(h *house, guests []net.Conn) {
			stopped := make(chan error, 1)
			go func() { stopped <- stop(h.control, stay) }()
			h.says("service ending")
			for _, guest := range guests {
				if h.gone(50 * time.Millisecond) {
					h.t.Error("ended with a guest inside")
				}
				guest.Close()
			}
			if err := <-stopped; err != nil {
				h.t.Error(err)
			}
			h.ends(exitFine)
			h.empty(0)
		},
		"kill": func(h *house, _ []net.Conn) {
			h.signal(syscall.SIGKILL)
			h.empty(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, settings{key: "good"})
			h.startReady()
			guests := []net.Conn{h.stay()}
			h.reloads()
			guests = append(guests, h.stay())
			h.reloads()
			end(h, guests)
		})
	}
}

// TestPetitions shows that one reload may wait for the end of another, and no more.
func TestPetitions(t *testing.T) {
	log := new(strings.Builder)
	w := &warden{log: slog.New(slog.NewTextHandler(log, nil)), state: serving}
	for range 3 {
		w.petition(petition{})
	}
	if len(w.reload.petitions) != 2 || strings.Count(log.String(), "another one waits") != 1 {
		t.Errorf("%d wait, %s", len(w.reload.petitions), log)
	}
}

// TestReloadLate shows that a generation which is never ready is given up: those of it
// that have begun to serve finish, the others are killed.
func TestReloadLate(t *testing.T) {
	core := wardPlan{Name: "core", Role: "core"}
	log := new(strings.Builder)
	d := &duty{Wards: []wardPlan{core, core}, Drain: time.Minute}
	e := &estate{duty: d, ground: new(ground)}
	w := &warden{
		duty: d, log: slog.New(slog.NewTextHandler(log, nil)), state: serving, estate: e, estates: []*estate{e},
		reload: reload{generation: 1, last: 1},
	}
	if err := w.addCores(e, 1, sockets.Gifts{{Name: "program", FD: -1}}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	w.petition(petition{})
	w.tendReload(now)
	incoming := w.incoming()
	if len(incoming) != 2 || incoming[0].row != 2 || incoming[1].row != 3 {
		t.Fatalf("%+v", incoming)
	}
	if next := w.reloadNext(now.Add(time.Hour)); !next.Equal(now.Add(reloadTime)) {
		t.Errorf("looks again at %v", next)
	}
	w.tendReload(now.Add(reloadTime))
	if w.reload.generation != 1 || len(w.reload.petitions) != 0 || len(w.inForce()) != 2 || len(w.wards) != 2 || !strings.Contains(log.String(), "not ready within") {
		t.Errorf("%+v, %d wards, %s", w.reload, len(w.wards), log)
	}
}

// TestRetiredEarly shows that a core which was retired before it could listen to signals is
// told again once it is ready: it would serve on for as long as tunnels may.
func TestRetiredEarly(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	core := &ward{plan: wardPlan{Name: "core", Role: "core"}, pid: child.Process.Pid, retired: time.Now()}
	w := &warden{log: slog.New(slog.DiscardHandler), state: serving, wards: []*ward{core}}
	w.greet(readiness{core, core.pid})
	err := child.Wait()
	if status, _ := child.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGUSR1 {
		t.Error(err)
	}
}
