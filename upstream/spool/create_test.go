package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// child is the argument that makes this test binary run a part of a test in a
// process of its own: TestChild.
const child = "SPOOL_TEST_CHILD"

// again runs this test binary with a part and its folder.
func again(part, folder string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+part+":"+folder)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func TestChild(t *testing.T) {
	part, folder, _ := strings.Cut(os.Getenv(child), ":")
	switch part {
	case "full disk":
		fullDisk(t, folder)
	case "hold":
		hold(t, folder)
	default:
		t.Skip("is a part of other tests")
	}
}

func TestFolder(t *testing.T) {
	folder := t.TempDir()
	a := openIn(t, conf.Spool{Folder: folder, Bytes: 64 * mib, AppBytes: 64 * mib})
	s := a.App(0).Request()
	want := body(20*mib, 1)
	write(t, s, want)
	if r := resident(t, a.fd); r == 0 {
		t.Error("nothing is in the file")
	}
	if names, err := os.ReadDir(folder); err != nil || len(names) != 0 {
		t.Errorf("in the folder: %v %v", names, err)
	}
	link := fmt.Sprintf("/proc/self/fd/%d", a.fd)
	if err := unix.Linkat(unix.AT_FDCWD, link, unix.AT_FDCWD, filepath.Join(folder, "x"), unix.AT_SYMLINK_FOLLOW); err == nil {
		t.Error("the file was given a name")
	}
	s.CloseWrite(nil)
	if got, err := readAll(t, s); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	s.Close()
	if r := resident(t, a.fd); r > warmBytesMax {
		t.Errorf("%d bytes are left", r)
	}
}

func TestMemoryIsSealed(t *testing.T) {
	a := open(t, mib, mib)
	if err := unix.Ftruncate(a.fd, 2*mib); err != unix.EPERM {
		t.Errorf("grown: %v", err)
	}
	if n, err := unix.Pwrite(a.fd, []byte("x"), mib); err != unix.EPERM {
		t.Errorf("wrote %d behind the end: %v", n, err)
	}
	if _, err := Open(a.fd, conf.Spool{Bytes: 2 * mib}); err == nil {
		t.Error("a plan that is larger than its file")
	}
}

func TestOpenClears(t *testing.T) {
	plan := conf.Spool{Bytes: mib, AppBytes: mib}
	a := openIn(t, plan)
	if _, err := unix.Pwrite(a.fd, make([]byte, mib), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(a.fd, plan); err != nil || resident(t, a.fd) != 0 {
		t.Errorf("%v, %d bytes", err, resident(t, a.fd))
	}
}

func TestFolderErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		folder string
		want   []string
	}{
		{"/nowhere/spool", []string{"/nowhere/spool", "no such file", "mkdir -m 0700 /nowhere/spool"}},
		{file, []string{file, "not a directory", "name a folder"}},
		{"/proc", []string{"/proc", "ext4"}},
	} {
		fd, err := Create(conf.Spool{Folder: c.folder, Bytes: mib})
		if err == nil {
			unix.Close(fd)
			t.Errorf("%s: made", c.folder)
			continue
		}
		failed, _ := errors.AsType[*FolderError](err)
		for _, want := range c.want {
			if failed == nil || !strings.Contains(failed.Error()+failed.Hint(), want) {
				t.Errorf("%q is not in %q", want, err)
			}
		}
	}
}

// TestFullDisk has a tmpfs of less than a MiB, in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: a full disk needs root, to mount one")
	}
	cmd := again("full disk", t.TempDir())
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestChild") {
		t.Errorf("%v\n%s", err, out)
	}
}

