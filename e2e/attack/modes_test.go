package attack

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A mode is a way of starting sallyport that is not root's: core and keeper are one user, and
// what takes privilege to give away is still there, or was taken by others.
type mode struct {
	name   string
	starts func(*exec.Cmd)
}

// modes are the columns of TestModes. What is known to succeed is said in SECURITY.md.
func modes() []mode {
	user := func() *syscall.SysProcAttr {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: coreUID, Gid: coreUID}}
	}
	return []mode{
		{"plain user", func(cmd *exec.Cmd) { cmd.SysProcAttr = user() }},
		{"ambient capability", func(cmd *exec.Cmd) {
			cmd.SysProcAttr = user()
			cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
		}},
		// As in a container: without any capability, with no_new_privs from the outside, and
		// with namespaces of its own but for those where the targets are.
		{"container", func(cmd *exec.Cmd) {
			id := strconv.Itoa(coreUID)
			cmd.Args = slices.Concat([]string{
				"unshare", "--mount", "--ipc", "--uts", "--cgroup", "setpriv", "--reuid", id, "--regid", id, "--clear-groups",
				"--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs", "--", cmd.Path,
			}, cmd.Args[1:])
			cmd.Path = "/usr/bin/unshare"
		}},
	}
}

// TestModes has every attempt made against the whole jail, started in each mode.
func TestModes(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIPPED, NOT TESTED: the attempts are written for amd64")
	}
	bin := nameless().make(t)
	must(t, os.Chmod(filepath.Dir(bin), 0o755)) // root is not who executes it
	names := list(t, bin)
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) {
			p := newPlace(t)
			must(t, os.Chown(p.Key, coreUID, coreUID)) // who is the keeper too
			p.starts = m.starts
			found := p.tryAll(t, nameless(), bin, names)
			counted, closed := 0, closedByDialer()
			for _, name := range names {
				_, always := known()[name]
				always = always && !slices.Contains(closed, name)
				switch succeeds := found[name] == open; {
				case succeeds && !always:
					t.Errorf("%s: succeeds", name)
				case !succeeds && always:
					t.Errorf("%s: is known to succeed, and does not: %s", name, found[name])
				case succeeds:
					counted++
				}
			}
			t.Logf("%d attempts, %d succeed, all of them known", len(names), counted)
		})
	}
}
