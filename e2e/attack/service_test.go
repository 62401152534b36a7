package attack

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A service is sallyport run with builds for drills.
type service struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	log *bufio.Scanner
}

// limit is how long a service may take for anything.
const limit = 20 * time.Second

// serve runs a service, with the programs of bin.
func serve(t *testing.T, bin, sandbox string) *service {
	t.Helper()
	s := &service{t: t, dir: t.TempDir()}
	for folder := s.dir; folder != os.TempDir(); folder = folder[:strings.LastIndexByte(folder, '/')] {
		must(t, os.Chmod(folder, 0o755))
	}
	must(t, os.WriteFile(s.dir+"/sallyport.toml", []byte("sandbox = \""+sandbox+"\""+`
control = "control.sock"
listen = { http = ["127.0.0.1:0"], https = [] }
[[site]]
host = "shop.test"
app = "unix:/nonexistent/app.sock"
tls = "off"
`), 0o600))
	s.cmd = exec.Command(bin+"/sallyport", "run")
	s.cmd.Dir = s.dir
	reader, writer, err := os.Pipe()
	must(t, err)
	must(t, reader.SetReadDeadline(time.Now().Add(limit)))
	s.cmd.Stderr = writer
	must(t, s.cmd.Start())
	writer.Close()
	s.log = bufio.NewScanner(reader)
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(limit, func() { _ = s.cmd.Process.Kill() })
		_, _ = io.Copy(io.Discard, reader) // or the last lines have nobody to read them
		_ = s.cmd.Wait()                   // how it ends is no matter here
		late.Stop()
		reader.Close()
	})
	return s
}

// says reads the log up to a line with this message.
func (s *service) says(message string) map[string]any {
	s.t.Helper()
	for s.log.Scan() {
		var facts map[string]any
		_ = json.Unmarshal(s.log.Bytes(), &facts) // what is no JSON has no message
		if facts["message"] == message {
			return facts
		}
		s.t.Log(s.log.Text())
	}
	s.t.Fatalf("never said: %s (%v)", message, s.log.Err())
	return nil
}

// TestSaid shows that a core which does what kills is a security event in the log, and
// that there is another one then.
func TestSaid(t *testing.T) {
	needRoot(t)
	s := serve(t, builds()[0].make(t), "full")
	s.says("ready")
	said := s.says("jail killed process")
	if said["event"] != "security" || said["process"] != "core" || said["level"] != "error" {
		t.Errorf("%v", said)
	}
	if died := s.says("process died"); died["signal"] != "SIGSYS" {
		t.Errorf("%v", died)
	}
	s.says("process ready")
}

// TestHealed shows that a listener which a core has disconnected, or deafened, is there again
// within a second, and how long it took.
func TestHealed(t *testing.T) {
	needRoot(t)
	b := builds()[0]
	for _, deed := range []string{"disconnect", "deafen"} {
		t.Run(deed, func(t *testing.T) {
			bin := b.make(t)
			b.link(t, bin+"/sallyport-core", "../../cmd/internal/jail/attack", "-X main.deed="+deed)
			s := serve(t, bin, "full")
			done := s.says("deed done")
			if done["error"] != "<nil>" {
				t.Fatalf("%v", done)
			}
			healed := s.says("listener healed")
			at, err := time.Parse(time.RFC3339, fmt.Sprint(healed["time"]))
			must(t, err)
			t.Logf("%s: healed after %d ms", deed, at.UnixMilli()-int64(done["at"].(float64)))
			name, _ := healed["listener"].(string)
			conn, err := net.Dial("tcp", name)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			conn.Close()
		})
	}
}

// TestDrift shows that privs notices a service whose processes lack a layer.
func TestDrift(t *testing.T) {
	needRoot(t)
	for _, b := range builds() {
		if b.name != "full" && b.name != "uid alone" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			bin := b.make(t)
			b.compile(t, bin+"/sallyport-core", "../../cmd/sallyport-core")
			s := serve(t, bin, "full")
			incomplete := ""
			if b.name != "full" {
				incomplete = fmt.Sprint(s.says("jail incomplete")["lacking"])
			}
			s.says("ready")
			privs := exec.Command(bin+"/sallyport", "privs", "--assert")
			privs.Dir = s.dir
			out, err := privs.CombinedOutput()
			if b.name == "full" {
				if err != nil || strings.Contains(string(out), "DRIFT") {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
			if privs.ProcessState.ExitCode() != 3 || strings.Count(string(out), "DRIFT: seccomp mode is 0") != 2 {
				t.Errorf("%v: %s", err, out)
			}
			if incomplete != "[seccomp landlock]" {
				t.Errorf("lacking: %s", incomplete)
			}
		})
	}
}

// TestSandbox shows what a kernel without filters of system calls means: no start, or one
// that says what is lacking.
func TestSandbox(t *testing.T) {
	needRoot(t)
	b := build{name: "no seccomp in the kernel", drill: "seccomp=absent,landlock=2"}
	bin := b.make(t)
	b.compile(t, bin+"/sallyport-core", "../../cmd/sallyport-core")
	t.Run("full", func(t *testing.T) {
		s := serve(t, bin, "full")
		said := ""
		for s.log.Scan() {
			said += s.log.Text() + "\n"
		}
		if !strings.Contains(said, "filter of system calls: function not implemented") || !strings.Contains(said, "best-effort") {
			t.Errorf("said: %s", said)
		}
	})
	t.Run("best-effort", func(t *testing.T) {
		s := serve(t, bin, "best-effort")
		lacking := fmt.Sprint(s.says("jail incomplete")["lacking"])
		if lacking != "[seccomp landlock of TCP, signals and abstract sockets (ABI 2 of 6)]" {
			t.Errorf("lacking: %s", lacking)
		}
		s.says("ready")
	})
}

// TestOldLandlock shows that a core whose connect(2) landlock would not keep from TCP and
// abstract sockets has none: the dialer connects for it.
func TestOldLandlock(t *testing.T) {
	needRoot(t)
	for drill, dialing := range map[string]bool{"landlock=4": true, "landlock=6": false} {
		b := build{name: drill, drill: drill}
		bin := b.make(t)
		b.compile(t, bin+"/sallyport-core", "../../cmd/sallyport-core")
		s := serve(t, bin, "full")
		s.says("ready")
		privs := exec.Command(bin+"/sallyport", "privs", "--assert")
		privs.Dir = s.dir
		out, err := privs.CombinedOutput()
		if err != nil || strings.Contains(string(out), "dialer, pid") != dialing {
			t.Errorf("%s: %v: %s", drill, err, out)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: this needs root")
	}
}
