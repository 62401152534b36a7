package attack

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
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
func serve(t *testing.T, bin string) *service {
	t.Helper()
	s := &service{t: t, dir: t.TempDir()}
	for folder := s.dir; folder != os.TempDir(); folder = folder[:strings.LastIndexByte(folder, '/')] {
		must(t, os.Chmod(folder, 0o755))
	}
	must(t, os.WriteFile(s.dir+"/sallyport.toml", []byte(`
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
	s := serve(t, builds()[0].make(t))
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

// TestDrift shows that privs notices a service whose processes lack a layer.
func TestDrift(t *testing.T) {
	needRoot(t)
	for _, b := range builds() {
		if b.name != "full" && b.name != "uid alone" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			bin := b.make(t)
			core := exec.Command("go", "build", "-trimpath", "-tags", "drill",
				"-ldflags", "-X 'sallyport/cmd/internal/jail.drill="+b.drill+"'", "-o", bin+"/sallyport-core", "../../cmd/sallyport-core")
			core.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := core.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			s := serve(t, bin)
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

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: this needs root")
	}
}
