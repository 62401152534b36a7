package attack

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// This file has the attempts made in a real container: what TestModes imitates, with the
// filter of system calls and the masked files of the engine, and a network that has nothing.

// victimVariable makes of this program one that waits to be attacked.
const victimVariable = "SALLYPORT_ATTACK_VICTIM"

// withinVariable is where the programs are, for TestWithin.
const withinVariable = "SALLYPORT_ATTACK_WITHIN"

// TestMain runs the tests, or is a victim.
func TestMain(m *testing.M) {
	if os.Getenv(victimVariable) != "" {
		for {
			_ = unix.Pause() // it returns when a signal has come that did not end it
		}
	}
	os.Exit(m.Run())
}

// containerOf runs a test in a container that has nothing but its programs.
func containerOf(dir string, test ...string) *exec.Cmd {
	return exec.Command("podman", append([]string{
		"run", "--rm", "--runtime", "runc", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
		"--network=none", "--read-only", "--cap-drop=all", "--user", "65532:65532",
		"--security-opt", "no-new-privileges", "--env", withinVariable + "=/bin", "--rootfs", dir, "/bin/attack.test",
	}, test...)...)
}

// TestContainer has every attempt made by a core in a container.
func TestContainer(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIPPED, NOT TESTED: the attempts are written for amd64")
	}
	dir := t.TempDir()
	for folder := dir; folder != os.TempDir(); folder = filepath.Dir(folder) {
		must(t, os.Chmod(folder, 0o755))
	}
	for _, folder := range []string{"bin", "tmp", "proc", "dev", "sys", "etc", "run"} {
		must(t, os.Mkdir(filepath.Join(dir, folder), 0o755))
	}
	must(t, os.Chmod(dir+"/tmp", 0o777|os.ModeSticky)) // which a container's own gets too
	b := nameless()
	b.compile(t, dir+"/bin/sallyport", "../../cmd/sallyport")
	b.compile(t, dir+"/bin/sallyport-core", "../../cmd/internal/jail/attack")
	compile := exec.Command("go", "test", "-c", "-o", dir+"/bin/attack.test", ".")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := containerOf(dir, "-test.list", "^$").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: no containers here: %v: %s", err, out)
	}
	out, err := containerOf(dir, "-test.v", "-test.run", "^TestWithin$").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestWithin") {
		t.Errorf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "attempts") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// TestWithin is what TestContainer runs: whoever runs it is starter, core and keeper at once.
// Nothing succeeds but what does where root has started the service.
func TestWithin(t *testing.T) {
	bin := os.Getenv(withinVariable)
	if bin == "" {
		t.Skip("is run by TestContainer")
	}
	me := os.Getuid()
	p := newPlaceOf(t, me, me)
	p.Starter = victim(t, me)
	names := list(t, bin)
	found := p.tryAll(t, nameless(), bin, names)
	var opened []string
	for _, name := range names {
		if found[name] != open {
			continue
		}
		opened = append(opened, name)
		if _, expected := known()[name]; !expected {
			t.Errorf("%s: succeeds", name)
		}
	}
	for _, pid := range []int{p.Brother, p.Stranger, p.Starter} {
		must(t, unix.Kill(pid, 0)) // or there was nobody to attack
	}
	slices.Sort(opened)
	t.Logf("%d attempts as uid %d, successes: %s", len(names), me, strings.Join(opened, ", "))
	if len(names) < 110 || len(found) != len(names) {
		t.Errorf("only %d attempts, %d outcomes", len(names), len(found))
	}
}
