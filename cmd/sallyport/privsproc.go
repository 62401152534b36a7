package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sallyport/cmd/internal/jail"
)

// A procfs is the folder where the kernel tells of processes.
type procfs string

func capabilitySets() []string { return []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} }

func namespaceKinds() []string { return []string{"user", "mnt", "pid", "net"} }

// all are the privileges of every process of a service: those that the main warden knows,
// and the children of its siblings.
func (proc procfs) all(s *status) []privileges {
	found := []privileges{proc.of("main warden", jail.Warden, s.PID)}
	for _, p := range s.Processes {
		if p.PID == 0 {
			continue // it does not run
		}
		name, warden := strings.CutSuffix(p.Name, " warden")
		if !warden {
			found = append(found, proc.of(name, roleOf(name), p.PID))
			continue
		}
		role, child := jail.Warden, jail.Keeper
		switch name {
		case "app":
			role, child = jail.AppWarden, jail.App
		case "registrar":
			role, child = jail.RegistrarWarden, jail.Registrar
		}
		found = append(found, proc.of(p.Name, role, p.PID))
		for _, pid := range proc.children(p.PID) {
			found = append(found, proc.of(name, child, pid))
		}
	}
	dialing := slices.ContainsFunc(found, func(p privileges) bool { return p.Role == jail.Dialer })
	for i := range found {
		if p := &found[i]; p.Role == jail.Core && p.Root == "/" && !dialing && !jail.Off() {
			p.Drift = append(p.Drift, "root is "+p.Root+", and there is no dialer")
		}
	}
	return found
}

// roleOf is the role of a process that is no warden's, by its name.
func roleOf(name string) jail.Role {
	switch name {
	case "dialer":
		return jail.Dialer
	case "mason":
		return jail.Mason
	case string(jail.Scribe):
		return jail.Scribe
	}
	return jail.Core
}

// children are the pids of a process's children.
func (proc procfs) children(pid int) (pids []int) {
	lists, _ := filepath.Glob(filepath.Join(string(proc), strconv.Itoa(pid), "task", "*", "children")) // the pattern is right
	for _, list := range lists {
		text, _ := os.ReadFile(list) // "" when the thread has ended
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	slices.Sort(pids)
	return pids
}

// of are the privileges of one process. A thread that differs from the others is a drift.
func (proc procfs) of(name string, role jail.Role, pid int) privileges {
	dir := filepath.Join(string(proc), strconv.Itoa(pid))
	p := privileges{Name: name, Role: role, PID: pid, Caps: map[string]string{}, Namespaces: map[string]string{}}
	facts, err := statusFacts(dir + "/status")
	if err != nil {
		p.Drift = []string{"process is " + hidden(err)}
		return p
	}
	p.UIDs, p.GIDs, p.Groups = facts["Uid"], facts["Gid"], facts["Groups"]
	for _, set := range capabilitySets() {
		p.Caps[set] = facts[set]
	}
	p.NoNewPrivs, p.Seccomp, p.Filters = facts["NoNewPrivs"], facts["Seccomp"], facts["Seccomp_filters"]
	p.Dumpable = dumpable(dir)
	p.CoreLimit, p.LockLimit = limitsOf(dir)
	p.Root = rootOf(dir + "/root")
	for _, kind := range namespaceKinds() {
		p.Namespaces[kind] = proc.namespace(dir, kind)
	}
	descriptors, err := os.ReadDir(dir + "/fd")
	if p.Descriptors = strconv.Itoa(len(descriptors)); err != nil {
		p.Descriptors = hidden(err)
	}
	p.demand()
	threads, _ := filepath.Glob(dir + "/task/*/status") // the pattern is right
	p.Threads = len(threads)
	for _, thread := range threads {
		theirs, err := statusFacts(thread)
		if err != nil {
			continue // it has just ended
		}
		for _, fact := range append(capabilitySets(), "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters") {
			if theirs[fact] != facts[fact] {
				p.Drift = append(p.Drift, fmt.Sprintf("%s of thread %s is %s", fact, filepath.Base(filepath.Dir(thread)), theirs[fact]))
			}
		}
	}
	return p
}

// rootOf is what a process has for a root: "/" where it is the caller's, else what there is.
func rootOf(link string) string {
	if _, err := os.Readlink(link); err != nil {
		return hidden(err)
	}
	theirs, err := os.Stat(link + "/")
	ours, oursErr := os.Stat("/")
	if err != nil || oursErr != nil {
		return hidden(err)
	}
	if os.SameFile(theirs, ours) {
		return "/"
	}
	budget := rootEntriesMax
	folders := mountedIn(link, "", device(theirs), &budget)
	switch {
	case budget < 0:
		return "another" // of a container, say
	case len(folders) == 0:
		return "empty"
	}
	return "empty, but for " + strings.Join(folders, " ")
}

// rootEntriesMax is how many names are looked at in the root of a process.
const rootEntriesMax = 4096

// mountedIn are the folders below a root that are of another file system than it, as far as
// the budget goes.
func mountedIn(root, below string, own uint64, budget *int) (folders []string) {
	entries, _ := os.ReadDir(root + below + "/") // none, if it is gone
	for _, entry := range entries {
		if *budget--; *budget < 0 {
			return folders
		}
		path := below + "/" + entry.Name()
		info, err := os.Stat(root + path)
		switch {
		case err != nil || !info.IsDir():
		case device(info) != own:
			folders = append(folders, path)
		default:
			folders = append(folders, mountedIn(root, path, own, budget)...)
		}
	}
	return folders
}

func device(info os.FileInfo) uint64 {
	if stat, is := info.Sys().(*syscall.Stat_t); is {
		return stat.Dev
	}
	return 0
}

// statusFacts are the lines of proc_pid_status(5).
func statusFacts(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		facts[name] = strings.Join(strings.Fields(value), " ")
	}
	return facts, nil
}

