package e2e

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what was printed to the golden files")

// TestMistakes starts sallyport on every wrong configuration of testdata/mistakes:
// it prints what the golden file says, ends with 1, and nothing was started.
func TestMistakes(t *testing.T) {
	needRoot(t) // ids and rights are part of the messages
	files, err := filepath.Glob("testdata/mistakes/*.toml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d wrong configurations, %v", len(files), err)
	}
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test")
	s.certificate("other", p256(t), "shop.test")
	s.certificate("open", p256(t), "shop.test")
	s.must(os.Chmod(s.path("open.key"), 0o644))
	s.must(os.Link(s.path("shop.pem"), s.path("shop.pem.copy")))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	defer taken.Close()
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			s.must(err)
			s.write("sallyport.toml", strings.ReplaceAll(string(text), "{taken}", taken.Addr().String()))
			out, code := s.shell("sallyport run")
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			if us := ours(); len(us) > 0 {
				t.Errorf("was started: %v", us)
			}
			port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
			got := strings.NewReplacer(s.dir, "{dir}", port, "{port}").Replace(quiet(out))
			golden := strings.TrimSuffix(file, ".toml") + ".golden"
			if *update {
				s.must(os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			if err != nil || got != string(want) {
				t.Errorf("printed\n%s\nwant\n%s%v", got, want, err)
			}
		})
	}
}

// quiet drops the lines of the log, which have times in them: a mistake stands on
// lines of its own.
func quiet(printed string) string {
	var lines []string
	for line := range strings.Lines(printed) {
		if !strings.HasPrefix(line, "{") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
