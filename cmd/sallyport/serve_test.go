package main

import (
	"bufio"
	"fmt"
	"io"
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

	"golang.org/x/sys/unix"
)

// appUID is the user of the apps that root's tests start.
const appUID = 60612

// buildServe prepares a house that serves without a file. The folder of the
// programs is that of the runtime too, and the current one.
func buildServe(t *testing.T, uid int, args ...string) *house {
	t.Helper()
	h := build(t, settings{uid: uid})
	cmd := exec.Command(filepath.Join(h.dir, "sallyport"), append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Args[0], cmd.Dir, cmd.SysProcAttr = "sallyport", h.dir, h.cmd.SysProcAttr
	cmd.Env = append(h.cmd.Env, "RUNTIME_DIRECTORY="+h.dir, "NOTIFY_SOCKET=/nonexistent", "XDG_RUNTIME_DIR=/nonexistent", "SHOP=open")
	h.cmd = cmd
	if uid == 0 && os.Geteuid() == 0 {
		own(t, h.dir, 0) // for others to enter
	}
	return h
}

// buildApp is buildServe with an app: a copy of the test binary that appLife is
// the life of, or what args say. Root starts it for another user.
func buildApp(t *testing.T, uid int, args ...string) *house {
	t.Helper()
	if len(args) == 0 {
		args = []string{"./sallyport-app", "{fd}", "{socket}"}
	}
	flags := []string{"--"}
	if uid == 0 && os.Geteuid() == 0 {
		flags = []string{"--user", strconv.Itoa(appUID), "--"}
	}
	h := buildServe(t, uid, append(flags, args...)...)
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(h.dir, "sallyport-app"), string(program), 0o755)
	return h
}

// tell says a word to the app, past the core, and returns its answer.
func (h *house) tell(word string) string {
	h.t.Helper()
	sockets, err := filepath.Glob(h.dir + "/*/app.sock")
	if err != nil || len(sockets) != 1 {
		h.t.Fatalf("sockets %v, %v", sockets, err)
	}
	conn, err := net.Dial("unix", sockets[0])
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, word); err != nil {
		h.t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(answer)
}

// asBoth runs a story as root, if that is who tests, and as a plain user.
func asBoth(t *testing.T, story func(t *testing.T, uid int)) {
	if os.Geteuid() == 0 {
		t.Run("root", func(t *testing.T) { story(t, 0) })
	}
	t.Run("plain user", func(t *testing.T) { story(t, 65534) })
}

// report has an app of /bin/sh say what it is, each fact on a line of stdout.
const report = `ulimit -Sn; ulimit -c; umask; echo $PPID $$; cat /proc/self/status; echo end
env; echo end
ls -l /proc/$$/fd; echo end
pwd; exit 7`

