// Package attack holds the jail to what it promises: a core that has been taken over tries
// what it must not be able to do, from inside the finished jail, and the table of what came
// of each attempt is testdata/matrix.txt. The same is tried with each layer switched off,
// so that what a layer is for is seen, and that the test can fail.
//
// The attempts are in cmd/internal/jail/attack.
package attack

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/matrix.txt anew")

// A build is the jail with some of its layers off: package jail, switches_drill.go.
type build struct {
	name  string
	drill string
	role  string // "": a core
	apps  string // how a core comes to them: in a "root" that the mason has built, by the "dialer", or both; "": by paths
}

// builds are the columns of the matrix. The ABI of landlock is that which the newest
// layer of it needs, so that the table is the same on newer kernels.
func builds() []build {
	return []build{
		{"full", "landlock=6", "", "root"},
		{"dialer", "landlock=6", "", "dialer"}, // where nobody may make namespaces
		{"full at 4", "landlock=4", "", "root dialer"},
		{"full at 2", "landlock=2", "", "root dialer"},
		{"full at 1", "landlock=1", "", "root dialer"},
		{"full at 0", "landlock=0", "", "root dialer"},
		{"dialer at 0", "landlock=0", "", "dialer"},
		{"no root", "landlock=6", "", ""},
		{"no landlock", "landlock=0", "", "root"},
		{"no seccomp", "landlock=6,seccomp=off", "", "root"},
		{"root alone", "landlock=0,seccomp=off", "", "root"},
		{"landlock 4", "landlock=4,seccomp=off", "", ""},
		{"landlock 2", "landlock=2,seccomp=off", "", ""},
		{"landlock 1", "landlock=1,seccomp=off", "", ""},
		{"uid alone", "landlock=0,seccomp=off", "", ""},
		{"keeper", "landlock=6", "keeper", "root"},
		{"warden", "landlock=6", "warden", ""},
		{"dialer's own", "landlock=6", "dialer", ""},
	}
}

// inService are the builds as they are run: by the newest landlock, or an older one, with or
// without namespaces.
func inService() []string {
	return []string{"full", "dialer", "full at 4", "full at 2", "full at 1", "full at 0", "dialer at 0"}
}

// nameless is the build where nobody may make namespaces.
func nameless() build { return builds()[1] }

// known are the attempts that succeed, and why that is so.
func known() map[string]string {
	return map[string]string{
		"connect to its app":            "that is what it is for",
		"disconnect the listener":       "connect(2) cannot be told from that to an app; the main warden mends it within a second",
		"ask for the listener's name":   "a client that sends no name gets the certificate of the address that it has reached; the core's plan has these",
		"deafen the listener both ways": "likewise: connections end with the same call",
	}
}

// closedByDialer are those of them that take connect(2), which a core has not for whom the
// dialer does.
func closedByDialer() []string { return []string{"connect to its app", "disconnect the listener"} }

// A matrix is what came of each attempt, by build and by name.
type matrix map[string]map[string]string

// TestMatrix has every attempt made against every build.
func TestMatrix(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIPPED, NOT TESTED: the attempts are written for amd64")
	}
	m, names := matrix{}, []string(nil)
	p := newPlace(t)
	for i, b := range builds() {
		bin := b.make(t)
		if i == 0 {
			names = list(t, bin)
		}
		if b.apps != "" {
			p.build(t, bin)
		}
		m[b.name] = p.tryAll(t, b, bin, names)
	}
	if len(names) < 110 {
		t.Errorf("only %d attempts", len(names))
	}
	m.checkFull(t, names)
	m.checkLayers(t, names)
	m.checkOthers(t)
	m.checkGolden(t, names)
}

// make builds sallyport and the attacker, and returns their folder.
func (b build) make(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	b.compile(t, dir+"/sallyport", "../../cmd/sallyport")
	b.compile(t, dir+"/sallyport-core", "../../cmd/internal/jail/attack")
	return dir
}

// compile makes one program.
func (b build) compile(t *testing.T, target, of string) {
	t.Helper()
	b.link(t, target, of, "")
}

