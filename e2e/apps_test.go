package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// app starts a real app on the socket app.sock of the scene and waits until it
// takes connections. It runs as its own user when the tests run as root, and
// in its own folder, app, where its gates are.
func (s *scene) app(kind string) {
	s.t.Helper()
	serverOf(s.t, kind).installed(s.t)
	s.folder()
	s.startApp(kind)
	takes(s.t, s.path("app/app.sock"))
}

// startApp starts a real app in its folder, and does not wait for it.
func (s *scene) startApp(kind string) *exec.Cmd {
	s.t.Helper()
	return s.startAppOn(kind, s.path("app/app.sock"))
}

// startAppOn is startApp on another socket.
func (s *scene) startAppOn(kind, socket string) *exec.Cmd {
	s.t.Helper()
	v, dir := serverOf(s.t, kind), s.path("app")
	command := slices.Clone(v.command)
	for i := range command {
		command[i] = strings.ReplaceAll(command[i], "{socket}", socket)
	}
	// PATH is Debian's own: another Python in front would not have its packages.
	// umask 0 makes a socket that the core's user may connect to.
	app := exec.CommandContext(s.t.Context(), "/bin/sh", append([]string{"-c", `umask 0; exec "$@"`, "sh"}, command...)...)
	app.Dir = dir
	app.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"} // no __pycache__ beside the socket
	app.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		app.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	output, err := os.OpenFile(s.path("app.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	s.must(err)
	defer output.Close()
	app.Stdout, app.Stderr = output, output
	// The end of the test is TERM for it: passenger has processes outside of its group.
	app.Cancel = func() error { return app.Process.Signal(syscall.SIGTERM) }
	app.WaitDelay = 3 * time.Second
	s.must(app.Start())
	s.t.Cleanup(func() { endApp(app) })
	return app
}

// folder makes the folder of the apps, which as root is that of their own user.
func (s *scene) folder() string {
	s.t.Helper()
	dir := s.path("app")
	s.must(os.CopyFS(dir, os.DirFS("apps")))
	if os.Getuid() == 0 {
		s.must(os.Chown(dir, nobody, nobody))
	}
	return dir
}

// installed skips a test whose app server is not there.
func (v appServer) installed(t *testing.T) {
	t.Helper()
	for _, name := range strings.Fields(v.packages) {
		// "name:amd64.list" are those that come for several architectures.
		found, err := filepath.Glob("/var/lib/dpkg/info/" + name + "[:.]*list")
		if err != nil || len(found) == 0 {
			t.Skipf("SKIPPED, NOT TESTED: no %s on this machine; `make test` installs it as root", name)
		}
	}
}

// takes waits until an app takes connections.
func takes(t *testing.T, socket string) {
	t.Helper()
	await(t, socket+" to take connections", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// endApp waits until an app has ended, as it was told to, and kills what is
// left of its process group.
func endApp(app *exec.Cmd) {
	_ = app.Wait()                                      // "killed" is what it says
	_ = syscall.Kill(-app.Process.Pid, syscall.SIGKILL) // gone already is fine
}

// arrived waits until a request has come to /wait?name=NAME or /stream.
func (s *scene) arrived(name string) {
	s.t.Helper()
	await(s.t, "a request at "+name, func() bool {
		_, err := os.Stat(s.path("app/" + name + ".here"))
		return err == nil
	})
}

// release lets the request at NAME go on.
func (s *scene) release(name string) {
	s.t.Helper()
	s.must(os.WriteFile(s.path("app/"+name+".go"), nil, 0o644))
}
