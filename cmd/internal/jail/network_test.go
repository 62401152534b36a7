package jail

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// attempts is a process behind the whole door that tries what it may and what it may not,
// and reports the errno of each. The program of the gift "role" says who it is.
func attempts(names string) error {
	gifts, err := sockets.TakeGifts(names)
	if err != nil {
		return err
	}
	state, err := gifts.FD("state")
	if err != nil {
		return err
	}
	report, err := gifts.FD("report")
	if err != nil {
		return err
	}
	role := Keeper
	if _, err := gifts.FD("registrar"); err == nil {
		role = Registrar
	}
	if err := errors.Join(Seal(role), Confine(role, sockets.Gift{Name: "state", FD: state})); err != nil {
		return err
	}
	file := os.NewFile(uintptr(report), "report")
	return json.NewEncoder(file).Encode(tries(state))
}

// tries are what is tried, by name; 0 is success.
func tries(state int) map[string]int {
	result := map[string]int{}
	note := func(name string, err error) {
		var errno unix.Errno
		errors.As(err, &errno)
		result[name] = int(errno)
	}
	open := func(name, path string, flags int) {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		note(name, err)
		unix.Close(fd)
	}
	socket := func(name string, family, kind, protocol int) int {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		note(name, err)
		return fd
	}
	tcp := socket("TCP", unix.AF_INET, unix.SOCK_STREAM, 0)
	socket("UDP", unix.AF_INET, unix.SOCK_DGRAM, 0)
	socket("raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	socket("netlink", unix.AF_NETLINK, unix.SOCK_RAW, 0)
	socket("local", unix.AF_UNIX, unix.SOCK_STREAM, 0)
	socket("MPTCP", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	note("bind", unix.Bind(tcp, loopback))
	note("listen", unix.Listen(tcp, 1))
	loopback.Port = 1
	note("connect", unix.Connect(tcp, loopback))
	open("hosts", "/etc/hosts", unix.O_RDONLY)
	open("write to /etc", "/etc/sallyport-test", unix.O_WRONLY|unix.O_CREAT)
	open("proc", "/proc/self/status", unix.O_RDONLY)
	open("tmp", "/tmp", unix.O_RDONLY|unix.O_DIRECTORY)
	fd, err := unix.Openat(state, "a", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	note("file in the folder", err)
	unix.Close(fd)
	note("rename", unix.Renameat(state, "a", state, "b"))
	note("link out", unix.Linkat(state, "b", unix.AT_FDCWD, "/tmp/sallyport-test", 0))
	note("rename out", unix.Renameat(state, "b", unix.AT_FDCWD, "/tmp/sallyport-test"))
	note("folder", unix.Mkdirat(state, "c", 0o700))
	note("symlink", unix.Symlinkat("/etc/shadow", state, "d"))
	note("remove", unix.Unlinkat(state, "b", 0))
	note("kill", unix.Kill(1, 0))
	return result
}

// A registrar connects and never listens, reads what resolves names, and writes in its folder
// alone; a keeper with a folder has that, and no socket at all.
func TestNetworkAndFolder(t *testing.T) {
	needRoot(t)
	if Off() {
		t.Skip("SKIPPED, NOT TESTED: this build has no filters: run this without -race")
	}
	fine, refused := 0, int(unix.EPERM)
	common := map[string]int{
		"raw": refused, "netlink": refused, "MPTCP": refused, "listen": refused,
		"write to /etc": int(unix.EACCES), "proc": int(unix.EACCES), "tmp": int(unix.EACCES),
		"file in the folder": fine, "rename": fine, "remove": fine, "link out": refused, "folder": refused, "symlink": refused, "kill": refused,
		"local": refused,
	}
	for role, particular := range map[Role]map[string]int{
		Registrar: {
			"TCP": fine, "UDP": fine, "bind": int(unix.EADDRINUSE), "connect": int(unix.ECONNREFUSED), "hosts": fine,
		},
		Keeper: {"TCP": refused, "UDP": refused, "bind": refused, "connect": refused, "hosts": int(unix.EACCES)},
	} {
		t.Run(string(role), func(t *testing.T) {
			got := attempted(t, role)
			for _, wanted := range []map[string]int{common, particular} {
				for name, want := range wanted {
					if got[name] != want {
						t.Errorf("%s: %v, want %v", name, unix.Errno(got[name]), unix.Errno(want))
					}
				}
			}
			if got["rename out"] == fine {
				t.Error("a file left the folder")
			}
		})
	}
}

// attempted runs attempts in a role.
func attempted(t *testing.T, role Role) map[string]int {
	t.Helper()
	const uid = 60611
	folder := t.TempDir()
	for _, err := range []error{os.Chmod(filepath.Dir(folder), 0o755), os.Chown(folder, uid, uid)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	state, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	exe, err := os.OpenFile("/proc/self/exe", unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	cmd := exec.Command("/proc/self/exe", "become", string(role), strconv.Itoa(uid), "report,state,"+string(role)+",program", "attempts")
	cmd.ExtraFiles = []*os.File{writer, state, state, exe}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var got map[string]int
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return got
}
