package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/internal/jail"
)

// soundStatus are the lines of a core as its profile has it.
func soundStatus() map[string]string {
	return map[string]string{
		"Uid": "60578\t60578\t60578\t60578", "Gid": "60578\t60578\t60578\t60578", "Groups": " ",
		"CapInh": zeroSet, "CapPrm": zeroSet, "CapEff": zeroSet, "CapBnd": zeroSet, "CapAmb": zeroSet,
		"NoNewPrivs": "1", "Seccomp": "2", "Seccomp_filters": "3",
	}
}

const zeroSet = "0000000000000000"

// fakeProc writes what the kernel would say of a process with two threads.
func fakeProc(t *testing.T, core string, lines, second map[string]string) procfs {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{"/7/task/7", "/7/task/8", "/7/fd"} {
		if err := os.MkdirAll(dir+folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, facts := range map[string]map[string]string{"/7/status": lines, "/7/task/7/status": lines, "/7/task/8/status": second} {
		var text strings.Builder
		for _, name := range slices.Sorted(maps.Keys(facts)) {
			fmt.Fprintf(&text, "%s:\t%s\n", name, facts[name])
		}
		write(t, filepath.Join(dir, path), text.String(), 0o444)
	}
	write(t, dir+"/7/limits", "Max core file size        0                    "+core+"                    bytes     \n"+
		"Max locked memory         0                    0                    bytes     \n", 0o444)
	return procfs(dir)
}

// TestPrivsDrift shows that each thing that is not as the profile has it is named.
func TestPrivsDrift(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: only root makes what looks like a process that is not dumpable")
	}
	if !slices.Contains(layersOfCore(), "seccomp core") {
		t.Fatal("the profile of a core has no filter")
	}
	for _, c := range []struct {
		name, fact, value, core string
		thread                  bool // only the second thread differs
		want                    string
	}{
		{name: "sound"},
		{name: "root", fact: "Uid", value: "0\t0\t0\t0", want: "uid is 0 0 0 0"},
		{name: "may go back", fact: "Uid", value: "60578\t60578\t0\t60578", want: "uid is 60578 60578 0 60578"},
		{name: "group of root", fact: "Gid", value: "0\t0\t0\t0", want: "gid is 0 0 0 0"},
		{name: "capability", fact: "CapPrm", value: "0000000000000400", want: "CapPrm is 0000000000000400"},
		{name: "ambient capability", fact: "CapAmb", value: "0000000000000400", want: "CapAmb is 0000000000000400"},
		{name: "bounding set", fact: "CapBnd", value: "0000000000000400"},
		{name: "new privileges", fact: "NoNewPrivs", value: "0", want: "no_new_privs is 0"},
		{name: "no filter", fact: "Seccomp", value: "0", want: "seccomp mode is 0"},
		{name: "one filter less", fact: "Seccomp_filters", value: "2", want: "number of seccomp filters is 2"},
		{name: "core files", core: "unlimited", want: "limit of core files is unlimited"},
		{name: "one thread", fact: "Seccomp_filters", value: "2", thread: true, want: "Seccomp_filters of thread 8 is 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines, second := soundStatus(), soundStatus()
			if c.fact != "" {
				if second[c.fact] = c.value; !c.thread {
					lines[c.fact] = c.value
				}
			}
			if c.core == "" {
				c.core = "0"
			}
			p := fakeProc(t, c.core, lines, second).of("core", jail.Core, 7)
			if c.want == "" && len(p.Drift) > 0 || c.want != "" && !slices.Equal(p.Drift, []string{c.want}) {
				t.Errorf("%q, want %q", p.Drift, c.want)
			}
		})
	}
}

func layersOfCore() []string {
	_, main := jail.Layers(jail.Core)
	return main
}

// TestPrivsGone shows that a process which is not there is a drift.
func TestPrivsGone(t *testing.T) {
	proc := procfs(t.TempDir())
	if p := proc.of("core", jail.Core, 7); !slices.Equal(p.Drift, []string{"process is gone"}) {
		t.Errorf("%q", p.Drift)
	}
}

// TestPrivsChildren shows that the processes of a sibling are found by their parent.
func TestPrivsChildren(t *testing.T) {
	s := &status{PID: os.Getpid(), Processes: []processStatus{{Name: "core"}, {Name: "keeper warden", PID: os.Getpid()}}}
	names := []string{}
	for _, p := range procfs("/proc").all(s) {
		names = append(names, p.Name+" "+string(p.Role))
	}
	if !slices.Equal(names[:2], []string{"main warden warden", "keeper warden warden"}) {
		t.Errorf("%q", names)
	}
}
