package main

import (
	"errors"
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

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

func listenTCP(t *testing.T) (*os.File, string) {
	t.Helper()
	l := bound(t, "127.0.0.1:0")
	file := os.NewFile(uintptr(l.FD), l.Address)
	t.Cleanup(func() { file.Close() })
	return file, l.Address
}

// TestStop shows that stop drains as TERM does, and comes back when all is over.
func TestStop(t *testing.T) {
	h := build(t, settings{key: "good"})
	h.startReady()
	guest := h.hold()
	if info, err := os.Stat(h.control); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	stopped := make(chan error, 2)
	for range cap(stopped) {
		go func() { stopped <- stop(h.control, stay) }()
	}
	h.says("service ending")
	select {
	case err := <-stopped:
		t.Errorf("came back with a guest inside: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	guest.Close()
	for range cap(stopped) {
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
	h.empty(0)
	h.ends(exitFine)
	if err := stop(h.control, stay); stopHint(err) == "" {
		t.Errorf("nobody is there: %v", err)
	}
}

// hearing runs a control socket for a test, open to everybody.
func hearing(t *testing.T, starter int) (path string, orders chan order) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "control.sock")
	fd, err := sockets.BindPath(path, unix.SOCK_SEQPACKET, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := pollable(fd, "control")
	if err != nil {
		t.Fatal(err)
	}
	orders = make(chan order, 1)
	c := &control{socket: socket, starter: starter, log: slog.New(slog.DiscardHandler)}
	ended := make(chan struct{})
	go func() { c.loop(orders); close(ended) }()
	t.Cleanup(func() { socket.Close(); <-ended })
	return path, orders
}

// call connects to a control socket and says something.
func call(t *testing.T, path, message string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if message == "" {
		return conn
	}
	// Who is refused unheard may see it here; all see it when they read.
	if _, err := io.WriteString(conn, message); err != nil && !errors.Is(err, unix.EPIPE) {
		t.Fatal(err)
	}
	return conn
}

// given waits for an order.
func given(t *testing.T, orders chan order) {
	t.Helper()
	select {
	case got := <-orders:
		if got != orderStop {
			t.Errorf("%q", got)
		}
	case <-time.After(patience):
		t.Fatal("no order")
	}
}

// TestControlRefuses shows that nonsense and silence do not keep others from
// being heard.
func TestControlRefuses(t *testing.T) {
	path, orders := hearing(t, os.Getuid())
	for _, message := range []string{"go", "stop now", strings.Repeat("stop", 100)} {
		if n, err := call(t, path, message).Read(make([]byte, 10)); err == nil {
			t.Errorf("%q is answered with %d bytes", message, n)
		}
	}
	call(t, path, "")
	call(t, path, "stop")
	given(t, orders)
}

// TestControlCallers shows that those who wait are not without number.
func TestControlCallers(t *testing.T) {
	path, orders := hearing(t, os.Getuid())
	answer := make([]byte, 10)
	for range callersMax {
		conn := call(t, path, "stop")
		if n, err := conn.Read(answer); string(answer[:n]) != "stop" || err != nil {
			t.Fatalf("%q, %v", answer[:n], err)
		}
		given(t, orders)
	}
	if n, err := call(t, path, "stop").Read(answer); err == nil {
		t.Errorf("one more is answered: %q", answer[:n])
	}
}

// TestControlCallersLeave shows that who has left makes room.
func TestControlCallersLeave(t *testing.T) {
	path, orders := hearing(t, os.Getuid())
	answer := make([]byte, 10)
	for range callersMax + 1 {
		conn := call(t, path, "stop")
		if n, err := conn.Read(answer); string(answer[:n]) != "stop" || err != nil {
			t.Fatalf("%q, %v", answer[:n], err)
		}
		given(t, orders)
		conn.Close()
	}
}

// TestControlSilence shows what a caller reads of who does not answer.
func TestControlSilence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	deaf, err := sockets.BindPath(path, unix.SOCK_SEQPACKET, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(deaf)
	fd, err := callControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if limit, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO); err != nil || limit.Nano() != answerTime.Nanoseconds() {
		t.Errorf("waits %v, %v", limit, err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 1000}); err != nil {
		t.Fatal(err)
	}
	_, _, err = ask(fd, orderStop, make([]byte, 10))
	if pid := strconv.Itoa(os.Getpid()); err == nil || !strings.Contains(err.Error(), "no answer from process "+pid) || !strings.Contains(stopHint(err), "kill -KILL "+pid) {
		t.Errorf("%v, %s", err, stopHint(err))
	}
	if hint := stopHint(&silence{pid: 7, state: "T"}); hint != "it is stopped: kill -CONT 7" {
		t.Errorf("%s", hint)
	}
}

// TestMomentary shows after which failures the control socket is heard again.
func TestMomentary(t *testing.T) {
	for err, want := range map[error]bool{unix.EMFILE: true, unix.ECONNABORTED: true, unix.EBADF: false, nil: false} {
		if got := momentary(errors.Join(nil, err)); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// TestControlRefusesOthers shows that who may connect may still not give orders.
func TestControlRefusesOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: this needs root")
	}
	path, orders := hearing(t, 65533)
	own(t, filepath.Dir(path), 65533)
	for uid, code := range map[uint32]int{65534: exitMistake, 0: exitFine, 65533: exitFine} {
		stop := exec.Command("/proc/self/exe", "stop", "--control", path)
		stop.Args[0] = "sallyport"
		stop.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out := new(strings.Builder)
		stop.Stderr = out
		if err := stop.Start(); err != nil {
			t.Fatal(err)
		}
		if code == exitFine {
			given(t, orders)
			_ = stop.Process.Kill() // it waits for the end of this test
		}
		err := stop.Wait()
		if code != exitFine && (stop.ProcessState.ExitCode() != code || !strings.Contains(out.String(), "refused")) {
			t.Errorf("uid %d: %v: %s", uid, err, out)
		}
	}
	if len(orders) > 0 {
		t.Error("an order of a stranger")
	}
}

func FuzzParseOrder(f *testing.F) {
	f.Add([]byte("stop"))
	f.Add([]byte("stop\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, known := range [][]order{controlOrders(), leashOrders()} {
			o, err := parseOrder(message, known)
			if err == nil && (string(o) != string(message) || !slices.Contains(known, o)) {
				t.Errorf("%q was read as %q", message, o)
			}
		}
	})
}

// stay is for callers that are this process, which goes on.
func stay() error { return nil }
