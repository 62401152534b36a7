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
	"sallyport/proxy/h1"
	"sallyport/proxy/message"
)

func TestPick(t *testing.T) {
	a := newApp(conf.App{Sockets: []string{"a", "b", "c"}}, nil, new(h1.Buffers))
	var leases []*Lease
	for _, want := range []string{"a", "b", "c", "a"} {
		leases = append(leases, a.lease())
		if got := leases[len(leases)-1].Socket(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	leases[1].Release()
	if m := a.pick(nil); m.Socket != "b" {
		t.Errorf("the least busy is b, not %s", m.Socket)
	}
	if m := a.pick(a.members[1]); m.Socket != "c" {
		t.Errorf("the least busy but b is c, not %s", m.Socket)
	}
	one := newApp(conf.App{Sockets: []string{"a"}}, nil, new(h1.Buffers))
	if m := one.pick(one.members[0]); m.Socket != "a" {
		t.Error("an app of one member has no other")
	}
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
	a := newApp(conf.App{Name: "app", Sockets: []string{socket}, Retries: 1, Connect: 5 * time.Millisecond}, nil, new(h1.Buffers))
	lease, err := a.Send(&message.Request{Method: []byte("GET"), Target: []byte("/"), Host: []byte("a")}, nothingToSend{})
	var fault *Error
	if !errors.As(err, &fault) || fault.Status() != 503 || fault.Errno() != syscall.EAGAIN {
		t.Errorf("%v", err)
	}
	lease.Release()
	if n := a.members[0].inFlight.Load(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}
