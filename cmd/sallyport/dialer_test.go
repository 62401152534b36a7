package main

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// A caller is a core's end of a link to a dialer.
type caller struct {
	t      *testing.T
	link   int
	buffer []byte
}

// callDialer starts the loop of one link, which ends with the test at the latest.
func callDialer(t *testing.T, said *bytes.Buffer, targets ...dialTarget) (*caller, <-chan struct{}) {
	t.Helper()
	core, theirs, err := sockets.Link()
	must(t, err)
	link, err := pollable(theirs, "link")
	must(t, err)
	d := &dialer{log: slog.New(slog.NewJSONHandler(said, nil))}
	d.links.Add(1)
	ended := make(chan struct{})
	go func() { d.linkLoop(link, targets); close(ended) }()
	c := &caller{t, core, make([]byte, sockets.DialBytes)}
	t.Cleanup(func() { unix.Close(core); <-ended })
	if answer, _ := c.answer(); answer.Tag != sockets.TagHello {
		t.Errorf("begins with %+v", answer)
	}
	return c, ended
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *caller) answer() (sockets.Dialed, []int) {
	c.t.Helper()
	n, descriptors, err := sockets.Receive(c.link, c.buffer)
	must(c.t, err)
	answer, err := sockets.ParseDialed(c.buffer[:n])
	must(c.t, err)
	return answer, descriptors
}

func (c *caller) ask(tag, member uint32) (sockets.Dialed, []int) {
	c.t.Helper()
	must(c.t, sockets.Send(c.link, sockets.Dial{Tag: tag, Member: member}.Append(nil)))
	return c.answer()
}

// dialedPlaces are sockets of each kind, and what comes of a connect.
func dialedPlaces(t *testing.T) (listener net.Listener, targets []dialTarget, errnos []unix.Errno) {
	t.Helper()
	base, err := os.MkdirTemp("", "s")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	listener, err = net.Listen("unix", base+"/live.sock")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	dead, err := net.Listen("unix", base+"/dead.sock")
	must(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	full, err := sockets.BindPath(base+"/full.sock", unix.SOCK_STREAM, 0o600)
	must(t, err)
	t.Cleanup(func() { unix.Close(full) })
	must(t, unix.Listen(full, 0))
	for _, place := range []struct {
		name  string
		errno unix.Errno
	}{
		{"live.sock", 0},
		{"none.sock", unix.ENOENT},
		{"dead.sock", unix.ECONNREFUSED},
		{"full.sock", 0},
		{"full.sock", unix.EAGAIN},
		{strings.Repeat("x", 200), unix.EINVAL},
	} {
		targets, errnos = append(targets, dialTarget{Path: base + "/" + place.name}), append(errnos, place.errno)
	}
	return listener, targets, errnos
}

// TestDialerAnswers shows that what connect(2) says is passed on, and a connection.
func TestDialerAnswers(t *testing.T) {
	listener, targets, errnos := dialedPlaces(t)
	c, _ := callDialer(t, new(bytes.Buffer), targets...)
	var held []int
	defer func() { sockets.CloseAll(held) }()
	for i, want := range errnos {
		answer, descriptors := c.ask(uint32(i+7), uint32(i))
		if answer.Tag != uint32(i+7) || answer.Errno != want || (len(descriptors) == 1) != (want == 0) {
			t.Errorf("%s: %+v with %d descriptors, want %v", targets[i].Path, answer, len(descriptors), want)
		}
		held = append(held, descriptors...)
	}
	conn, err := listener.Accept()
	must(t, err)
	defer conn.Close()
	_, err = unix.Write(held[0], []byte("hello"))
	must(t, err)
	text := make([]byte, 5)
	if _, err := conn.Read(text); err != nil || string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestDialerCuts shows that a core which asks for what there is not is cut off.
func TestDialerCuts(t *testing.T) {
	for name, message := range map[string][]byte{
		"another member": sockets.Dial{Tag: 1, Member: 1}.Append(nil),
		"a path":         []byte("/run/docker.sock"),
		"too little":     []byte("dial"),
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			c, ended := callDialer(t, &said, dialTarget{Path: "/nonexistent/web.sock"})
			must(t, sockets.Send(c.link, message))
			<-ended
			if n, _, err := sockets.Receive(c.link, c.buffer); err == nil {
				t.Errorf("answered with %d bytes", n)
			}
			if name == "another member" && !strings.Contains(said.String(), `"event":"security"`) {
				t.Errorf("said: %s", &said)
			}
		})
	}
}
