package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// treeEnv names the root folder of a Debian 13 with curl and python3-aioquic, which Debian 12 has not
// or not with HTTP/3. `sh e2e/prepare soak` makes one.
const treeEnv = "SALLYPORT_TRIXIE"

// An h3Program is a client of HTTP/3 that is not Go's.
type h3Program struct {
	name  string
	trees bool // from the tree
	// line asks for {path} and puts what comes into the file {out} as it comes; {send} are the words
	// that have it send the file 10MiB.
	line, send string
}

func h3Programs() []h3Program {
	return []h3Program{
		{
			"gtlsclient", false,
			`mkdir {out}.d && ln -sf '{out}.d/{name}' {out} && gtlsclient -q --exit-on-all-streams-close ` +
				`--download={out}.d {send} localhost {port} 'https://localhost:{port}{path}'`,
			"-m POST -d 10MiB",
		},
		{
			"curl", true,
			`{ld} {tree}/usr/bin/curl --no-buffer --fail --http3-only --resolve shop.test:{port}:127.0.0.1 {send} ` +
				`-o {out} 'https://shop.test:{port}{path}'`,
			"--data-binary @10MiB",
		},
		{
			"aioquic", true,
			`PYTHONHOME={tree}/usr PYTHONPATH={tree}/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1 ` +
				`{ld} {tree}/usr/bin/python3 {here}/testdata/aioquic_ask.py {port} ca.pem '{path}' {send} > {out}`,
			"10MiB",
		},
	}
}

// loader is how a program of the tree is run with the tree's own libraries, and no chroot.
func loader(t *testing.T, tree string) string {
	t.Helper()
	loaders, _ := filepath.Glob(filepath.Join(tree, "usr/lib*/ld-linux*"))          // the pattern is sound
	libraries, _ := filepath.Glob(filepath.Join(tree, "usr/lib/*-linux-gnu*"))      // likewise
	packages, _ := filepath.Glob(filepath.Join(tree, "usr/lib/python3*/*/aioquic")) // likewise
	if len(loaders) == 0 || len(libraries) == 0 || len(packages) == 0 {
		t.Fatalf("%s=%s has no loader, no libraries or no aioquic: sh e2e/prepare soak makes such a tree", treeEnv, tree)
	}
	return loaders[0] + " --library-path " + strings.Join(libraries, ":")
}

// TestH3Clients has clients that are not Go's fetch something, send 10 MiB, and fetch an answer whose
// first piece reaches them before the app has made the last one.
func TestH3Clients(t *testing.T) {
	for _, p := range h3Programs() {
		t.Run(p.name, func(t *testing.T) {
			tree := os.Getenv(treeEnv)
			if p.trees && tree == "" {
				t.Skipf("SKIPPED, NOT TESTED: %s names no Debian 13 with %s; `make soak` makes one", treeEnv, p.name)
			}
			if !p.trees {
				tool(t, p.name)
			}
			s := newScene(t)
			s.certificate("shop", p256(t), "shop.test", "localhost") // gtlsclient says the name that it looks up
			s.write("sallyport.toml", strings.Replace(six, `"shop.test"`, `["shop.test", "localhost"]`, 1))
			s.app("node")
			h := s.start()
			s.big()
			here, err := os.Getwd()
			s.must(err)
			words := []string{"{tree}", tree, "{port}", port(h.https), "{here}", here}
			if p.trees {
				words = append(words, "{ld}", loader(t, tree))
			}
			p.line = strings.NewReplacer(words...).Replace(p.line)
			p.asks(s, h)
		})
	}
}

// run begins to ask, and returns the file that is to have the answer.
func (p h3Program) run(s *scene, path, send string) (out string, asking *exec.Cmd) {
	s.t.Helper()
	name := strings.Trim(path, "/")
	file, _, _ := strings.Cut(name, "?")
	out = s.path("answer-" + file)
	line := strings.NewReplacer("{path}", path, "{name}", name, "{out}", out, "{send}", send).Replace(p.line)
	asking = s.as(exec.Command("/bin/sh", "-c", line))
	asking.WaitDelay = time.Second
	asking.Stderr = os.Stderr
	s.must(asking.Start())
	s.t.Cleanup(func() { _ = asking.Process.Kill() }) // most often it is over
	return out, asking
}

func (p h3Program) asks(s *scene, h *house) {
	t := s.t
	sum, err := os.ReadFile(s.path("10MiB.sha256"))
	s.must(err)
	for _, ask := range []struct{ path, send, want string }{
		{"/a", "", `"path":"/a"`},
		{"/echo", p.send, fmt.Sprintf(`{"length":%d,"sha256":"%s"}`, 10<<20, sum)},
	} {
		out, asking := p.run(s, ask.path, ask.send)
		err := asking.Wait()
		if got, _ := os.ReadFile(out); err != nil || !strings.Contains(string(got), ask.want) {
			t.Errorf("%s: %v, %q, want %s", ask.path, err, got, ask.want)
		}
	}
	out, asking := p.run(s, "/stream?name="+p.name, "")
	has := func(want string) func() bool {
		return func() bool {
			got, _ := os.ReadFile(out) // it may not be there yet
			return string(got) == want
		}
	}
	await(t, "the first piece", has("one\n"))
	s.release(p.name)
	if err := asking.Wait(); err != nil || !has("one\ntwo\nthree\n")() {
		t.Errorf("streamed: %v", err)
	}
	await(t, "the log", func() bool { return len(h.find("request answered", "protocol=HTTP/3", "status=200")) == 3 })
}