// link is compile with more for the linker.
func (b build) link(t *testing.T, target, of, more string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "drill",
		"-ldflags", "-X 'sallyport/cmd/internal/jail.drill="+b.drill+"' "+more, "-o", target, of)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// list are the names of all attempts.
func list(t *testing.T, bin string) []string {
	t.Helper()
	out, err := exec.Command(bin+"/sallyport-core", "list").Output()
	must(t, err)
	names := strings.Split(strings.TrimSpace(string(out)), "\n")
	if sorted := slices.Compact(slices.Sorted(slices.Values(names))); len(sorted) != len(names) {
		t.Errorf("%d attempts have %d names", len(names), len(sorted))
	}
	return names
}

// tryAll makes all attempts, a few at a time, each by an attacker of its own.
func (p *place) tryAll(t *testing.T, b build, bin string, names []string) map[string]string {
	t.Helper()
	outcomes, next := make([]string, len(names)), atomic.Int64{}
	var trying sync.WaitGroup
	for range 4 {
		trying.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(names) {
					return
				}
				var err error
				if outcomes[i], err = p.try(bin, b, names[i], i); err != nil {
					t.Errorf("%s: %v", names[i], err)
				}
			}
		})
	}
	trying.Wait()
	found := map[string]string{}
	for i, name := range names {
		found[name] = outcomes[i]
	}
	return found
}

// checkFull demands that nothing succeeds but what is known to.
func (m matrix) checkFull(t *testing.T, names []string) {
	t.Helper()
	for _, b := range inService() {
		successes := 0
		for _, name := range names {
			reason, expected := known()[name]
			expected = expected && (b == "full" || !slices.Contains(closedByDialer(), name))
			if got := m[b][name]; got == open && !expected {
				t.Errorf("%s: %s: succeeds", b, name)
			} else if got != open && expected {
				t.Errorf("%s: %s: is known to succeed, and does not: %s (%s)", b, name, got, reason)
			} else if got == open {
				successes++
			}
		}
		t.Logf("%s: %d of %d attempts succeed, all of them known", b, successes, len(names))
	}
	for name := range known() {
		if !slices.Contains(names, name) {
			t.Errorf("%s is known, and is no attempt", name)
		}
	}
}

// checkLayers demands that each layer stops something that nothing else does, and that a
// newer landlock stops more than an older one.
func (m matrix) checkLayers(t *testing.T, names []string) {
	t.Helper()
	opened := map[string]int{}
	for _, b := range builds() {
		for _, name := range names {
			if m[b.name][name] == open {
				opened[b.name]++
			}
		}
	}
	t.Logf("%d attempts; successes: %v", len(names), opened)
	for _, order := range [][]string{
		{"full", "no landlock", "root alone", "uid alone"},
		{"full", "no root", "landlock 4"},
		{"full", "no seccomp", "landlock 4", "landlock 1", "uid alone"},
	} {
		for i := 1; i < len(order); i++ {
			if opened[order[i]] <= opened[order[i-1]] {
				t.Errorf("%q opens %d, no more than the %d of %q: a layer stops nothing", order[i], opened[order[i]], opened[order[i-1]], order[i-1])
			}
		}
	}
	for name, b := range map[string]string{
		"connect to a neighbour's socket":           "no root",
		"connect to a neighbour in an app's folder": "no root",
		"connect to a socket in /run":               "no root",
		"connect to an abstract socket":             "no landlock",
		"connect the listener out":                  "no landlock",
		"make the listener block":                   "no seccomp",
		"memfd_create":                              "no seccomp",
		"stat a file":                               "landlock 4",
		"read /etc/passwd":                          "uid alone",
		"kill its brother":                          "uid alone",
		"bind a new TCP port":                       "landlock 2",
		"ptrace its brother":                        "uid alone",
	} {
		if got := m[b][name]; got != open || m["full"][name] == open {
			t.Errorf("%s: %s in %q and %s in full, where a layer was to make the difference", name, got, b, m["full"][name])
		}
	}
}

