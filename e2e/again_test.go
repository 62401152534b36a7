package e2e

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// known is a house with a socket for clients and one for orders: files, which
// a killed house cannot take away.
const known = `control = "control.sock"
listen = { http = ["unix:{dir}/web.sock"], https = [] }
[[site]]
host = "shop.test"
app = "unix:{dir}/app/app.sock"
`

// TestStartAgain shows that what a killed house leaves behind is not in the way
// of the next one, and that a running one is not robbed of it.
func TestStartAgain(t *testing.T) {
	s := newScene(t)
	s.app("node")
	s.write("sallyport.toml", known)
	killed := s.start()
	if out, code := s.shell("sallyport run -c sallyport.toml"); code != 1 {
		t.Errorf("a second one at the same time: exit code %d\n%s", code, out)
	}
	killed.signal(syscall.SIGKILL)
	await(t, "the end of all processes", func() bool { return len(ours()) == 0 })

	h := s.start()
	s.write(".curlrc", "silent\nshow-error\nmax-time = 20\nunix-socket = {dir}/web.sock\n")
	s.answered("http://shop.test/")
	if out, code := s.shell("sallyport stop -c sallyport.toml"); code != 0 {
		t.Errorf("stop: exit code %d\n%s", code, out)
	}
	if code := h.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestStopByStranger shows that orders are taken from root and from the user
// who started the house, and from nobody else.
func TestStopByStranger(t *testing.T) {
	s := newScene(t)
	needRoot(t)
	s.write("sallyport.toml", known)
	h := s.start()
	stop := exec.Command(bin("sallyport"), "stop", "--control", s.path("control.sock"))
	stop.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := stop.CombinedOutput()
	if err == nil || h.gone() {
		t.Errorf("stopped by uid %d\n%s", nobody, out)
	}
	t.Logf("%s", out)
}

// TestKillWarden shows what the death of a keeper's warden is: it cannot be
// mended without privilege, so the house ends, and says so by its exit code.
func TestKillWarden(t *testing.T) {
	s := newScene(t)
	h := s.shop("gunicorn-gthread")
	for _, p := range ours() {
		if p.name == "sallyport" && p.pid != h.cmd.Process.Pid {
			p.kill()
		}
	}
	if code := h.end(); code != 4 {
		t.Errorf("exit code %d", code)
	}
	if !until(time.Second, func() bool { return len(ours()) == 0 }) {
		t.Errorf("left behind: %v", ours())
	}
}

// TestTerminateChild sends TERM to a core and to a keeper, as an operator might who
// does not know better, or a supervisor that signals everybody: another core takes the
// place of the one that drained, and the keeper, which drains nothing, stays.
func TestTerminateChild(t *testing.T) {
	s := newScene(t)
	s.shop("gunicorn-gthread")
	keeper := named(t, "sallyport-keeper")
	core := named(t, "sallyport-core")
	for _, pid := range []int{keeper.pid, core.pid} {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	await(t, fmt.Sprintf("a successor of %v", core), func() bool { return named(t, "sallyport-core").pid != core.pid })
	s.answered("https://shop.test/")
	if now := named(t, "sallyport-keeper"); now.pid != keeper.pid {
		t.Errorf("the keeper was %v and is %v", keeper, now)
	}
}
