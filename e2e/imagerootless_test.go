package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A lodger is a user of this machine for as long as a test runs: only in a mount namespace
// is there his account, and are there the ids that his containers may have.
type lodger struct {
	*scene
	holder int // a process in the namespace
}

const (
	lodgerUID = 4712
	lodgerIDs = 700000 // the first of 65536
)

// newLodger makes him.
func newLodger(t *testing.T) *lodger {
	t.Helper()
	for _, program := range []string{"newuidmap", "unshare", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED, NOT TESTED: no %s on this machine", program)
		}
	}
	s := newScene(t)
	mount := ""
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("lodger:x:%d:%d::%s:/bin/sh\n", lodgerUID, lodgerUID, s.path("home")),
		"group":  fmt.Sprintf("lodger:x:%d:\n", lodgerUID),
		"subuid": fmt.Sprintf("lodger:%d:65536\n", lodgerIDs),
		"subgid": fmt.Sprintf("lodger:%d:65536\n", lodgerIDs),
	} {
		text, err := os.ReadFile("/etc/" + name)
		s.must(err)
		s.must(os.WriteFile(s.path(name), append(text, line...), 0o644))
		mount += "mount --bind " + s.path(name) + " /etc/" + name + "; "
	}
	for _, folder := range []string{"home", "run"} {
		s.must(os.Mkdir(s.path(folder), 0o700))
		s.must(os.Chown(s.path(folder), lodgerUID, lodgerUID))
	}
	holder := exec.Command("unshare", "--mount", "--propagation", "slave", "sh", "-c", "set -e; "+mount+": >"+s.path("mounted")+"; exec sleep 1000")
	s.must(holder.Start())
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait() // it was killed
	})
	await(t, "the mounts", func() bool {
		_, err := os.Stat(s.path("mounted"))
		return err == nil
	})
	return &lodger{s, holder.Process.Pid}
}

// does runs a command as him.
func (l *lodger) does(command ...string) (string, error) {
	args := append([]string{
		"-t", fmt.Sprint(l.holder), "-m", "setpriv", fmt.Sprintf("--reuid=%d", lodgerUID), fmt.Sprintf("--regid=%d", lodgerUID), "--clear-groups",
		"env", "-i", "HOME=" + l.path("home"), "XDG_RUNTIME_DIR=" + l.path("run"), "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}, command...)
	cmd := exec.Command("nsenter", args...)
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// imageRootless runs the image for a user who is nobody but himself: what calls itself
// root there is one of his ids, and what sallyport runs as is another.
func imageRootless(t *testing.T, image string) {
	l := newLodger(t)
	archive := l.path("image.tar")
	podman(t, "save", "-o", archive, image)
	l.must(os.Chmod(archive, 0o644))
	must := func(command ...string) string {
		t.Helper()
		out, err := l.does(command...)
		if err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
		}
		return out
	}
	t.Cleanup(l.leaves)
	must("podman", "load", "-i", archive)
	c := newContainer(t)
	c.uid = lodgerIDs + imageUser - 1
	c.configured("listen = { http = [\":8080\"], https = [\":8443\"] }\n")
	for _, name := range []string{"etc/shop.pem", "etc/shop.key"} {
		l.must(os.Chown(c.path(name), c.uid, c.uid))
	}
	out := must(slices.Concat([]string{"podman", "run"}, c.strict(),
		[]string{"-v", c.path("app") + ":/run/app", "-v", c.path("etc") + ":/etc/sallyport:ro", image})...)
	lines := strings.Fields(out)
	c.name = lines[len(lines)-1]
	t.Cleanup(func() { _, _ = l.does("podman", "rm", "-f", "-v", c.name) }) // it may be gone
	pid, err := strconv.Atoi(must("podman", "inspect", "-f", "{{.State.Pid}}", c.name))
	l.must(err)
	c.pid = pid
	await(t, "the first answer", func() bool {
		r := &regular{dial: c.dial("127.0.0.1:8080")}
		defer r.leave()
		return r.ask() == nil
	})
	c.answers("http://shop.test:8080/hello", "https://shop.test:8443/hello")
	for name, uid := range c.powerlessOf(c.own()) {
		if uid != fmt.Sprint(c.uid) {
			t.Errorf("%s is user %s, not %d", name, uid, c.uid)
		}
	}
	must("podman", "exec", c.name, "/bin/sallyport", "privs", "--assert", "-c", machineConfig)
	must("podman", "healthcheck", "run", c.name)
	must("podman", "stop", "-t", "35", c.name)
	if code := must("podman", "inspect", "-f", "{{.State.ExitCode}}", c.name); code != "0" {
		t.Errorf("exit code %s", code)
	}
}

// leaves ends what podman keeps for him: a process that has his namespaces.
func (l *lodger) leaves() {
	_, _ = l.does("podman", "system", "migrate") // which ends it, if it is there
	text, err := os.ReadFile(l.path("run") + "/libpod/tmp/pause.pid")
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is fine
	}
}
