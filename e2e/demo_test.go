package e2e

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemo does what the README tells a newcomer: make demo, and the two lines
// that it prints, as they are.
func TestDemo(t *testing.T) {
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "demo")
	cmd.Dir = top
	demo(t, cmd, filepath.Join(top, "bin"))
}

// TestDemoPlainUser runs the demo as a user without any privilege.
func TestDemoPlainUser(t *testing.T) {
	needRoot(t) // a plain user has seen it above
	s := newSceneFor(t, nobody)
	demo(t, s.as(exec.Command(bin("demo"))), os.Getenv(binEnv))
}

func demo(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr = &log
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := curlLines(stdout)
	for _, line := range lines {
		out, err := exec.Command("/bin/sh", "-c", line).Output()
		if err != nil || !strings.Contains(string(out), "Hello") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "curl http://") || !strings.HasPrefix(lines[1], "curl --cacert ") {
		t.Errorf("it printed %q", lines)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // make reports the signal as an error of its own
	if !until(time.Second, func() bool { return len(running(dir)) == 0 }) {
		t.Errorf("left behind: %v", running(dir))
	}
	for _, line := range lines {
		if _, authority, has := strings.Cut(line, "--cacert "); has {
			authority, _, _ = strings.Cut(authority, " ")
			if _, err := os.Stat(filepath.Dir(authority)); !os.IsNotExist(err) {
				t.Errorf("its folder is left behind: %v", err)
			}
		}
	}
	if t.Failed() {
		t.Logf("the log:\n%s", log.String())
	}
}

// curlLines reads what the demo prints up to its last line, and returns the
// lines that are commands.
func curlLines(stdout io.Reader) (found []string) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "curl ") {
			found = append(found, lines.Text())
		}
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			break
		}
	}
	return found
}
