package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
)

// This file is the command privs: what each process of a running service is and may do,
// as the kernel tells it in /proc, and where that is not what its profile gives it. How
// /proc is read is in privsproc.go.

// A privilegesReport is all that privs finds. The names of its JSON are a contract.
type privilegesReport struct {
	LandlockABI int          `json:"landlock_abi"` // of this kernel; which domain a process has is nowhere to be seen
	Processes   []privileges `json:"processes"`
}

// privileges are one process. What /proc hides from the caller is notVisible.
type privileges struct {
	Name        string            `json:"name"`
	Role        jail.Role         `json:"role"`
	PID         int               `json:"pid"`
	UIDs        string            `json:"uids"` // real, effective, saved, of files
	GIDs        string            `json:"gids"`
	Groups      string            `json:"groups"`
	Caps        map[string]string `json:"capabilities"` // inheritable, permitted, effective, bounding, ambient
	NoNewPrivs  string            `json:"no_new_privs"`
	Seccomp     string            `json:"seccomp"` // mode: 0, 1, 2
	Filters     string            `json:"seccomp_filters"`
	Dumpable    string            `json:"dumpable"` // "yes" or "no"
	CoreLimit   string            `json:"limit_core"`
	LockLimit   string            `json:"limit_memlock"`
	Root        string            `json:"root"`
	Namespaces  map[string]string `json:"namespaces"` // "own", or "as the caller's"
	Descriptors string            `json:"descriptors"`
	Threads     int               `json:"threads"`
	Drift       []string          `json:"drift"` // from the profile of its role
}

// notVisible is a fact that only root sees. It is no drift.
const notVisible = "not visible"

// privsCommand says what the processes of a running sallyport may do.
func privsCommand(args []string) int {
	flags, path := newFlags("privs")
	control := flags.String("control", "", "")
	asJSON := flags.Bool("json", false, "")
	assert := flags.Bool("assert", false, "")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	s, code, ok := askFor("privs", *control, *path)
	if !ok {
		return code
	}
	report := privilegesReport{LandlockABI: jail.LandlockABI(), Processes: procfs("/proc").all(&s)}
	if *asJSON {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			panic("BUG: " + err.Error()) // strings and numbers
		}
		fmt.Printf("%s\n", text)
	} else {
		report.print(os.Stdout)
	}
	if *assert && report.drifted() {
		return exitCheck
	}
	return exitFine
}

// drifted reports whether some process is not what its profile says.
func (r *privilegesReport) drifted() bool {
	for _, p := range r.Processes {
		if len(p.Drift) > 0 {
			return true
		}
	}
	return false
}

// print writes the report for people.
func (r *privilegesReport) print(to io.Writer) {
	fmt.Fprintf(to, "landlock ABI of this kernel: %d\n", r.LandlockABI)
	for i := range r.Processes {
		p := &r.Processes[i]
		fmt.Fprintf(to, "\n%s, pid %d, %d threads\n", p.Name, p.PID, p.Threads)
		fmt.Fprintf(to, "  uid %s   gid %s   groups %s\n", p.UIDs, p.GIDs, p.Groups)
		fmt.Fprint(to, "  capabilities")
		for _, set := range capabilitySets() {
			fmt.Fprintf(to, "   %s %s", strings.ToLower(set[3:]), short(p.Caps[set]))
		}
		fmt.Fprintf(to, "\n  no_new_privs %s   seccomp %s, filters %s   dumpable %s\n", p.NoNewPrivs, p.Seccomp, p.Filters, p.Dumpable)
		fmt.Fprintf(to, "  limits: core %s, memlock %s   descriptors %s\n", p.CoreLimit, p.LockLimit, p.Descriptors)
		fmt.Fprintf(to, "  root %s   namespaces:", p.Root)
		for _, kind := range namespaceKinds() {
			fmt.Fprintf(to, " %s %s", kind, p.Namespaces[kind])
			if kind != "net" {
				fmt.Fprint(to, ",")
			}
		}
		fmt.Fprintln(to)
		for _, drift := range p.Drift {
			fmt.Fprintf(to, "  DRIFT: %s\n", drift)
		}
	}
}

// short is a capability set without the zeros before it.
func short(set string) string {
	if set = strings.TrimLeft(set, "0"); set == "" {
		return "0"
	}
	return set
}

// demand compares the process with the profile of its role.
func (p *privileges) demand() {
	p.Drift = []string{}
	drift := func(what, got string, fine bool) {
		if !fine && got != notVisible {
			p.Drift = append(p.Drift, what+" is "+got)
		}
	}
	alone, _ := conf.OneID() // if it cannot be read, 0 is a drift
	for _, ids := range []struct{ kind, found string }{{"uid", p.UIDs}, {"gid", p.GIDs}} {
		four := strings.Fields(ids.found)
		same := len(four) == 4 && four[0] == four[1] && four[1] == four[2] && four[2] == four[3]
		drift(ids.kind, ids.found, same && (four[0] != "0" || alone))
	}
	for _, set := range capabilitySets() {
		// What the bounding set has is of no use without a permitted one, and takes
		// privilege to clear; nor is what is inheritable, where a unit forbids to clear it: the
		// start has said it if it could not.
		drift(set, p.Caps[set], set == "CapBnd" || set == "CapInh" && p.NoNewPrivs == "1" || short(p.Caps[set]) == "0")
	}
	drift("no_new_privs", p.NoNewPrivs, p.NoNewPrivs == "1")
	door, main := jail.Layers(p.Role)
	filters := jail.Filters(p.Role)
	if filters > 0 {
		drift("seccomp mode", p.Seccomp, p.Seccomp == "2")
		var found int
		_, err := fmt.Sscan(p.Filters, &found)
		drift("number of seccomp filters", p.Filters, err == nil && found >= filters)
	}
	if contains(main, "not dumpable") {
		drift("dumpable", p.Dumpable, p.Dumpable == "no")
	}
	if contains(door, "resource limits") {
		drift("limit of core files", p.CoreLimit, p.CoreLimit == "0")
		drift("limit of locked memory", p.LockLimit, p.LockLimit == "0")
	}
}

func contains(list []string, one string) bool {
	for _, name := range list {
		if name == one {
			return true
		}
	}
	return false
}

// hidden is what a fact is that could not be read.
func hidden(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return notVisible
	}
	return "gone"
}
