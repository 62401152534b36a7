package loop

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRawAccept has a client of each family say which address it has.
func TestRawAccept(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				t.Skip("no such family here:", err)
			}
			defer listener.Close()
			file, err := listener.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			number := int(file.Fd())
			if err := unix.SetNonblock(number, true); err != nil { // Fd undoes it
				t.Fatal(err)
			}
			if fd, _, err := rawAccept(number); err != unix.EAGAIN {
				t.Fatalf("accept with nobody there: %d, %v; want EAGAIN", fd, err)
			}
			client, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			fd, from, err := rawAccept(number)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := addrOf(from, nil).String(), client.LocalAddr().String(); got != want {
				t.Errorf("client is %s, want %s", got, want)
			}
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("flags %#x, %v: not non-blocking", flags, err)
			}
			if errno := rawClose(fd); errno != 0 {
				t.Error(errno)
			}
			if errno := rawClose(fd); errno != unix.EBADF {
				t.Errorf("second close: %v, want EBADF", errno)
			}
		})
	}
}

// TestRawConnect compares with what x/sys says of the same path.
func TestRawConnect(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	listener, err := net.Listen("unix", there)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	long := "/" + strings.Repeat("x", 106)
	for _, path := range []string{there, filepath.Join(dir, "gone"), dir, long, long + "x", long + strings.Repeat("x", 100)} {
		_, want := connecting(t, func(fd int) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
		flags, got := connecting(t, func(fd int) error { return rawConnect(fd, path) })
		if got != want {
			t.Errorf("connect to %d bytes %.60s: %v, want %v", len(path), path, got, want)
		}
		if flags&unix.O_NONBLOCK == 0 {
			t.Errorf("flags %#x: not non-blocking", flags)
		}
	}
}

// connecting tries with a socket of its own, and returns the socket's flags too.
func connecting(t *testing.T, connect func(fd int) error) (flags int, err error) {
	t.Helper()
	fd, failed := rawStream()
	if failed != nil {
		t.Fatal(failed)
	}
	defer rawClose(fd)
	flags, failed = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if failed != nil {
		t.Fatal(failed)
	}
	return flags, connect(fd)
}
