package sockets

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is a uid and gid that owns nothing here.
const stranger = 61234

// walkAs walks as a stranger, on a thread that ends with it.
func walkAs(t *testing.T, path string) *Obstacle {
	t.Helper()
	found := make(chan *Obstacle)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread keeps the identity
		_, _, groups := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		_, _, gid := unix.RawSyscall(unix.SYS_SETRESGID, stranger, stranger, stranger)
		_, _, uid := unix.RawSyscall(unix.SYS_SETRESUID, stranger, stranger, stranger)
		if groups != 0 || gid != 0 || uid != 0 {
			failed <- errors.New("identity not taken")
			found <- nil
			return
		}
		found <- Walk(path)
	}()
	o := <-found
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	return o
}

// A layout is a way to a socket that is broken in one place.
type layout struct {
	name  string
	build func(t *testing.T, dir string) (path string) // dir is open to all
	what  string                                       // of the obstacle
	at    string                                       // the component, below dir
	errno unix.Errno
	mend  func(t *testing.T, dir string) // instead of running the fix, where that is a sentence
}

func layouts() []layout {
	return []layout{
		{"folder without x", func(t *testing.T, dir string) string {
			listenTo(t, folder(t, dir, 0o700)+"/web.sock", 0o666)
			return dir + "/shop/web.sock"
		}, "may not enter this folder", "shop", unix.EACCES, nil},
		{"socket without w", func(t *testing.T, dir string) string {
			listenTo(t, folder(t, dir, 0o755)+"/web.sock", 0o755)
			return dir + "/shop/web.sock"
		}, "may not write to this socket", "shop/web.sock", unix.EACCES, nil},
		{"another group", func(t *testing.T, dir string) string {
			listenTo(t, folder(t, dir, 0o750)+"/web.sock", 0o666)
			return dir + "/shop/web.sock"
		}, "may not enter this folder", "shop", unix.EACCES, nil},
		{"another owner", func(t *testing.T, dir string) string {
			listenTo(t, folder(t, dir, 0o755)+"/web.sock", 0o600)
			must(t, os.Chown(dir+"/shop/web.sock", stranger+1, stranger+1))
			return dir + "/shop/web.sock"
		}, "may not write to this socket", "shop/web.sock", unix.EACCES, nil},
		{"link to nothing", func(t *testing.T, dir string) string {
			must(t, os.Symlink("old", dir+"/shop"))
			return dir + "/shop/web.sock"
		}, "there is no such folder", "old", unix.ENOENT, func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/old", 0o755))
			must(t, os.Chmod(dir+"/old", 0o755))
			listenTo(t, dir+"/old/web.sock", 0o666)
		}},
		{"nobody listens", func(t *testing.T, dir string) string {
			l := listenTo(t, folder(t, dir, 0o755)+"/web.sock", 0o666)
			l.SetUnlinkOnClose(false)
			must(t, l.Close())
			return dir + "/shop/web.sock"
		}, "nobody listens", "shop/web.sock", unix.ECONNREFUSED, func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/shop/web.sock"))
			listenTo(t, dir+"/shop/web.sock", 0o666)
		}},
		{"another name", func(t *testing.T, dir string) string {
			listenTo(t, folder(t, dir, 0o755)+"/wep.sock", 0o666)
			return dir + "/shop/web.sock"
		}, "there is no such socket", "shop/web.sock", unix.ENOENT, func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/shop/wep.sock", dir+"/shop/web.sock"))
		}},
	}
}

func folder(t *testing.T, dir string, mode os.FileMode) string {
	t.Helper()
	must(t, os.Mkdir(dir+"/shop", 0o700))
	must(t, os.Chmod(dir+"/shop", mode))
	return dir + "/shop"
}

func listenTo(t *testing.T, path string, mode os.FileMode) *net.UnixListener {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	must(t, os.Chmod(path, mode))
	return l.(*net.UnixListener)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openTemp is a folder that everybody may enter, unlike those of t.TempDir.
func openTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "walk")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// Each broken layout is named, and its fix makes the way free.
func TestWalk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: walking as another user takes root")
	}
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			dir := openTemp(t)
			path := l.build(t, dir)
			o := walkAs(t, path)
			if o == nil {
				t.Fatal("the way is free")
			}
			if o.Errno != l.errno || !strings.Contains(o.What, l.what) || o.Path != filepath.Join(dir, l.at) {
				t.Errorf("got %v", o)
			}
			if l.mend != nil {
				l.mend(t, dir)
			} else if out, err := exec.Command("sh", "-c", o.Fix).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", o.Fix, err, out)
			}
			if o := walkAs(t, path); o != nil {
				t.Errorf("mended, and still: %v", o)
			}
		})
	}
}

func TestWalkNamesOthers(t *testing.T) {
	dir := openTemp(t)
	listenTo(t, dir+"/wep.sock", 0o666)
	if o := Walk(dir + "/web.sock"); o == nil || !strings.Contains(o.Fix, dir+"/wep.sock") {
		t.Errorf("got %v", o)
	}
}

func TestWalkPrivateTmp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root makes private folders for units")
	}
	private := fmt.Sprintf("/tmp/systemd-private-0123456789abcdef-shop.service-%d", os.Getpid())
	must(t, os.MkdirAll(private+"/tmp", 0o700))
	t.Cleanup(func() { os.RemoveAll(private) })
	name := fmt.Sprintf("web%d.sock", os.Getpid())
	listenTo(t, private+"/tmp/"+name, 0o666)
	o := Walk("/tmp/" + name)
	if o == nil || o.What != "is in the private /tmp of shop.service" || !strings.Contains(o.Fix, "/run/shop ") {
		t.Errorf("got %v, %v", o, o.Fix)
	}
}

func TestWalkOddThings(t *testing.T) {
	dir := openTemp(t)
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	must(t, os.Symlink("b", dir+"/a"))
	must(t, os.Symlink("a", dir+"/b"))
	listenTo(t, dir+"/web.sock", 0o666)
	must(t, os.Symlink("web.sock", dir+"/good"))
	for path, errno := range map[string]unix.Errno{
		"/file":       unix.ENOTSOCK,
		"/file/below": unix.ENOTDIR,
		"/a":          unix.ELOOP,
		"/no/such":    unix.ENOENT,
	} {
		if o := Walk(dir + path); o == nil || !errors.Is(o, errno) {
			t.Errorf("%s: got %v, want %v", path, o, errno)
		}
	}
	for _, path := range []string{"/web.sock", "/good", "/../" + filepath.Base(dir) + "/./web.sock"} {
		if o := Walk(dir + path); o != nil {
			t.Errorf("%s: %v", path, o)
		}
	}
}