// fullDisk: 250 pages are 15 blocks and 10 pages: the last write falls short first.
func fullDisk(t *testing.T, folder string) {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("spool", folder, "tmpfs", 0, "size=1000k"); err != nil {
		t.Fatal(err)
	}
	a := openIn(t, conf.Spool{Folder: folder, Bytes: 64 * mib, AppBytes: 64 * mib})
	s, other := a.App(0).Reply(), a.App(1).Request()
	write(t, other, make([]byte, 128*kib))
	want := body(4*mib, 1)
	n, err := s.Write(want)
	var failed *FolderError
	if !errors.Is(err, ErrFull) || !errors.As(err, &failed) || n != 64*kib+(1000-64)*kib {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for _, say := range []string{folder, "no space left", "make room in the folder"} {
		if !strings.Contains(failed.Error()+failed.Hint(), say) {
			t.Errorf("%q is not in %q", say, err)
		}
	}
	got := await(t, s)
	waits(t, "for the disk", got)
	other.Close() // its block is not kept warm now
	ended(t, "the disk has room", got)
	m, err := s.Write(want[n:])
	if m != 64*kib || !errors.Is(err, ErrFull) {
		t.Errorf("%d bytes more, %v", m, err)
	}
	s.CloseWrite(nil)
	if got, err := readAll(t, s); err != nil || !bytes.Equal(got, want[:n+m]) {
		t.Errorf("%d of %d bytes, %v", len(got), n+m, err)
	}
	s.Close()
	// What is warm is given back before a disk is called full.
	s, other = a.App(0).Request(), a.App(1).Request()
	write(t, s, make([]byte, 500*kib))
	write(t, other, make([]byte, 64*kib))
	s.Close()
	write(t, other, make([]byte, (1000-64)*kib))
	other.Close()
}

// TestKilled: the kernel frees a file without a name with the last of its holders.
func TestKilled(t *testing.T) {
	folder := t.TempDir()
	cmd := again("hold", folder)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4096)
	for all := ""; !strings.Contains(all, "spooled"); {
		n, err := out.Read(said)
		if err != nil {
			t.Fatal(all, err)
		}
		all += string(said[:n])
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was not killed")
	}
	if names, err := os.ReadDir(folder); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v %v", names, err)
	}
}

// hold spools 50 requests and waits to be killed.
func hold(t *testing.T, folder string) {
	a := openIn(t, conf.Spool{Folder: folder, Bytes: 64 * mib, AppBytes: 64 * mib})
	for range 50 {
		write(t, a.App(0).Request(), make([]byte, 500*kib))
	}
	fmt.Println("spooled")
	<-time.After(time.Minute) // its parent kills it long before
}

// broken puts another file in the place of an arena's.
func broken(t *testing.T, a *Arena, name string, flags int) {
	t.Helper()
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Dup3(fd, a.fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// TestDiskErrors has errors of the kernel's own: memory that is not mapped is EIO
// in /proc/self/mem, /dev/full is what its name says, /dev/null has no bytes.
func TestDiskErrors(t *testing.T) {
	for _, c := range []struct {
		file        string
		write, read error
		full        bool
	}{
		{"/proc/self/mem", unix.EIO, unix.EIO, false},
		{"/dev/full", unix.ENOSPC, nil, true},
		{"/dev/null", nil, errors.New("unexpected EOF"), false},
	} {
		a := open(t, mib, mib)
		s, after := a.App(0).Reply(), a.App(1).Reply()
		write(t, s, make([]byte, 100*kib))
		broken(t, a, c.file, unix.O_RDWR)
		_, err := after.Write(make([]byte, 100*kib))
		if c.write == nil != (err == nil) || c.write != nil && !errors.Is(err, c.write) || errors.Is(err, ErrFull) != c.full {
			t.Errorf("%s: write: %v", c.file, err)
		}
		if _, err := s.Next(); err != nil { // from memory
			t.Error(err)
		}
		_, err = s.Next()
		if (c.read == nil) != (err == nil) || err != nil && !strings.HasSuffix(err.Error(), c.read.Error()) {
			t.Errorf("%s: read: %v", c.file, err)
		}
		s.Close()
		after.Close()
	}
}

// TestLost: blocks that were sent and cannot be punched are never written again.
func TestLost(t *testing.T) {
	a := open(t, mib, mib)
	s := a.App(0).Reply()
	write(t, s, make([]byte, 100*kib))
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	if _, _, _, ok := s.Range(); !ok {
		t.Fatal("no range")
	}
	broken(t, a, "/dev/null", unix.O_RDWR)
	s.Close()
	if st := a.Stats(); st.Lost != blockBytes || st.Used != blockBytes || st.Apps[0].Stored != 0 || !a.blocks.isUsed(0) {
		t.Errorf("%+v", st)
	}
	a.used, a.lost = 0, 0 // for the check at the end
}
