package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// logged is a file with a target for the log, in front of an app.
const logged = `control = "control.sock"
pid_file = "pid"
log.target = %q
` + six

// loggedHouse starts a house that logs to a target.
func (s *scene) loggedHouse(target string) *house {
	s.t.Helper()
	s.app("node")
	s.certificate("shop", p256(s.t), "shop.test")
	s.write("sallyport.toml", fmt.Sprintf(logged, target))
	s.must(os.Remove(s.path("sallyport.toml")))
	s.write("sallyport.toml", strings.Replace(fmt.Sprintf(logged, target), "127.0.0.1:0\"], https", "unix:{dir}/web.sock\"], https", 1))
	h := s.launch(exec.Command(bin("sallyport"), "run", "-c", "sallyport.toml"))
	await(s.t, "readiness", func() bool {
		out, err := exec.Command(bin("sallyport"), "status", "--ready", "--control", s.path("control.sock")).CombinedOutput()
		if h.gone() {
			s.t.Fatalf("%s\n%s", out, h.tail())
		}
		return err == nil
	})
	s.write(".curlrc", "silent\nshow-error\nmax-time = 20\nunix-socket = {dir}/web.sock\n")
	return h
}

// has says whether a file has a line with all of these in it.
func (s *scene) has(name string, words ...string) bool {
	text, err := os.ReadFile(s.path(name))
	s.must(err)
	for line := range strings.Lines(string(text)) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true
		}
	}
	return false
}

// TestLogFile shows a log in a file of a folder that is root's alone: it is made, written by
// every process, and opened anew when it was renamed; nothing is lost, and stderr is empty.
func TestLogFile(t *testing.T) {
	s := newScene(t)
	needRoot(t)
	s.must(os.Mkdir(s.path("log"), 0o711))
	h := s.loggedHouse(s.path("log/access.log"))
	pid, err := os.ReadFile(s.path("pid"))
	s.must(err)
	if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err != nil || n != h.cmd.Process.Pid {
		t.Errorf("pid file: %q, %v; want %d", pid, err, h.cmd.Process.Pid)
	}
	s.answered("http://shop.test/first")
	await(t, "the first line", func() bool { return s.has("log/access.log", `"target":"/first"`) })
	for _, words := range [][]string{{`"message":"ready"`, strconv.Itoa(h.cmd.Process.Pid)}, {"keeper ready"}} {
		if !s.has("log/access.log", words...) {
			t.Errorf("not in the log: %q", words)
		}
	}
	if stat, err := os.Stat(s.path("log/access.log")); err != nil || stat.Mode() != 0o640 || stat.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}

	// Who renames it makes the new one, as logrotate's create does.
	s.must(os.Rename(s.path("log/access.log"), s.path("log/access.log.1")))
	h.signal(syscall.SIGUSR1)
	await(t, "a complaint", func() bool { return s.has("log/access.log.1", "log not reopened", "create 0640") })
	s.answered("http://shop.test/between")
	await(t, "a line in the old file", func() bool { return s.has("log/access.log.1", `"target":"/between"`) })
	s.must(os.WriteFile(s.path("log/access.log"), nil, 0o640))
	s.must(os.Chown(s.path("log/access.log"), 60578, 0))
	h.signal(syscall.SIGUSR1)
	await(t, "a new file", func() bool {
		return s.has("log/access.log", "log reopened") || s.has("log/access.log.1", "log reopened")
	})
	s.answered("http://shop.test/second")
	await(t, "a line in the new file", func() bool { return s.has("log/access.log", `"target":"/second"`) })

	// The scribe is no more than its user, and another one goes on where it ended.
	if out, code := s.privs(); code != 0 || !strings.Contains(out, "\nscribe, pid ") {
		t.Errorf("privs --assert: exit code %d, %s", code, out)
	}
	scribe := s.scribe()
	scribe.kill()
	await(t, "another scribe", func() bool {
		return s.has("log/access.log", "process died", `"process":"scribe"`) && s.scribe().pid != scribe.pid
	})
	s.answered("http://shop.test/third")
	await(t, "its line", func() bool { return s.has("log/access.log", `"target":"/third"`) })
	if code := h.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !s.has("log/access.log", "service ending") {
		t.Error("the last lines are missing")
	}
	<-h.ended
	if said := h.tail(); said != "" {
		t.Errorf("stderr: %s", said)
	}
	if _, err := os.Stat(s.path("pid")); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// scribe is the process that writes the log.
func (s *scene) scribe() process {
	s.t.Helper()
	for _, p := range ours() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid)) // "" when it is gone
		if strings.HasPrefix(string(line), "sallyport\x00scribe\x00") {
			return p
		}
	}
	return process{}
}

// TestLogFileKilled shows that no process is left when the main one is killed.
func TestLogFileKilled(t *testing.T) {
	s := newScene(t)
	needRoot(t)
	s.must(os.Mkdir(s.path("log"), 0o755))
	h := s.loggedHouse("log/access.log")
	h.signal(syscall.SIGKILL)
	if !until(2*time.Second, func() bool { return len(ours()) == 0 }) {
		t.Errorf("left behind: %v", ours())
	}
}

