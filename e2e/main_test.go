package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sallyport/e2e/bench/app"
)

// binEnv names the folder of the binaries under test. TestMain sets it, so that
// it needs no variable of the package.
const binEnv = "SALLYPORT_BIN"

// bin is the path of one of the binaries under test.
func bin(name string) string { return filepath.Join(os.Getenv(binEnv), name) }

// TestMain runs the tests, or, in a process of its own, the app that startBare starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "app" {
		fmt.Fprintln(os.Stderr, app.Serve(os.NewFile(3, "listener"), os.Args[2] == "keep"))
		os.Exit(1)
	}
	os.Exit(runAll(m))
}

// runAll puts the binaries where any user may execute them, runs the tests and
// fails when a process of ours is left behind.
func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sallyport-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := gather(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: no binaries to test:", err)
		return 1
	}
	os.Setenv(binEnv, dir)
	os.Setenv("GOMAXPROCS", "2") // as the golden plans, whatever this machine has
	code := m.Run()
	if left := ours(); len(left) > 0 && !until(2*time.Second, func() bool { return len(ours()) == 0 }) {
		fmt.Fprintf(os.Stderr, "e2e: processes left behind: %v\n", left)
		for _, p := range left {
			p.kill()
		}
		return 1
	}
	return code
}

// gather copies the given binaries to dir, or builds them there, and the demo: a
// clone below a private folder could not be executed by the other users of
// these tests.
func gather(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	sources := []string{"../cmd/...", "./demo"}
	if given := os.Getenv(binEnv); given != "" {
		if err := os.CopyFS(dir, os.DirFS(given)); err != nil {
			return err
		}
		sources = []string{"./demo"}
	}
	build := exec.Command("go", append([]string{"build", "-trimpath", "-o", dir + "/"}, sources...)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	return build.Run()
}
