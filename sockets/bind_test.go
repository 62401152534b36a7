package sockets

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dial tries to connect as a client does.
func dial(t *testing.T, address string) error {
	t.Helper()
	network := "tcp"
	if path, found := strings.CutPrefix(address, "unix:"); found {
		network, address = "unix", path
	}
	conn, err := net.DialTimeout(network, address, 2*time.Second)
	if err == nil {
		conn.Close()
	}
	return err
}

func TestBind(t *testing.T) {
	path := "unix:" + t.TempDir() + "/x.sock"
	for _, c := range []struct {
		text, prefix string
		answers      []string // hosts
		refuses      []string
	}{
		{"127.0.0.1:0", "127.0.0.1:", []string{"127.0.0.1"}, []string{"127.0.0.2", "::1"}},
		{"0.0.0.0:0", "0.0.0.0:", []string{"127.0.0.1", "127.0.0.2"}, []string{"::1"}},
		{"[::1]:0", "[::1]:", []string{"::1"}, []string{"127.0.0.1"}},
		{"[::]:0", "[::]:", []string{"::1"}, []string{"127.0.0.1"}},
		{"[::ffff:127.0.0.1]:0", "127.0.0.1:", []string{"127.0.0.1"}, nil},
		{":0", "[::]:", []string{"127.0.0.1", "::1"}, nil},
		{path, path, nil, nil},
	} {
		t.Run(c.text, func(t *testing.T) {
			l, err := bindText(c.text, nil)
			if strings.Contains(c.text, "[::") && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)) {
				t.Skip("SKIPPED, NOT TESTED: no IPv6 here")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(l.FD)
			if !strings.HasPrefix(l.Address, c.prefix) || l.Given {
				t.Errorf("%+v, want an address that begins with %s", l, c.prefix)
			}
			if flags, _ := unix.FcntlInt(uintptr(l.FD), unix.F_GETFD, 0); flags != unix.FD_CLOEXEC {
				t.Error("not close-on-exec")
			}
			if flags, _ := unix.FcntlInt(uintptr(l.FD), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
				t.Error("blocking")
			}
			if strings.HasPrefix(c.text, "unix:") {
				if err := dial(t, l.Address); err != nil {
					t.Error(err)
				}
				if info, err := os.Stat(l.Address[len("unix:"):]); err != nil || info.Mode().Perm() != 0o666 {
					t.Errorf("%v, %v", info, err)
				}
				return
			}
			where := netip.MustParseAddrPort(l.Address)
			if where.Port() == 0 {
				t.Error("port 0 is not resolved")
			}
			for _, host := range c.answers {
				if err := dial(t, netip.AddrPortFrom(netip.MustParseAddr(host), where.Port()).String()); err != nil {
					t.Errorf("%s: %v", host, err)
				}
			}
			for _, host := range c.refuses {
				if err := dial(t, netip.AddrPortFrom(netip.MustParseAddr(host), where.Port()).String()); err == nil {
					t.Errorf("%s answers", host)
				}
			}
		})
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "is none of",
		"80":                                "is none of",
		"localhost:80":                      "is none of",
		"127.0.0.1":                         "is none of",
		":":                                 "is no port",
		":http":                             "is no port",
		":65536":                            "is no port",
		":-1":                               "is no port",
		"fd:":                               "names no descriptor",
		"unix:":                             "is no absolute path",
		"unix:x.sock":                       "is no absolute path",
		"unix:/" + strings.Repeat("x", 107): "is longer than 107 bytes",
		"unix:/a\x00b":                      "has a zero byte",
		"[fe80::1%eth0]:80":                 "has a zone",
		"https://example.com/":              "is none of",
	} {
		if _, err := bindText(text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{":80", "127.0.0.1:0", "[::]:443", "unix:/run/x.sock", "fd:web", "[::ffff:1.2.3.4]:1", ":0x1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddress(text)
		if err != nil {
			return
		}
		if a.Given == "" && !a.matches(a) {
			t.Errorf("%q does not match itself", text)
		}
		if a.Given != "" || a.Dual {
			return
		}
		again, err := ParseAddress(a.report())
		if err != nil || again != a {
			t.Errorf("%q is reported as %q, which is read as %v, %v", text, a.report(), again, err)
		}
	})
}

// TestHeal shows that a listener which some holder has disconnected listens
// again where it did, also on a port that the kernel chose.
func TestHeal(t *testing.T) {
	for name, harm := range map[string]func(fd int) error{
		"connect(AF_UNSPEC)": disconnect,
		"shutdown(SHUT_RD)":  func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := bindText("127.0.0.1:0", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(l.FD)
			if healed, err := Heal(l.FD); healed || err != nil {
				t.Errorf("healthy: %v, %v", healed, err)
			}
			if err := harm(l.FD); err != nil {
				t.Fatal(err)
			}
			if err := dial(t, l.Address); err == nil {
				t.Fatal("the test does not disconnect")
			}
			if healed, err := Heal(l.FD); !healed || err != nil {
				t.Errorf("ill: %v, %v", healed, err)
			}
			if err := dial(t, l.Address); err != nil {
				t.Error("healed:", err)
			}
		})
	}
}

