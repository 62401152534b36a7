package loop

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A Conn that could not be adopted has no descriptor: its number may be somebody else's.
func TestRefusedConnHasNoNumber(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := filepath.Join(t.TempDir(), "file") // epoll takes none: EPERM, epoll_ctl(2)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var c Conn
	if err := l.Adopt(&c, fd); !errors.Is(err, unix.EPERM) {
		t.Fatalf("adopted a file: %v", err)
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed number %d once more: %v", fd, err)
	}
}

// A descriptor that cannot be listened on is not kept, nor is its number.
func TestRefusedListenerIsForgotten(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Listen(fd, nil, nil); !errors.Is(err, unix.EPERM) {
		t.Fatalf("listens on a folder: %v", err)
	}
	if n := len(l.listening()); n != 0 {
		t.Errorf("%d listeners are kept", n)
	}
	if err := unix.Close(fd); !errors.Is(err, unix.EBADF) {
		t.Errorf("descriptor left open: %v", err)
	}
}