// dumpable is seen by who owns the files of a process: "the files inside each /proc/pid
// directory are normally owned by the effective user ... of the process", and by root
// where it is not dumpable, proc_pid(5).
func dumpable(dir string) string {
	entry, err := os.Stat(dir + "/status")
	if err != nil {
		return hidden(err)
	}
	if owner, is := entry.Sys().(*syscall.Stat_t); is && owner.Uid == 0 {
		return "no"
	}
	// A namespace without ids, as that of a core is, has no root: it is the machine's then, who
	// is nobody here in a container. The folder of a process is its user's in any case.
	if ids, err := os.ReadFile(dir + "/uid_map"); err == nil && len(ids) == 0 {
		folder, folderErr := os.Stat(dir)
		if folderErr != nil || !sameOwner(folder, entry) {
			return "no"
		}
		return "yes"
	}
	theirs, theirErr := os.Readlink(dir + "/ns/user")
	mine, err := os.Readlink(filepath.Dir(dir) + "/self/ns/user")
	if theirErr != nil || err != nil || theirs != mine {
		return notVisible // the root of its namespace may be somebody else here
	}
	return "yes"
}

// limitsOf are the hard limits of core files and of locked memory, in bytes.
func limitsOf(dir string) (core, locked string) {
	text, err := os.ReadFile(dir + "/limits")
	if err != nil {
		return hidden(err), hidden(err)
	}
	for line := range strings.Lines(string(text)) {
		for name, to := range map[string]*string{"Max core file size": &core, "Max locked memory": &locked} {
			if values, found := strings.CutPrefix(line, name); found {
				if fields := strings.Fields(values); len(fields) > 1 {
					*to = fields[1]
				}
			}
		}
	}
	return core, locked
}

// namespace says whether a process has another one than the caller.
func (proc procfs) namespace(dir, kind string) string {
	theirs, err := os.Readlink(dir + "/ns/" + kind)
	if err != nil {
		return hidden(err)
	}
	if mine, err := os.Readlink(string(proc) + "/self/ns/" + kind); err != nil || mine != theirs {
		return "own"
	}
	return "as the caller's"
}

func sameOwner(a, b os.FileInfo) bool {
	one, is := a.Sys().(*syscall.Stat_t)
	other, also := b.Sys().(*syscall.Stat_t)
	return is && also && one.Uid == other.Uid
}
