package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A notice is what a service manager was told, and by which process.
type notice struct {
	text string
	pid  int
}

// A manager is the socket of a service manager, sd_notify(3).
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// newManager listens as a service manager does.
func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	}
	if err == nil && !strings.HasPrefix(name, "@") {
		err = os.Chmod(name, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &manager{t, conn}
}

// next is the next notice.
func (m *manager) next() notice {
	m.t.Helper()
	text, control := make([]byte, 4096), make([]byte, 4096)
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	n, controls, _, _, err := m.conn.ReadMsgUnix(text, control)
	if err != nil {
		m.t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:controls])
	if err != nil || len(messages) != 1 {
		m.t.Fatalf("%d control messages, %v", len(messages), err)
	}
	who, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		m.t.Fatal(err)
	}
	return notice{string(text[:n]), int(who.Pid)}
}

// TestNotify shows what a service manager is told, by the process that it has started, and
// that nobody else knows of its socket.
func TestNotify(t *testing.T) {
	for _, abstract := range []bool{false, true} {
		t.Run(fmt.Sprint("abstract ", abstract), func(t *testing.T) {
			s := newScene(t)
			s.certificate("shop", p256(t), "shop.test")
			s.write("sallyport.toml", "control = \"control.sock\"\n"+six)
			name := s.path("notify")
			if abstract {
				name = "@" + strings.ReplaceAll(s.path("notify"), "/", "-")
			}
			m := newManager(t, name)
			h := s.begin(exec.Command("/bin/sh", "-c", "NOTIFY_SOCKET="+name+" exec "+bin("sallyport")+" run -c sallyport.toml"))
			pid := h.cmd.Process.Pid
			if got := m.next(); got != (notice{"READY=1", pid}) {
				t.Errorf("at the start: %+v", got)
			}
			for _, p := range ours() {
				environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
				if strings.Contains(string(environment), "NOTIFY_SOCKET") || err != nil && os.Getuid() == 0 {
					t.Errorf("%v: %q, %v", p, environment, err)
				}
			}
			var since int64
			if out, code := s.shell("sallyport reload -c sallyport.toml"); code != 0 {
				t.Errorf("exit code %d, %s", code, out)
			}
			began := m.next()
			n, err := fmt.Sscanf(began.text, "RELOADING=1\nMONOTONIC_USEC=%d", &since)
			if n != 1 || err != nil || since <= 0 || began.pid != pid {
				t.Errorf("reload: %+v", began)
			}
			if got := m.next(); got != (notice{"READY=1", pid}) {
				t.Errorf("after the reload: %+v", got)
			}
			if code := h.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if got := m.next(); got != (notice{"STOPPING=1", pid}) {
				t.Errorf("at the end: %+v", got)
			}
		})
	}
}

// TestNotifyAbsent shows that a service manager that is not there keeps nobody from serving.
func TestNotifyAbsent(t *testing.T) {
	s := newScene(t)
	s.write("sallyport.toml", fmt.Sprintf(plain, "127.0.0.1:0"))
	h := s.begin(exec.Command("/bin/sh", "-c", "NOTIFY_SOCKET="+s.path("nobody")+" exec "+bin("sallyport")+" run -c sallyport.toml"))
	h.wait(t, "service manager not told")
}