// checkOthers demands of a keeper what it promises beyond a core, and of a warden what it
// promises at all: it starts processes and looks after them, and so may do much.
func (m matrix) checkOthers(t *testing.T) {
	t.Helper()
	for role, names := range map[string][]string{
		"keeper": {
			"connect to a neighbour's socket", "connect to its app", "disconnect the listener", "deafen the listener both ways", "accept by accept(2)",
			"local datagram socket", "read /etc/passwd", "write a file of its own", "execve a shell", "fork by clone", "give a descriptor away",
			"kill its brother", "ptrace its brother", "read its brother's memory", "map a gift", "memfd_create", "stat a file",
		},
		"warden": {
			"execve a shell", "execveat a path", "make a file in its folder", "write a file of its own", "make a folder", "make a link to a file",
			"socket of IPv4", "socket of UDP", "netlink socket", "connect the listener out", "open the listener out fast", "bind the listener elsewhere", "connect to an abstract socket",
			"limit its brother", "lay a filter that listens",
			"kill its brother", "signal its brother by a pidfd", "ptrace its brother", "read its brother's memory", "write its brother's memory",
			"read its own memory by /proc", "map memory to execute", "make memory executable", "memfd_create", "userfaultfd", "bpf", "io_uring_setup",
			"unshare a user namespace", "mount", "chroot", "setuid 0", "capset all", "be dumpable", "type into the terminal",
		},
		"dialer's own": {
			"read /etc/passwd", "write a file of its own", "execve a shell", "fork by clone", "kill its brother", "ptrace its brother",
			"connect to an abstract socket", "connect the listener out", "socket of IPv4", "socket of UDP", "map memory to execute", "memfd_create",
			"stat a file", "bind a local socket", "open its board again",
		},
	} {
		for _, name := range names {
			if got, tried := m[role][name]; !tried || got == open {
				t.Errorf("%s: %s: %q", role, name, got)
			}
		}
	}
}

// layer names what stopped an attempt in full, and what else would have.
func (m matrix) layer(name string) string {
	var layers []string
	if got := m["full"][name]; got == open {
		return "-"
	} else if got == "SIGSYS" || m["no landlock"][name] == got && m["no landlock"][name] != m["uid alone"][name] || m["no seccomp"][name] == open {
		layers = append(layers, "seccomp")
	}
	if m["no root"][name] == open || m["root alone"][name] != open && m["uid alone"][name] == open {
		layers = append(layers, "root")
	}
	if m["no landlock"][name] == open || m["landlock 4"][name] != open && m["uid alone"][name] == open {
		layers = append(layers, "landlock")
	}
	if m["uid alone"][name] != open {
		layers = append(layers, "uid")
	}
	return strings.Join(layers, ", ")
}

// String is the table.
func (m matrix) String(names []string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%-44s %-12s", "attempt", "full")
	for _, b := range builds()[1:] {
		fmt.Fprintf(&text, " %-12s", b.name)
	}
	fmt.Fprintf(&text, " stopped by\n")
	for _, name := range names {
		fmt.Fprintf(&text, "%-44s", name)
		for _, b := range builds() {
			fmt.Fprintf(&text, " %-12s", m[b.name][name])
		}
		fmt.Fprintf(&text, " %s\n", m.layer(name))
	}
	return text.String()
}

// checkGolden compares what came of the whole jail with the table. What the kernel says
// without it differs from one to the next, and is for the reader.
func (m matrix) checkGolden(t *testing.T, names []string) {
	t.Helper()
	const path = "testdata/matrix.txt"
	if *update {
		must(t, os.WriteFile(path, []byte(m.String(names)), 0o644))
	}
	golden, err := os.ReadFile(path)
	must(t, err)
	want := map[string]string{}
	for line := range strings.Lines(string(golden)) {
		if len(line) > 45 {
			want[strings.TrimSpace(line[:44])], _, _ = strings.Cut(line[45:], " ")
		}
	}
	delete(want, "attempt")
	if !maps.Equal(want, m["full"]) {
		for _, name := range names {
			if m["full"][name] != want[name] {
				t.Errorf("%s: %s, and the table says %q: run with -update", name, m["full"][name], want[name])
			}
		}
	}
}