// TestLogSyslog shows what a syslog daemon is sent, on a unix socket and over UDP.
func TestLogSyslog(t *testing.T) {
	for _, network := range []string{"unixgram", "udp"} {
		t.Run(network, func(t *testing.T) {
			s := newScene(t)
			address, prefix, begins := "127.0.0.1:0", "udp:", "<30>1 "
			if network == "unixgram" {
				address, prefix, begins = s.path("devlog"), "unix:", "<30>"
			}
			daemon, err := net.ListenPacket(network, address)
			s.must(err)
			defer daemon.Close()
			if network == "unixgram" {
				s.must(os.Chmod(address, 0o666))
			}
			h := s.loggedHouse(prefix + daemon.LocalAddr().String())
			s.answered("http://shop.test/first")
			s.must(daemon.SetReadDeadline(time.Now().Add(patience)))
			message := make([]byte, 1<<16)
			for got := ""; !strings.Contains(got, `"target":"/first"`); {
				n, _, err := daemon.ReadFrom(message)
				s.must(err)
				got = string(message[:n])
				if !strings.Contains(got, " sallyport") || strings.Contains(got, `"level":"info"`) && !strings.HasPrefix(got, begins) {
					t.Errorf("sent: %s", got)
				}
			}
			if code := h.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// TestSyslogAgain shows that lines reach a daemon that was started anew, and that what was
// said in between is counted.
func TestSyslogAgain(t *testing.T) {
	s := newScene(t)
	begin := func() net.PacketConn {
		daemon, err := net.ListenPacket("unixgram", s.path("devlog"))
		s.must(err)
		t.Cleanup(func() { daemon.Close() })
		s.must(os.Chmod(s.path("devlog"), 0o666))
		return daemon
	}
	awaits := func(daemon net.PacketConn, text string) {
		t.Helper()
		s.must(daemon.SetReadDeadline(time.Now().Add(patience)))
		message := make([]byte, 1<<16)
		for {
			n, _, err := daemon.ReadFrom(message)
			s.must(err)
			if strings.Contains(string(message[:n]), text) {
				return
			}
		}
	}
	first := begin()
	h := s.loggedHouse("unix:" + s.path("devlog"))
	awaits(first, `"message":"ready"`)
	first.Close()
	_ = os.Remove(s.path("devlog")) // Close does it, mostly
	h.signal(syscall.SIGUSR2)
	await(t, "a complaint on stderr", func() bool { return h.says("log not written") })
	second := begin()
	h.signal(syscall.SIGUSR2)
	awaits(second, `"message":"log lines dropped"`)
	awaits(second, "signal ignored")
}

// TestPIDFileKept shows that what is no pid file is not replaced by one.
func TestPIDFileKept(t *testing.T) {
	s := newScene(t)
	s.write("precious", "precious: 1\n")
	s.write("sallyport.toml", "pid_file = \"precious\"\n"+fmt.Sprintf(plain, "127.0.0.1:0"))
	out, code := s.shell("timeout 10 sallyport run -c sallyport.toml")
	text, err := os.ReadFile(s.path("precious"))
	s.must(err)
	if code != 1 || !strings.Contains(out, "no pid is in it") || string(text) != "precious: 1\n" {
		t.Errorf("exit code %d, %q\n%s", code, text, out)
	}
}

// TestLogRefused shows what an operator reads whose log cannot be written.
func TestLogRefused(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.must(os.Mkdir(s.path("open"), 0o777))
	s.must(os.Chmod(s.path("open"), 0o777))
	s.must(unix.Mkfifo(s.path("fifo"), 0o600))
	for target, want := range map[string]string{
		"open/access.log":       "may be written by the core, uid 60578",
		"absent/access.log":     "no such file or directory",
		"./fifo":                "fifo",
		"unix:/nonexistent/log": "no such file or directory",
	} {
		s.write("sallyport.toml", fmt.Sprintf("log.target = %q\n", target)+fmt.Sprintf(plain, "127.0.0.1:0"))
		out, code := s.shell("sallyport run -c sallyport.toml")
		if code != 1 || !strings.Contains(out, want) || !strings.Contains(out, "sallyport.toml:1: log.target: ") {
			t.Errorf("%s: exit code %d\n%s", target, code, out)
		}
	}
	if left := ours(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestOpenFiles shows that each process has the limit that was asked for, the soft one
// raised to it, and that few are warned of.
func TestOpenFiles(t *testing.T) {
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test")
	s.write("sallyport.toml", "max_open_files = 512\n"+six)
	h := s.begin(exec.Command("/bin/sh", "-c", "ulimit -Sn 100; ulimit -Hn 1024; exec "+bin("sallyport")+" run -c sallyport.toml"))
	h.wait(t, "limit too low", "what=limit of open files is 512: *", "hint=LimitNOFILE=*")
	for _, name := range []string{"sallyport-core", "sallyport-keeper"} {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", named(t, name).pid))
		if err != nil && os.Getuid() != 0 {
			continue // that of another, since it is not dumpable
		}
		s.must(err)
		for line := range strings.Lines(string(limits)) {
			if strings.HasPrefix(line, "Max open files") && strings.Join(strings.Fields(line), " ") != "Max open files 512 512 files" {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
	h.stop()
	s.write("sallyport.toml", "max_open_files = 2048\n"+six)
	plainUserOf := newSceneFor(t, plainUser())
	plainUserOf.write("sallyport.toml", "max_open_files = 2048\n"+fmt.Sprintf(plain, "127.0.0.1:0"))
	out, code := plainUserOf.shell("ulimit -n 1024; sallyport run -c sallyport.toml")
	if code != 1 || !strings.Contains(out, "max_open_files: hard limit of the start is 1024") || !strings.Contains(out, "hint: ") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
