package jail

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestErrand has a child open files for its parent, up to a call that fails.
func TestErrand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var e Errand
	e.Write(path, "written")
	e.Open(path, unix.O_RDONLY)
	e.Open(path+"/none", unix.O_RDONLY)
	e.Write(path, "never")
	opened, err := e.Run(0)
	failed, is := errors.AsType[*ErrandError](err)
	if !is || failed.Index != 3 || failed.Errno != unix.ENOTDIR || failed.What != "open "+path+"/none" {
		t.Fatalf("%v, %+v", err, failed)
	}
	if len(opened) != 2 {
		t.Fatalf("opened %v", opened)
	}
	text := make([]byte, 16)
	n, err := unix.Read(opened[1], text)
	if err != nil || string(text[:n]) != "written" {
		t.Errorf("%q, %v", text[:n], err)
	}
	for _, fd := range opened {
		if err := unix.Close(fd); err != nil {
			t.Errorf("%d: %v", fd, err)
		}
	}
}

// TestErrandInNamespaces has a child mount what its parent does not see.
func TestErrandInNamespaces(t *testing.T) {
	dir := t.TempDir()
	var e Errand
	e.Do("mount", unix.SYS_MOUNT, e.Text("tmpfs"), e.Text(dir), e.Text("tmpfs"), 0, 0)
	e.Open(dir, unix.O_PATH|unix.O_DIRECTORY)
	opened, err := e.Run(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)
	if failed, is := errors.AsType[*ErrandError](err); is && failed.Index < 0 {
		t.Skip("SKIPPED, NOT TESTED: this machine lets nobody make namespaces: ", err)
	}
	if err != nil || len(opened) != 1 {
		t.Fatalf("%v, %v", opened, err)
	}
	defer unix.Close(opened[0])
	var inside, outside unix.Stat_t
	if err := errors.Join(unix.Fstat(opened[0], &inside), unix.Stat(dir, &outside)); err != nil {
		t.Fatal(err)
	}
	if inside.Dev == outside.Dev {
		t.Error("what the child has mounted is nowhere, or here too")
	}
}

// TestErrands makes many while the runtime is busy: a child that asked it for anything
// would hang.
func TestErrands(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for range 4 {
		go busy(stop)
	}
	for range 200 {
		var e Errand
		e.Do("getpid", unix.SYS_GETPID)
		if _, err := e.Run(0); err != nil {
			t.Fatal(err)
		}
	}
}

func busy(stop <-chan struct{}) {
	var kept []byte
	for {
		select {
		case <-stop:
			return
		default:
			kept = append(kept[:0:0], make([]byte, 1<<16)...)
		}
	}
}
