package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reloads asks for new cores, and returns what it was told.
func (h *house) reloads() reloadAnswer {
	h.t.Helper()
	a, err := askReload(h.control)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// cores are the cores of a house as its status has them, by their pids.
func (h *house) cores() map[int]coreStatus {
	h.t.Helper()
	text, err := askStatus(h.control)
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

// TestReload shows new cores beside the old ones: by the command and by HUP, as root
// and without.
func TestReload(t *testing.T) {
	asBoth(t, func(t *testing.T, uid int) {
		h := build(t, settings{key: "good", uid: uid})
		h.startReady()
		first := number(t, h.ask("pid"))
		guest := h.hold()
		out, code := askReloadAs(t, h)
		if want := "reloaded: generation 2, core " + h.ask("pid") + "; generation 1 drains\n"; code != exitFine || !strings.HasPrefix(out, want) || !strings.Contains(out, "not read again") {
			t.Errorf("%d, %q, want %q", code, out, want)
		}
		if said := h.says("reloaded"); text(said, "generation") != "2" || text(said, "draining") != "[1]" {
			t.Errorf("%v", said)
		}
		second := number(t, h.ask("pid"))
		old, current := h.cores()[first], h.cores()[second]
		if first == second || old.State != "draining" || old.Since == "" || old.Generation != 1 || current != (coreStatus{2, 1, "serving", ""}) {
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
		if row := h.ask("row"); row != "2" && row != "1" { // the second may have ended before, or not
			t.Errorf("row %s", row)
		}
		h.signal(syscall.SIGTERM)
		h.ends(exitFine)
	})
}

// askReloadAs runs reload as an operator does.
func askReloadAs(t *testing.T, h *house) (out string, code int) {
	t.Helper()
	return commandAs(t, h, "reload")
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
	out, code := askReloadAs(t, h)
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
	if a := h.reloads(); a.Generation != 3 || h.ask("pid") == pid {
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
	if out, code := askReloadAs(t, h); code != exitMistake || !strings.Contains(out, "is not ready yet") {
		t.Errorf("%d, %q", code, out)
	}
	other := build(t, settings{})
	other.startReady()
	other.hold()
	other.signal(syscall.SIGTERM)
	other.says("service ending")
	if out, code := askReloadAs(t, other); code != exitMistake || !strings.Contains(out, "the service ends") {
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
		guests = append(guests, h.hold())
		h.reloads()
	}
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
	if row := h.ask("row"); row != "0" {
		t.Errorf("row %s, want that of the one that is gone", row)
	}
	for pid, core := range h.cores() {
		kill(t, pid, syscall.SIGKILL)
		if died := h.says("process died"); number(t, text(died, "pid")) != pid {
			t.Errorf("%v", died)
		}
		if core.Generation == 5 && h.ask("row") != "0" {
			t.Error("started again in another row")
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
			go func() { stopped <- stop(h.control) }()
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
			guests := []net.Conn{h.hold()}
			h.reloads()
			guests = append(guests, h.hold())
			h.reloads()
			end(h, guests)
		})
	}
}

// TestPetitions shows that one reload may wait for the end of another, and no more.
func TestPetitions(t *testing.T) {
	log := new(strings.Builder)
	w := &warden{log: slog.New(slog.NewTextHandler(log, nil)), state: serving}
	for range petitionsMax + 1 {
		w.petition(petition{})
	}
	if len(w.reload.petitions) != petitionsMax || strings.Count(log.String(), "another one waits") != 1 {
		t.Errorf("%d wait, %s", len(w.reload.petitions), log)
	}
}

// TestReloadLate shows that a generation which is never ready is given up: those of it
// that have begun to serve finish, the others are killed.
func TestReloadLate(t *testing.T) {
	core := wardPlan{Name: "core", Role: "core"}
	log := new(strings.Builder)
	w := &warden{
		duty: &duty{Wards: []wardPlan{core, core}, Drain: time.Minute}, log: slog.New(slog.NewTextHandler(log, nil)), state: serving,
		wards:  []*ward{{plan: core, generation: 1}, {plan: core, generation: 1, slot: 1}},
		reload: reload{generation: 1, last: 1},
	}
	now := time.Now()
	w.petition(petition{})
	w.tendReload(now)
	incoming := w.incoming()
	if len(incoming) != 2 || w.row(incoming[0]) != 2 || w.row(incoming[1]) != 3 {
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
