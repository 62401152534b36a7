package main

import (
	"encoding/json"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// ask runs status as an operator does.
func askAs(t *testing.T, h *house, args ...string) (out string, code int) {
	t.Helper()
	return commandAs(t, h, "status", args...)
}

// commandAs runs a command at the control socket as an operator does.
func commandAs(t *testing.T, h *house, name string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(h.dir+"/sallyport", append([]string{name, "--control", h.control}, args...)...)
	cmd.Args[0], cmd.Dir, cmd.Env = "sallyport", h.dir, h.cmd.Env
	cmd.SysProcAttr = h.cmd.SysProcAttr
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// TestStatus shows what status says of a service from before its start to after
// its end.
func TestStatus(t *testing.T) {
	asBoth(t, func(t *testing.T, uid int) {
		h := build(t, settings{key: "good", uid: uid})
		for _, flag := range []string{"--ready", "--json"} {
			if out, code := askAs(t, h, flag); code != exitCheck || !strings.Contains(out, "control.sock: no such file or directory\nhint: no sallyport runs there") {
				t.Errorf("before the start: %d, %s", code, out)
			}
		}
		h.startReady()
		if out, code := askAs(t, h, "--ready"); code != exitFine || out != "" {
			t.Errorf("--ready: %d, %q", code, out)
		}
		out, code := askAs(t, h, "--json")
		var s status
		if err := json.Unmarshal([]byte(out), &s); err != nil || code != exitFine || strings.Count(out, "\n") != 1 {
			t.Fatalf("--json: %v, %d, %s", err, code, out)
		}
		if s.State != "serving" || s.PID != h.cmd.Process.Pid || s.Version == "" || s.Since == "" {
			t.Errorf("%s", out)
		}
		core := processStatus{Name: "core", PID: number(t, h.ask("pid")), Core: &coreStatus{Generation: 1, State: "serving"}}
		if len(s.Processes) != 2 || !reflect.DeepEqual(s.Processes[0], core) || s.Processes[1].Name != "keeper warden" {
			t.Errorf("%s", out)
		}
		guest := h.hold()
		h.signal(syscall.SIGTERM)
		h.says("service ending")
		if out, code := askAs(t, h, "--ready"); code != exitCheck || !strings.Contains(out, "draining") {
			t.Errorf("--ready of one that ends: %d, %q", code, out)
		}
		if out, code := askAs(t, h); code != exitFine || !strings.HasPrefix(out, "draining, pid ") {
			t.Errorf("%d, %q", code, out)
		}
		guest.Close()
		h.ends(exitFine)
	})
}

// TestStatusStarting shows a service that is there and does not serve, and a core
// that was started again.
func TestStatusStarting(t *testing.T) {
	h := build(t, settings{host: "never.test"})
	h.start()
	h.address = "" // it never says
	if !until(patience, func() bool { _, code := askAs(t, h); return code == exitFine }) {
		t.Fatal("nobody answers")
	}
	if out, code := askAs(t, h, "--ready"); code != exitCheck || !strings.Contains(out, "starting") {
		t.Errorf("--ready: %d, %q", code, out)
	}
	kill(t, h.one("sallyport-core"), syscall.SIGKILL)
	h.says("process died")
	if !until(patience, func() bool { out, _ := askAs(t, h, "--json"); return strings.Contains(out, `"restarts":1`) }) {
		out, _ := askAs(t, h)
		t.Errorf("%s", out)
	}
}

// TestControlProbe shows that who only looks whether somebody is here is no news.
func TestControlProbe(t *testing.T) {
	h := build(t, settings{})
	h.startReady()
	call(t, h.control, "").Close()
	if n, err := call(t, h.control, "nonsense").Read(make([]byte, 10)); err == nil {
		t.Errorf("nonsense is answered with %d bytes", n)
	}
	var refused int
	h.signal(syscall.SIGHUP)
	for h.log.Scan() && !strings.Contains(h.log.Text(), `"reloaded"`) {
		if strings.Contains(h.log.Text(), "order refused") {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d orders were refused, want the one", refused)
	}
}
