package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// passed are the sockets that a service manager passes for a port: of TCP, and of UDP.
func (s *scene) passed(tcp, udp string) []*os.File {
	s.t.Helper()
	var binding net.ListenConfig
	binding.SetMultipathTCP(false)
	listener, err := binding.Listen(s.t.Context(), "tcp", tcp)
	s.must(err)
	defer listener.Close()
	if udp == "" {
		udp = listener.Addr().String()
	}
	packets, err := binding.ListenPacket(s.t.Context(), "udp", udp)
	s.must(err)
	defer packets.Close()
	web, err := listener.(*net.TCPListener).File()
	s.must(err)
	quic, err := packets.(*net.UDPConn).File()
	s.must(err)
	s.t.Cleanup(func() { web.Close(); quic.Close() })
	return []*os.File{web, quic}
}

// givenQUIC starts a house with passed sockets, all of one name, as those of one unit have.
func (s *scene) givenQUIC(https, more string, sockets []*os.File) *house {
	s.t.Helper()
	s.certificate("shop", p256(s.t), "shop.test")
	file := strings.Replace(six, `https = ["127.0.0.1:0"]`, fmt.Sprintf("https = [%q]", https), 1)
	s.write("sallyport.toml", "control = \"control.sock\"\n"+more+"\n"+file)
	names := strings.Repeat(":web", len(sockets))[1:]
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s exec %s run -c sallyport.toml",
		len(sockets), names, bin("sallyport")))
	cmd.ExtraFiles = sockets
	return s.begin(cmd)
}

// TestH3Given: a UDP socket that a service manager passes serves HTTP/3, in one core. A reload, here also
// one of another plan, loses no request, and is over for new clients when the connections of the old core are; a core that dies
// has a successor within seconds.
func TestH3Given(t *testing.T) {
	for _, https := range []string{"fd:web", "address"} {
		t.Run(https, func(t *testing.T) {
			s := newScene(t)
			s.app("uvicorn")
			sockets := s.passed("127.0.0.1:0", "")
			if https == "address" {
				l, err := net.FileListener(sockets[0])
				s.must(err)
				https = l.Addr().String()
				l.Close()
			}
			h := s.givenQUIC(https, "workers = 2\ndrain = { requests = \"1m\" }", sockets)
			v := s.h3Visitor(h, "")
			s.soonH3(h, v)
			download := s.h3Visitor(h, "").download(t, 6*time.Second)
			busy := s.h3Visitor(h, "")
			if _, err := busy.ask("/"); err != nil {
				t.Error(err)
			}
			s.write("sallyport.toml", strings.Replace(s.read("sallyport.toml"), "redirect = false", "redirect = false\nhsts = \"1h\"", 1))
			stop := make(chan error)
			go busy.keepAsking(stop)
			s.reload(h, 2)
			s.refusedH3(h)
			stop <- nil
			if err := <-stop; err != nil {
				t.Errorf("while it was reloaded: %v", err)
			}
			if err := <-download; err != nil {
				t.Errorf("download: %v", err)
			}
			s.soonH3(h, s.h3Visitor(h, ""))
			if v.dialled != 1 {
				t.Errorf("%d connections of the first client", v.dialled)
			}
			first := h.claimer(t)
			first.kill()
			h.wait(t, "process died", fmt.Sprintf("pid=%d", first.pid))
			s.soonH3(h, s.h3Visitor(h, ""))
		})
	}
}

// soonH3 wants a client to be answered within seconds.
func (s *scene) soonH3(h *house, v *h3Visitor) {
	s.t.Helper()
	var err error
	if !until(patience, func() bool {
		_, err = v.ask("/")
		return err == nil
	}) {
		s.t.Fatalf("no HTTP/3: %v\n%s", err, h.tail())
	}
}

// keepAsking asks, one request after the other, on connections that last as long as they are let, until it
// is told to stop, and says what went wrong. A connection that was refused is none.
func (v *h3Visitor) keepAsking(stop chan error) {
	var failed error
	for {
		select {
		case <-stop:
			stop <- failed
			return
		default:
		}
		if _, err := v.ask("/"); err != nil && failed == nil && !isRefused(err) {
			failed = err
		}
	}
}

// isRefused reports whether a connection did not come about, for nobody wants new ones.
func isRefused(err error) bool {
	refused, is := errors.AsType[*quic.TransportError](err)
	return is && refused.ErrorCode == quic.ConnectionRefused
}

// refusedH3 wants new clients to be told that they are not taken, as soon as the old core knows that it is
// one.
func (s *scene) refusedH3(h *house) {
	s.t.Helper()
	await(s.t, "a refusal", func() bool {
		raw, err := s.dialH3(h)
		if err == nil {
			raw.CloseWithError(0x100, "")
		}
		return isRefused(err)
	})
	session, err := tls.Dial("tcp", h.https, s.client("shop.test"))
	s.must(err)
	session.Close()
}

// claimer is the core that has the lock of a UDP socket.
func (h *house) claimer(t *testing.T) (claimer process) {
	t.Helper()
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range coresNow() {
		for line := range strings.Lines(string(locks)) {
			if f := strings.Fields(line); len(f) > 4 && f[1] == "POSIX" && f[4] == fmt.Sprint(p.pid) {
				return p
			}
		}
	}
	t.Fatalf("no core has a lock:\n%s", locks)
	return claimer
}

// TestH3GivenElsewhere: a UDP socket of another address is a mistake, and so is one without a listener.
func TestH3GivenElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		https string
		of    func(s *scene) []*os.File
		want  string
	}{
		"another address": {"fd:web", func(s *scene) []*os.File { return s.passed("127.0.0.1:0", "127.0.0.2:0") }, "has the address of no listener"},
		"no listener":     {"fd:web", func(s *scene) []*os.File { return s.passed("127.0.0.1:0", "")[1:] }, "is no listener"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.certificate("shop", p256(t), "shop.test")
			s.write("sallyport.toml", strings.Replace(six, `https = ["127.0.0.1:0"]`, fmt.Sprintf("https = [%q]", c.https), 1))
			sockets := c.of(s)
			cmd := s.as(exec.Command("/bin/sh", "-c", fmt.Sprintf("LISTEN_PID=$$ LISTEN_FDS=%d exec sallyport run -c sallyport.toml", len(sockets))))
			cmd.ExtraFiles = sockets
			cmd.Env = append(cmd.Env, "LISTEN_FDNAMES="+strings.Repeat(":web", len(sockets))[1:])
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), c.want) || !strings.Contains(string(out), "hint: it belongs to the listener of https") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
