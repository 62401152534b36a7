package sockets

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// passedUDP makes a UDP socket as a supervisor does.
func passedUDP(t *testing.T, text string) (fd int, address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", text)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	file, err := conn.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if fd, err = unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd, conn.LocalAddr().String()
}

// TestTakeLone: the UDP socket of a listener is the one with its address, whatever its name, and
// no listener itself.
func TestTakeLone(t *testing.T) {
	_, port, _ := strings.Cut(func() string { _, a := passedUDP(t, "127.0.0.1:0"); return a }(), ":")
	any, anyAddress := passedUDP(t, "[::]:0")
	one, address := passedUDP(t, "127.0.0.1:0")
	_, anyPort, _ := net.SplitHostPort(anyAddress)
	for _, c := range []struct {
		text, bound string
		want        int // -1: none
	}{
		{"fd:web", address, one},
		{address, address, one},
		{":" + anyPort, anyAddress, any},
		{"fd:web", anyAddress, any},
		{"fd:web", "127.0.0.1:" + port, -1},
		{"unix:/x", "unix:/x", -1},
	} {
		g := &Given{}
		for _, fd := range []int{any, one} {
			where, err := boundAddress(fd)
			if err != nil {
				t.Fatal(err)
			}
			g.passed = append(g.passed, inherited{name: "web", fd: fd, where: where, datagram: true})
		}
		if _, err := bindText("fd:web", g); err == nil || !strings.Contains(err.Error(), "is no listener") {
			t.Errorf("a UDP socket as a listener: %v", err)
		}
		wanted, err := ParseAddress(c.text)
		if err != nil {
			t.Fatal(err)
		}
		slots, err := TakeLone(wanted, c.bound, g)
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.text, err)
		case c.want < 0 && slots != nil, c.want >= 0 && (!slots.Lone() || slots[0] != c.want):
			t.Errorf("%s at %s: %v, want %d", c.text, c.bound, slots, c.want)
		}
		if stray := g.Stray(); stray == nil {
			t.Errorf("%s: none is left", c.text)
		}
	}
}

// TestClaim: one process at a time has a socket that several have, until it closes it.
func TestClaim(t *testing.T) {
	if fd := os.Getenv("SOCKETS_CLAIM"); fd != "" {
		free, err := Claim(FirstGift)
		if err != nil {
			t.Fatal(err)
		}
		if !free {
			os.Exit(7)
		}
		os.Exit(0)
	}
	fd, _ := passedUDP(t, "127.0.0.1:0")
	other := func() int {
		file, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		copied := os.NewFile(uintptr(file), "copy")
		cmd := exec.Command(os.Args[0], "-test.run=^TestClaim$")
		cmd.Env, cmd.ExtraFiles = append(os.Environ(), "SOCKETS_CLAIM=1"), []*os.File{copied}
		_ = cmd.Run() // its exit code says it
		// The copy is closed with the lock of this process, so it stays open for as long as that counts.
		t.Cleanup(func() { copied.Close() })
		return cmd.ProcessState.ExitCode()
	}
	if code := other(); code != 0 {
		t.Fatalf("nobody has it: exit code %d", code)
	}
	for range 2 {
		if free, err := Claim(fd); !free || err != nil {
			t.Fatal(free, err)
		}
		if code := other(); code != 7 {
			t.Errorf("somebody has it: exit code %d", code)
		}
	}
	closing, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(closing)
	if code := other(); code != 0 {
		t.Errorf("it was closed: exit code %d", code)
	}
}
