package jail

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

// This file tests what Seal does, what becomes of orphans, and that nobody collects garbage in the door.

// TestSealRefuses shows that a program which did not come through the door does
// not run.
func TestSealRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		root bool
		attr *syscall.SysProcAttr
		want string
	}{
		{"root", true, nil, "jail: core: identity: uid is 0"},
		{"plain user without no_new_privs", false, plain(), "jail: core: no_new_privs: is not set"},
		{"capability", true, withCapability(), "jail: core: capabilities: a capability is left"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root {
				needRoot(t)
			}
			cmd := exec.Command("/proc/self/exe", "seal")
			cmd.SysProcAttr = c.attr
			out, err := cmd.CombinedOutput()
			if err == nil || string(out) != c.want {
				t.Errorf("%v: %q, want %q", err, out, c.want)
			}
		})
	}
}

func withCapability() *syscall.SysProcAttr {
	attr := plain()
	if attr != nil {
		attr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
	}
	return attr
}

// TestSeal shows what Seal does for a process that came through the door.
func TestSeal(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("SKIPPED, NOT TESTED: this needs setpriv of util-linux")
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("setpriv", "--no-new-privs", "/proc/self/fd/3", "seal")
	cmd.ExtraFiles = []*os.File{self}
	cmd.SysProcAttr = plain()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if r.Dumps != 0 || r.Limits["Max core file size"] != "0 0 bytes" {
		t.Errorf("dumpable %d, core files %q", r.Dumps, r.Limits["Max core file size"])
	}
}

// TestOrphan shows that a core does not outlive who started it, and that a
// warden does: the leash ends it.
func TestOrphan(t *testing.T) {
	needOff(t)
	for role, dies := range map[Role]bool{Core: true, Keeper: true, Warden: false} {
		t.Run(string(role), func(t *testing.T) {
			uid := os.Geteuid()
			if uid == 0 {
				uid = nobody
			}
			reader, parent := startParent(t, role, uid)
			var r report
			if err := json.NewDecoder(reader).Decode(&r); err != nil {
				t.Fatal(err)
			}
			if err := parent.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := reader.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(reader)
			if died := err == nil; died != dies {
				t.Errorf("died: %v, want %v (%q, %v)", died, dies, rest, err)
			}
			if err := unix.Kill(r.PID, unix.SIGKILL); err != nil && !dies {
				t.Error(err)
			}
		})
	}
}

// startParent starts a process whose child has become role, and returns the
// child's report.
func startParent(t *testing.T, role Role, uid int) (*os.File, *os.Process) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "parent", string(role), strconv.Itoa(uid))
	cmd.ExtraFiles = []*os.File{writer, exe}
	cmd.SysProcAttr = plain()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	exe.Close()
	t.Cleanup(func() { _ = cmd.Wait() }) // it was killed
	return reader, cmd.Process
}

// collecting is become where the runtime's own poller has the number of a gift, with a collector, which
// asks the poller, that comes as often as it may, and with arguments of which each copy has it come.
func collecting(role, uid, names string) error {
	gifts, err := sockets.TakeGifts(names)
	if err != nil {
		return err
	}
	for i := range gifts {
		moved, err := unix.FcntlInt(uintptr(gifts[i].FD), unix.F_DUPFD_CLOEXEC, 64)
		if err != nil {
			return err
		}
		unix.Close(gifts[i].FD)
		gifts[i].FD = moved
	}
	id, err := strconv.Atoi(uid)
	if err != nil {
		return err
	}
	p := Program{FD: gifts[1].FD, Argv: []string{"jail.test", "report", "report"}}
	for range 8 {
		p.Argv = append(p.Argv, strings.Repeat("x", 100_000))
	}
	time.AfterFunc(time.Hour, func() {}) // the poller is there since
	debug.SetGCPercent(1)
	return Become(Role(role), "full", conf.ID{UID: id, GID: id}, p, gifts[:1])
}

// TestBecomeWhileCollecting: the table of descriptors in the door is not the one that the runtime's poller
// is in, and the collector never asks it there: "epollwait on fd 6 failed with 22" was the end.
func TestBecomeWhileCollecting(t *testing.T) {
	needRoot(t)
	needOff(t)
	for range 12 { // it is a matter of chance, of about one in six
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		exe, err := os.OpenFile("/proc/self/exe", unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "collecting", string(Core), "60610", "report,program")
		cmd.ExtraFiles = []*os.File{writer, exe}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %.300s", err, out)
		}
		for _, file := range []*os.File{reader, writer, exe} {
			file.Close()
		}
	}
}
