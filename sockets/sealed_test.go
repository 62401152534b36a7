package sockets

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSeal(t *testing.T) {
	content := bytes.Repeat([]byte("plan"), 10_000)
	fd, err := Seal("test", content)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 2 { // a successor reads the same
		got, err := ReadSealed(fd)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v", err)
	}
	if err := unix.Ftruncate(fd, 1); !errors.Is(err, unix.EPERM) {
		t.Errorf("shrink: %v", err)
	}
	if err := unix.Ftruncate(fd, 1<<20); !errors.Is(err, unix.EPERM) {
		t.Errorf("grow: %v", err)
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags != unix.FD_CLOEXEC {
		t.Errorf("flags %d", flags)
	}
}

func TestSealLimit(t *testing.T) {
	fd, err := Seal("test", make([]byte, sealedBytesMax))
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, err := Seal("test", make([]byte, sealedBytesMax+1)); err == nil {
		t.Error("one byte too many is sealed")
	}
}

func TestReadSealedRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64
		seal int
		want string
	}{
		{"not sealed", 10, 0, "is not sealed"},
		{"still writable", 10, allSeals &^ unix.F_SEAL_WRITE, "is not sealed"},
		{"still growing", 10, allSeals &^ unix.F_SEAL_GROW, "is not sealed"},
		{"oversized", sealedBytesMax + 1, allSeals, "are more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd, err := Sealable("test")
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.Ftruncate(fd, c.size); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, c.seal); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadSealed(fd); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer CloseAll(pipe[:])
	if _, err := ReadSealed(pipe[0]); err == nil {
		t.Error("a pipe was read")
	}
}
