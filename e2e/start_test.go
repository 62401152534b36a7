package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// plain is a file without TLS, and so without a keeper.
const plain = `listen = { http = [%q], https = [] }
[[site]]
host = "shop.test"
app = "unix:{dir}/app/app.sock"
`

// TestReadyFD shows what a supervisor sees: one line on its descriptor, then
// its end, while the house goes on.
func TestReadyFD(t *testing.T) {
	s := newScene(t)
	s.write("sallyport.toml", fmt.Sprintf(plain, "127.0.0.1:0"))
	supervisor, theirs, err := os.Pipe()
	s.must(err)
	defer supervisor.Close()
	cmd := exec.Command(bin("sallyport"), "run", "-c", "sallyport.toml", "--ready-fd", "3")
	cmd.ExtraFiles = []*os.File{theirs}
	h := s.launch(cmd)
	theirs.Close()
	if said, err := io.ReadAll(supervisor); string(said) != "ready\n" || err != nil {
		t.Errorf("on the descriptor: %q, %v", said, err)
	}
	if h.gone() {
		t.Errorf("the house ended:\n%s", h.tail())
	}
}

// given is a house that is started as systemd does with a socket unit, and the address of
// the socket.
func (s *scene) given(multipath bool) (*house, string) {
	s.t.Helper()
	s.write("sallyport.toml", fmt.Sprintf(plain, "fd:web"))
	var binding net.ListenConfig
	binding.SetMultipathTCP(multipath)
	listener, err := binding.Listen(s.t.Context(), "tcp", "127.0.0.1:0")
	s.must(err)
	file, err := listener.(*net.TCPListener).File()
	s.must(err)
	defer file.Close()
	defer listener.Close()
	cmd := exec.Command("/bin/sh", "-c",
		"LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec "+bin("sallyport")+" run -c sallyport.toml")
	cmd.ExtraFiles = []*os.File{file}
	return s.launch(cmd), listener.Addr().String()
}

// TestGivenListener starts sallyport as systemd does with a socket unit.
func TestGivenListener(t *testing.T) {
	s := newScene(t)
	s.app("node")
	h, address := s.given(false)
	ready := h.wait(t, "ready")
	if h.http = first(ready, "http"); h.http != address {
		t.Errorf("ready on %s, given %s", h.http, address)
	}
	s.curlrc(h)
	s.answered("http://shop.test/")
}

// TestGivenMultipath shows that what a Go program listens on by default is not taken over,
// and why: the jail could not keep a core from going out with it.
func TestGivenMultipath(t *testing.T) {
	enabled, err := os.ReadFile("/proc/sys/net/mptcp/enabled")
	if err != nil || strings.TrimSpace(string(enabled)) != "1" {
		t.Skip("SKIPPED, NOT TESTED: this kernel has no MPTCP")
	}
	s := newScene(t)
	h, _ := s.given(true)
	code := h.end()
	<-h.ended
	if code != 1 || !strings.Contains(h.tail(), "take over fd:web: descriptor 3: is MPTCP") {
		t.Errorf("exit code %d\n%s", code, h.tail())
	}
}

// TestUnixListener serves clients on a unix socket.
func TestUnixListener(t *testing.T) {
	s := newScene(t)
	s.app("node")
	s.write("sallyport.toml", fmt.Sprintf(plain, "unix:{dir}/web.sock"))
	h := s.start()
	if want := "unix:" + s.path("web.sock"); h.http != want {
		t.Errorf("ready on %s, want %s", h.http, want)
	}
	s.write(".curlrc", "silent\nshow-error\nmax-time = 20\nunix-socket = {dir}/web.sock\n")
	if body := s.answered("http://shop.test/hello"); !strings.Contains(body, "/hello") {
		t.Error(body)
	}
}

// TestBindRefused shows what an operator reads who asks for a port that is not
// to be had.
func TestBindRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cases := []struct {
		name, address string
		uid           int
		says          []string
	}{
		{"taken", taken.Addr().String(), os.Getuid(), []string{"address already in use"}},
		{"low", "127.0.0.1:80", plainUser(), []string{"permission denied", fmt.Sprint(plainUser()), "ip_unprivileged_port_start"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newSceneFor(t, c.uid)
			s.write("sallyport.toml", fmt.Sprintf(plain, c.address))
			out, code := s.shell("sallyport run -c sallyport.toml")
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			for _, want := range append(c.says, "sallyport.toml:1:", c.address, "hint:") {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
		})
	}
}
