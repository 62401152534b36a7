package upstream

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
)

func TestPick(t *testing.T) {
	a := appOf(t, conf.App{Sockets: []string{"a", "b", "c"}}, nil)
	var leases []*Lease
	take := func(want string) {
		t.Helper()
		l := a.lease(nil)
		if err := l.enter(); err != nil || l.Socket() != want {
			t.Errorf("%s, %v; want %s", l.Socket(), err, want)
		}
		leases = append(leases, l)
	}
	for _, want := range []string{"a", "b", "c", "a"} {
		take(want)
	}
	leases[1].Release()
	take("b")
	if err := leases[2].move(); err != nil || leases[2].Socket() == "c" {
		t.Errorf("%v, %s is where it failed", err, leases[2].Socket())
	}
	one := appOf(t, conf.App{Sockets: []string{"a"}}, nil)
	l := one.lease(nil)
	if err := errors.Join(l.enter(), l.move()); err != nil || l.Socket() != "a" || l.tries != 1 {
		t.Errorf("%v: an app of one member has no other", err)
	}
	l.Release()
}

// nothingToSend is the body of a request that has none.
type nothingToSend struct{}

func (nothingToSend) Next() ([]byte, error) { return nil, io.EOF }
func (nothingToSend) Ready() bool           { return true }

// TestFullBacklog: an app that accepts nobody is 503 after the limit, and its
// slots are given back.
func TestFullBacklog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "app")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: socket}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", socket) // a backlog of 0 holds one
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	a := appOf(t, conf.App{Name: "app", Sockets: []string{socket}, Retries: 1, Connect: 5 * time.Millisecond}, nil)
	lease, err := a.Send(&message.Request{Method: []byte("GET"), Target: []byte("/"), Host: []byte("a")}, nothingToSend{}, nil)
	var fault *Error
	if !errors.As(err, &fault) || fault.Status() != 503 || fault.Errno() != syscall.EAGAIN {
		t.Errorf("%v", err)
	}
	lease.Release()
	if n := a.queue.Stats().InFlight[0]; n != 0 {
		t.Errorf("%d in flight", n)
	}
}
