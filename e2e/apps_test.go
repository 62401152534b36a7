package e2e

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// appCommand is how an app server of Debian is started on a unix socket.
func appCommand(t *testing.T, kind, socket string) []string {
	t.Helper()
	switch kind {
	case "gunicorn-sync":
		return []string{"gunicorn", "-k", "sync", "-w", "2", "-b", "unix:" + socket, "wsgi:app"}
	case "gunicorn-gthread":
		return []string{"gunicorn", "-k", "gthread", "--threads", "4", "-b", "unix:" + socket, "wsgi:app"}
	case "uvicorn":
		return []string{"uvicorn", "--no-access-log", "--uds", socket, "asgi:app"}
	case "unicorn":
		return []string{"unicorn", "-E", "production", "-l", socket, "config.ru"}
	case "puma":
		return []string{"puma", "-q", "-e", "production", "-t", "1:4", "-b", "unix://" + socket, "config.ru"}
	case "node":
		return []string{"node", "server.js", socket}
	}
	t.Fatalf("no app server is called %q", kind)
	return nil
}

// app starts a real app on the socket app.sock of the scene and waits until it
// takes connections. It runs as its own user when the tests run as root, and
// in its own folder, app, where its gates are.
func (s *scene) app(kind string) {
	s.t.Helper()
	dir := s.path("app")
	s.must(os.CopyFS(dir, os.DirFS("apps")))
	command := appCommand(s.t, kind, s.path("app/app.sock"))
	if _, err := os.Stat("/usr/bin/" + command[0]); err != nil {
		s.t.Skipf("SKIPPED, NOT TESTED: no %s on this machine; `make test` installs it as root", command[0])
	}
	// PATH is Debian's own: another Python in front would not have its packages.
	// umask 0 makes a socket that the core's user may connect to.
	app := exec.Command("/bin/sh", append([]string{"-c", `umask 0; exec "$@"`, "sh"}, command...)...)
	app.Dir = dir
	app.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "LANG=C.UTF-8"}
	app.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		s.must(os.Chown(dir, nobody, nobody))
		app.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	output, err := os.Create(s.path("app.log"))
	s.must(err)
	defer output.Close()
	app.Stdout, app.Stderr = output, output
	s.must(app.Start())
	s.t.Cleanup(func() { endApp(app.Process.Pid, app) })
	takes(s.t, s.path("app/app.sock"))
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

// endApp kills an app with its workers, which share its process group.
func endApp(group int, app *exec.Cmd) {
	_ = syscall.Kill(-group, syscall.SIGKILL) // gone already is fine
	_ = app.Wait()                            // "killed" is what it says
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
