package sockets

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseGiven(t *testing.T) {
	const self = 42
	for _, c := range []struct {
		name             string
		pid, count, list string
		want             []string
		wrong            string
	}{
		{"nothing", "", "", "", nil, ""},
		{"no pid", "", "1", "web", nil, ""},
		{"of another", "41", "1", "web", nil, ""},
		{"of another, nonsense", "41", "many", "", nil, ""},
		{"two", "42", "2", "web:websecure", []string{"web", "websecure"}, ""},
		{"same name", "42", "2", "web:web", []string{"web", "web"}, ""},
		{"no names", "42", "2", "", []string{"unknown", "unknown"}, ""},
		{"none", "42", "0", "", nil, ""},
		{"too few names", "42", "2", "web", nil, "does not name 2"},
		{"too many names", "42", "1", "web:x", nil, "does not name 1"},
		{"pid is no number", "me", "1", "", nil, "LISTEN_PID"},
		{"count is no number", "42", "one", "", nil, "is no number"},
		{"negative", "42", "-1", "", nil, "is no number"},
		{"too many", "42", "1025", "", nil, "is no number"},
	} {
		got, err := parseGiven(c.pid, c.count, c.list, self)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
			}
		} else if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func FuzzParseGiven(f *testing.F) {
	f.Add("42", "2", "web:websecure")
	f.Add("42", "0", "")
	f.Add("42", "1", "")
	f.Add("7", "x", ":")
	f.Fuzz(func(t *testing.T, pid, count, names string) {
		list, err := parseGiven(pid, count, names, 42)
		if err != nil || len(list) == 0 {
			return
		}
		if len(list) > givenMax {
			t.Errorf("%d descriptors", len(list))
		}
		if names != "" && strings.Join(list, ":") != names {
			t.Errorf("%q was read as %q", names, list)
		}
	})
}

// given makes what TakeGiven would, of sockets that the test opened.
func given(t *testing.T, names []string, fds ...int) *Given {
	t.Helper()
	g := new(Given)
	for i, fd := range fds {
		where, _ := boundAddress(fd) // a pipe has none
		g.passed = append(g.passed, inherited{name: names[i], fd: fd, where: where})
	}
	return g
}

// passedSocket makes a socket as a supervisor does: bound, blocking, with a short backlog.
func passedSocket(t *testing.T, text string) (fd int, address string) {
	t.Helper()
	l, err := bindText(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(l.FD) })
	if err := unix.SetNonblock(l.FD, false); err != nil {
		t.Fatal(err)
	}
	return l.FD, l.Address
}

func TestBindTakesGiven(t *testing.T) {
	web, address := passedSocket(t, "127.0.0.1:0")
	any, anyAddress := passedSocket(t, "0.0.0.0:0")
	_, port, _ := strings.Cut(anyAddress, ":")
	path := t.TempDir() + "/x.sock"
	local, _ := passedSocket(t, "unix:"+path)
	for _, c := range []struct {
		text, address string
		fd            int
	}{
		{"fd:web", address, web},
		{address, address, web},
		{":" + port, anyAddress, any},
		{"unix:" + path, "unix:" + path, local},
	} {
		g := given(t, []string{"web", "any", "local"}, web, any, local)
		l, err := bindText(c.text, g)
		if err != nil || l.FD != c.fd || l.Address != c.address || !l.Given {
			t.Errorf("%s: %+v, %v; want %d at %s", c.text, l, err, c.fd, c.address)
		}
		flags, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("%s: blocking", c.text)
		}
	}
}

// TestBindGivenListens shows that a socket which is only bound is made to listen.
func TestBindGivenListens(t *testing.T) {
	fd, err := bindStream(Address{TCP: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	l, err := bindText("fd:web", given(t, []string{"web"}, fd))
	if err != nil {
		t.Fatal(err)
	}
	if err := dial(t, l.Address); err != nil {
		t.Error(err)
	}
}

// TestAddressMatches shows which socket is taken for which address.
func TestAddressMatches(t *testing.T) {
	for _, c := range []struct {
		wanted, passed string
		want           bool
	}{
		{":80", "[::]:80", true},
		{":80", "0.0.0.0:80", true},
		{":80", "127.0.0.1:80", false},
		{":80", "[::]:81", false},
		{":80", "unix:/x", false},
		{"[::]:80", "0.0.0.0:80", false},
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "0.0.0.0:80", false},
		{"unix:/x", "unix:/x", true},
		{"unix:/x", "unix:/y", false},
	} {
		wanted, wantedErr := ParseAddress(c.wanted)
		passed, passedErr := ParseAddress(c.passed)
		if wantedErr != nil || passedErr != nil {
			t.Fatal(wantedErr, passedErr)
		}
		if got := wanted.matches(passed); got != c.want {
			t.Errorf("%s, %s: %v", c.wanted, c.passed, got)
		}
	}
}

func TestBindGivenRefuses(t *testing.T) {
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(udp)
	g := given(t, []string{"udp"}, udp)
	if _, err := bindText("fd:udp", g); err == nil || !strings.HasSuffix(err.Error(), "is no stream socket") {
		t.Errorf("udp: %v", err)
	}
	for _, name := range []string{"fd:absent", "fd:udp"} { // the second one is taken
		if _, err := bindText(name, g); err == nil || !strings.Contains(err.Error(), "no descriptor of that name") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBindGivenProtocols shows that a stream which is not TCP is refused, in words, and
// that it would be taken otherwise.
func TestBindGivenProtocols(t *testing.T) {
	for _, c := range []struct {
		name             string
		family, protocol int
		want             string
	}{
		{"tcp", unix.AF_INET, 0, ""},
		{"tcp6", unix.AF_INET6, unix.IPPROTO_TCP, ""},
		{"mptcp", unix.AF_INET, unix.IPPROTO_MPTCP, "is MPTCP, and the jail knows TCP alone"},
		{"mptcp6", unix.AF_INET6, unix.IPPROTO_MPTCP, "is MPTCP, and the jail knows TCP alone"},
		{"sctp", unix.AF_INET, unix.IPPROTO_SCTP, "has protocol 132"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd, err := unix.Socket(c.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, c.protocol)
			if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EAFNOSUPPORT) {
				t.Skipf("SKIPPED, NOT TESTED: this kernel has no %s", c.name)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			_, err = bindText("fd:web", given(t, []string{"web"}, fd))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), "sockets: take over fd:web") || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestDiscard(t *testing.T) {
	a, _ := passedSocket(t, "127.0.0.1:0")
	b, address := passedSocket(t, "127.0.0.1:0")
	g := given(t, []string{"a", "b"}, a, b)
	if _, err := bindText("fd:a", g); err != nil {
		t.Fatal(err)
	}
	if got := g.Discard(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("%v", got)
	}
	if err := dial(t, address); err == nil {
		t.Error("still listens")
	}
	if got := (*Given)(nil).Discard(); got != nil {
		t.Errorf("%v", got)
	}
}
