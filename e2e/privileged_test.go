package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// privilegedMost bounds the lines of ours that ever run with privilege. A change that
// needs more is a reason to look for what could be done by somebody else. The aim is 900; it was 1,139 with
// the UDP sockets of HTTP/3.
const privilegedMost = 1149

// opened is a configuration with all that boot opens, binds and makes: two certificates,
// the internal CA's files, ports, a socket for clients and one for orders.
const opened = `listen = { http = ["127.0.0.1:0", "unix:{dir}/web.sock"], https = ["127.0.0.1:0"], advertise_port = 443 }
state = "{dir}/state"
control = "control.sock"
[[site]]
host = "shop.test"
tls = { cert = "shop.pem", key = "shop.key" }
redirect = false
app = "unix:{dir}/app/app.sock"
[[site]]
host = "localhost"
app = "unix:{dir}/app/app.sock"
`

// TestPrivilegedLines counts what runs with privilege when root starts, reloads and stops a
// service, when its app is started too, and when a start fails. Builds that count are without
// filters and landlock, which processes enter without privilege.
func TestPrivilegedLines(t *testing.T) {
	needRoot(t)
	folder := t.TempDir()
	for dir := folder; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	privileged := func(command string) string {
		t.Helper()
		run := exec.Command("go", "run", "./e2e/privileged", command, folder)
		run.Dir = ".."
		out, err := run.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	privileged("build")
	t.Setenv(binEnv, folder+"/bin")
	s := newScene(t)
	s.env = []string{"GOCOVERDIR=" + folder + "/data"}
	s.certificate("shop", p256(t), "shop.test")
	s.write("sallyport.toml", opened)
	for range 2 { // the second one finds what the first one has made
		h := s.start()
		for _, command := range []string{"reload", "stop"} {
			if out, code := s.shell("sallyport " + command); code != 0 {
				t.Fatalf("%s: exit code %d\n%s", command, code, out)
			}
		}
		h.end()
	}
	h := startedByServe(s, serverOf(t, "gunicorn-sync"))
	h.stop()
	s.must(os.Remove(s.path("shop.key")))
	s.must(os.Chmod(s.path("state"), 0o777))
	for _, command := range []string{"run", "reload", "serve --listen nowhere:80 unix:app.sock"} {
		if out, code := s.shell("sallyport " + command); code != 1 {
			t.Errorf("%s: exit code %d\n%s", command, code, out)
		}
	}
	s.certificate("shop", p256(t), "shop.test")
	s.must(os.Chmod(s.path("shop.key"), 0o644))
	if out, code := s.shell("sallyport run"); code != 1 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	printed := privileged("count")
	t.Logf("\n%s", printed)
	for _, file := range []string{"conf/tree.go", "conf/check.go", "conf/planner.go", "conf/sites.go", "sallyport/planning.go"} {
		if strings.Contains(printed, file) {
			t.Errorf("the configuration is parsed with privilege: %s", file)
		}
	}
	last := regexp.MustCompile(`(\d+) lines ran with privilege`).FindStringSubmatch(printed)
	if last == nil {
		t.Fatal("no count")
	}
	// Fewer than a start takes at least are a count that does not see what runs.
	if lines, _ := strconv.Atoi(last[1]); lines > privilegedMost || lines < 300 {
		t.Errorf("%d lines run with privilege, more than %d or too few to believe", lines, privilegedMost)
	}
}

// TestPlannerAlone shows that root takes nobody's word for a plan while a process that is not
// ours has the planner's user.
func TestPlannerAlone(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test")
	s.write("sallyport.toml", six)
	stranger := exec.Command("/bin/sleep", "60")
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 60581, Gid: 60581}}
	s.must(stranger.Start())
	out, code := s.shell("sallyport plan")
	s.must(stranger.Process.Kill())
	_ = stranger.Wait() // it was killed
	if code != 1 || !strings.Contains(out, "(/usr/bin/sleep) has id 60581, which would be ours") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out, code := s.shell("sallyport plan"); code != 0 {
		t.Errorf("when it is gone: exit code %d\n%s", code, out)
	}
}