// ignoredSignals is the mask of ignored signals in a status of /proc, without the two
// that glibc keeps to itself: whatever posix_spawn has started, as make does, ignores them.
func ignoredSignals(t *testing.T, status string) uint64 {
	t.Helper()
	_, mask, _ := strings.Cut(status, "\nSigIgn:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	ignored, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ignored &^ (1<<31 | 1<<32)
}

// TestServeReport shows as what an app is started, and that its exit status is
// that of the service.
func TestServeReport(t *testing.T) {
	asBoth(t, func(t *testing.T, uid int) {
		h := buildApp(t, uid, "sh", "-c", report, "{fd}", "{socket}")
		// A shell between, for the limits; the test's own are as the runtime has them.
		h.cmd.Args = append([]string{"sh", "-c", `ulimit -Sn 512; exec "$0" "$@"`, h.cmd.Path}, h.cmd.Args[1:]...)
		h.cmd.Path = "/bin/sh"
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		h.cmd.Stdout = writer
		h.start()
		writer.Close()
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		h.ends(7)
		parts := strings.Split(string(text), "end\n")
		if len(parts) != 4 {
			t.Fatalf("%s", text)
		}
		id := strconv.Itoa(uid)
		if uid == 0 {
			id = strconv.Itoa(appUID)
		}
		four := strings.Join([]string{id, id, id, id}, "\t")
		for _, want := range []string{
			"\nUid:\t" + four, "\nGid:\t" + four, "\nNoNewPrivs:\t1", "\nCapPrm:\t0000000000000000", "\nCapAmb:\t0000000000000000",
			"\nSigBlk:\t0000000000000000", "\nGroups:\t",
		} {
			if !strings.Contains(parts[0], want) {
				t.Errorf("want%s in\n%s", want, parts[0])
			}
		}
		if ignored := ignoredSignals(t, parts[0]); ignored != 0 {
			t.Errorf("ignores the signals of mask %x", ignored)
		}
		if !strings.HasPrefix(parts[0], "512\n0\n0077\n") {
			t.Errorf("soft limit of files, of core files, umask: %.30q", parts[0])
		}
		if uid == 0 && (!strings.Contains(parts[0], "\nCapBnd:\t0000000000000000") || !strings.Contains(parts[0], "\nGroups:\t"+id+" \n")) {
			t.Errorf("%s", parts[0])
		}
		checkEnvironment(t, parts[0], parts[1], uid)
		checkFiles3(t, parts[2])
		if strings.TrimSpace(parts[3]) != h.dir {
			t.Errorf("runs in %s", parts[3])
		}
		if left := h.processes(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// checkEnvironment looks at what env said.
func checkEnvironment(t *testing.T, facts, env string, uid int) {
	t.Helper()
	lines := strings.Split(env, "\n")
	_, pid, _ := strings.Cut(strings.Split(facts, "\n")[3], " ")
	want := []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=app", "LISTEN_PID=" + pid, "SHOP=open"}
	unwanted := []string{"NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "PORT"}
	if uid == 0 {
		want = append(want, "HOME=/", "SHELL=/bin/sh")
		unwanted = append(unwanted, "XDG_RUNTIME_DIR", "USER", "LOGNAME")
	}
	for _, entry := range want {
		if !slices.Contains(lines, entry) {
			t.Errorf("want %s in\n%s", entry, env)
		}
	}
	for _, line := range lines {
		if name, _, _ := strings.Cut(line, "="); slices.Contains(unwanted, name) {
			t.Errorf("is passed on: %s", line)
		}
	}
}

// checkFiles3 looks at what ls said: 3 is the socket, and there is none beyond
// but what the shell itself has opened.
func checkFiles3(t *testing.T, list string) {
	t.Helper()
	for _, want := range []string{" 0 -> /dev/null\n", " 1 -> pipe:", " 2 -> pipe:", " 3 -> socket:"} {
		if !strings.Contains(list, want) {
			t.Errorf("want %q in\n%s", want, list)
		}
	}
	if strings.Count(list, " -> ") != 4 {
		t.Errorf("more than four descriptors:\n%s", list)
	}
}

// TestServeApp shows the life of an app: started, told, and ended after the cores.
func TestServeApp(t *testing.T) {
	asBoth(t, func(t *testing.T, uid int) {
		h := buildApp(t, uid)
		h.start()
		started, ready := h.saysBoth("app started", "ready")
		if got := text(started, "command"); !strings.HasPrefix(got, "./sallyport-app 3 "+h.dir+"/") {
			t.Errorf("command %s", got)
		}
		h.address = strings.Trim(text(ready, "http"), "[]")
		if pid := h.tell("pid"); pid != text(started, "pid") || groupOf(t, number(t, pid)) != number(t, pid) {
			t.Errorf("pid %s, and %v was started", pid, started)
		}
		for _, s := range passedSignals() {
			h.signal(s)
			h.says("signal passed on")
			if got := h.tell("signal"); got != strconv.Itoa(int(s)) {
				t.Errorf("%v arrives as %s", s, got)
			}
		}
		guest := h.hold()
		h.signal(syscall.SIGTERM)
		if !until(time.Second, h.closed) {
			t.Error("listens on")
		}
		if h.tell("pid") == "" { // whom the guest may still need
			t.Error("no answer")
		}
		guest.Close()
		h.says("app: TERM")
		h.ends(exitFine)
		h.empty(0)
		if left, _ := filepath.Glob(h.dir + "/*/app.sock"); uid != 0 && len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestServeAgain shows that what a run has left is no obstacle to the next, for
// another user too.
func TestServeAgain(t *testing.T) {
	h := buildApp(t, 0)
	first := h.cmd
	for range 2 {
		h.startReady()
		h.signal(syscall.SIGKILL)
		h.empty(time.Second)
		<-h.ended
		h.cmd, h.ended = exec.Command(first.Path), make(chan struct{})
		h.cmd.Args, h.cmd.Dir, h.cmd.Env = first.Args, first.Dir, first.Env
	}
	h.startReady()
	if h.tell("pid") == "" {
		t.Error("no answer")
	}
}

// TestServeAppEnds shows that the service ends with its app, after what is in flight.
func TestServeAppEnds(t *testing.T) {
	for word, code := range map[string]int{"exit 0": 0, "exit 7": 7, "kill 9": 128 + 9, "kill 15": 128 + 15} {
		t.Run(word, func(t *testing.T) {
			h := buildApp(t, 0)
			h.startReady()
			guest := h.hold()
			h.tell(word)
			if said := h.says("service ending"); text(said, "code") != strconv.Itoa(code) {
				t.Errorf("%v", said)
			}
			if h.gone(100 * time.Millisecond) {
				t.Error("ended with a guest inside")
			}
			guest.Close()
			h.ends(code)
			h.empty(0)
		})
	}
}

// TestServeImpatient shows that nothing of an app outlives a second signal, the
// death of the main warden or that of its own.
func TestServeImpatient(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(h *house)
		code int
	}{
		"second signal": {func(h *house) {
			h.signal(syscall.SIGTERM)
			h.says("service ending")
			h.signal(syscall.SIGTERM)
		}, exitFine},
		"main warden killed":  {func(h *house) { h.signal(syscall.SIGKILL) }, -1},
		"app's warden killed": {func(h *house) { kill(h.t, h.one("app's warden"), syscall.SIGKILL) }, exitLost},
	} {
		t.Run(name, func(t *testing.T) {
			h := buildApp(t, 0)
			h.startReady()
			h.tell("deaf")
			child := number(t, h.tell("orphans 1"))
			c.end(h)
			h.ends(c.code)
			h.empty(time.Second)
			exe := fmt.Sprintf("/proc/%d/exe", child) // a zombie has none; whose it is, is not ours to say
			if !until(time.Second, func() bool { _, err := os.Readlink(exe); return err != nil }) {
				_ = unix.Kill(child, unix.SIGKILL)
				if name != "app's warden killed" { // who alone could
					t.Error("a child of the app is left")
				}
			}
		})
	}
}

// TestServeInit shows that orphans are reaped where sallyport is pid 1: a hundred,
// while the service runs.
func TestServeInit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: this needs root")
	}
	h := buildApp(t, 0)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	h.start()
	if ready := h.says("ready"); text(ready, "pid") != "1" {
		t.Fatalf("%v", ready)
	}
	h.tell("orphans 100")
	warden := h.one("app's warden")
	if !until(patience, func() bool { return children(warden) == 101 }) {
		t.Fatalf("the app's warden has %d children, want the app and 100", children(warden))
	}
	h.tell("release")
	if !until(patience, func() bool { return children(warden) == 1 }) {
		t.Errorf("the app's warden has %d children, want the app", children(warden))
	}
	h.signal(syscall.SIGTERM)
	h.says("app: TERM")
	h.ends(exitFine)
}

// TestServeRefuses shows what serve does not start.
func TestServeRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--", "./absent", "{fd}"}, "./absent: HERE/absent: uid 60612 cannot execute it: no such file or directory\nhint: ls -l HERE/absent\n"},
		{[]string{"--", "absent", "{fd}"}, "absent: absent: uid 60612 finds no such program\nhint: write its whole path"},
		{[]string{"--", "node", "server.js"}, "node server.js: is not told where to listen\nhint: write server.listen({ fd:"},
		{[]string{"--host", "*.example.com", "unix:/x"}, "--tls: cannot be obtained for *.example.com: a CA wants to see its DNS changed for that\nhint: write the names"},
	} {
		if c.args[0] == "--" {
			c.args = append([]string{"--user", strconv.Itoa(appUID)}, c.args...)
			if os.Geteuid() != 0 {
				continue
			}
		}
		h := buildServe(t, 0, c.args...)
		out, _ := h.cmd.CombinedOutput() // the exit code is in ProcessState
		if want := strings.ReplaceAll(c.want, "HERE", h.dir); !strings.Contains(string(out), want) || h.cmd.ProcessState.ExitCode() != exitMistake {
			t.Errorf("%v: %v, %s\nwant %s", c.args, h.cmd.ProcessState, out, want)
		}
	}
}

// appLife is the life of the app of these tests: one word a connection, until TERM.
//
//	pid        says its pid
//	signal     says the next signal that it got
//	deaf       takes no more notice of TERM
//	exit N     ends
//	kill N     dies
//	orphans N  starts processes that lose their parent, and says the last pid
//	release    lets them end
func appLife() int {
	listener := os.NewFile(3, os.Getenv("LISTEN_FDNAMES"))
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" || os.Args[1] != "3" {
		fmt.Fprintln(os.Stderr, "not my socket")
		return 1
	}
	door, err := net.FileListener(listener)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	a := newApp()
	for {
		client, err := door.Accept()
		if err != nil {
			return 1
		}
		buffer := make([]byte, 100)
		n, _ := client.Read(buffer) // nothing is no word
		word, argument, _ := strings.Cut(string(buffer[:n]), " ")
		count, _ := strconv.Atoi(argument) // 0 without
		_, _ = io.WriteString(client, a.obey(word, count))
		client.Close()
	}
}

// children counts the children of a process, with those that are not reaped yet.
func children(pid int) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/status") // the pattern is right
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), fmt.Sprintf("\nPPid:\t%d\n", pid)) {
			n++
		}
	}
	return n
}

// startOrphans starts processes in the session of the app whose parent ends at
// once, and that end with the pipe; it returns the last pid.
func startOrphans(count int, until *os.File) string {
	const script = `i=0; while [ $i -lt $0 ]; do (read x) <&3 >/dev/null 2>&1 & i=$((i+1)); done; echo $!`
	cmd := exec.Command("/bin/sh", "-c", script, strconv.Itoa(count))
	cmd.ExtraFiles = []*os.File{until}
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return ""
	}
	line, _ := bufio.NewReader(out).ReadString('\n') // "" is no pid
	_ = cmd.Wait()                                   // it says what it has to by the line
	return strings.TrimSpace(line)
}