// TestHealBlocking: a holder made the listener block for all.
func TestHealBlocking(t *testing.T) {
	l, err := bindText("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.FD)
	if err := unix.SetNonblock(l.FD, false); err != nil {
		t.Fatal(err)
	}
	for _, ill := range []bool{true, false} {
		if healed, err := Heal(l.FD); healed != ill || err != nil {
			t.Fatalf("%v, %v, want %v", healed, err, ill)
		}
	}
	if fd, _, err := unix.Accept(l.FD); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("accept: %d, %v, want EAGAIN", fd, err)
	}
}

// disconnect connects to AF_UNSPEC, which dissolves what a socket was bound or
// listening to, connect(2).
func disconnect(fd int) error {
	unspecified := new([16]byte)
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(unspecified)), 16)
	if errno != 0 {
		return errno
	}
	return nil
}

func TestBindError(t *testing.T) {
	l, err := bindText("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.FD)
	_, port, _ := strings.Cut(l.Address, ":")
	for _, c := range []struct{ text, message, hint string }{
		{l.Address, "sockets: bind tcp " + l.Address + ": address already in use", "ss -ltnp 'sport = :" + port + "'"},
		{"192.0.2.1:0", "sockets: bind tcp 192.0.2.1:0: cannot assign requested address", "ip address"},
		{"unix:/nonexistent/x.sock", "sockets: bind unix /nonexistent/x.sock: no such file or directory", "make the folder"},
		{"fd:web", "sockets: bind fd:web: no descriptor of that name was passed", "LISTEN_FDNAMES"},
	} {
		_, err := bindText(c.text, nil)
		var explained *BindError
		if !errors.As(err, &explained) || err.Error() != c.message || !strings.Contains(explained.Hint(), c.hint) {
			t.Errorf("%s: %v; hint %v", c.text, err, explained)
		}
	}
}

// TestHealConnected shows that a listener which was connected to somewhere listens
// again, where it did.
func TestHealConnected(t *testing.T) {
	target, err := bindText("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(target.FD)
	stray, err := bindText("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stray.FD)
	where, err := unix.Getsockname(target.FD)
	if err != nil {
		t.Fatal(err)
	}
	if err := dissolve(stray.FD); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(stray.FD, where); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	if healed, err := Heal(stray.FD); !healed || err != nil {
		t.Fatalf("%v, %v", healed, err)
	}
	guest, err := net.Dial("tcp", stray.Address)
	if err != nil {
		t.Fatal(err)
	}
	guest.Close()
}

// TestBindErrorForbidden shows what a plain user reads who wants port 80.
func TestBindErrorForbidden(t *testing.T) {
	where := Address{TCP: netip.MustParseAddrPort("[::]:80"), Dual: true}
	e := &BindError{UID: 1000, Port: 80, Floor: 1024, Err: unix.EACCES, where: where}
	want := "sockets: bind tcp [::]:80: permission denied: uid 1000 has no right to port 80, " +
		"only to ports from 1024 on (net.ipv4.ip_unprivileged_port_start = 1024)"
	if e.Error() != want {
		t.Errorf("%s", e)
	}
	for _, way := range []string{"start as root", "a port from 1024 on", "fd:NAME", "CAP_NET_BIND_SERVICE", "sysctl net.ipv4.ip_unprivileged_port_start=80"} {
		if !strings.Contains(e.Hint(), way) {
			t.Errorf("%q is not in %q", way, e.Hint())
		}
	}
	if measured := bindError(where, unix.EACCES); measured.UID != os.Geteuid() || measured.Port != 80 || measured.Floor == 0 {
		t.Errorf("%+v", measured)
	}
}

func TestBindPath(t *testing.T) {
	path := t.TempDir() + "/x.sock"
	defer unix.Umask(unix.Umask(0o027)) // it must not matter
	for _, mode := range []int{0o600, 0o666} {
		fd, err := BindPath(path, unix.SOCK_SEQPACKET, mode)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != fs.FileMode(mode) {
			t.Errorf("%v, %v, want mode %o", info.Mode(), err, mode)
		}
		if _, err := BindPath(path, unix.SOCK_SEQPACKET, mode); !errors.Is(err, ErrAlive) {
			t.Errorf("beside a living one: %v", err)
		}
		if _, err := BindPath(path, unix.SOCK_STREAM, mode); !errors.Is(err, ErrAlive) {
			t.Errorf("beside a living one of another kind: %v", err)
		}
		unix.Close(fd) // what is left is dead, and replaced in the next round
	}
	if mask := unix.Umask(0o027); mask != 0o027 {
		t.Errorf("umask %o", mask)
	}
}

func TestBindPathKeepsOthers(t *testing.T) {
	path := t.TempDir() + "/x"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := BindPath(path, unix.SOCK_STREAM, 0o600); err == nil || err.Error() != "what is there is no socket" {
		t.Errorf("a file: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: a socket of another uid needs root")
	}
	path += ".sock"
	fd, err := BindPath(path, unix.SOCK_STREAM, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := BindPath(path, unix.SOCK_STREAM, 0o600); err == nil || err.Error() != "the socket there belongs to uid 65534, not to 0" {
		t.Errorf("of another uid: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// bindText binds what a configuration would call text.
func bindText(text string, given *Given) (Listener, error) {
	where, err := ParseAddress(text)
	if err != nil {
		return Listener{}, err
	}
	return Bind(where, given)
}
