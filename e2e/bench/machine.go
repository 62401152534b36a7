package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A machine is where and with what the figures were made.
type machine struct {
	Date     string            `json:"date"`
	Commit   string            `json:"commit"` // of sallyport; "+" after it: with changes
	System   string            `json:"system"`
	Kernel   string            `json:"kernel"`
	TCP      string            `json:"tcp"` // congestion control
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Memory   int64             `json:"memory_mib"`
	Go       string            `json:"go"`
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds"`
	Minutes  float64           `json:"minutes"`
	Root     bool              `json:"root"`
	Versions map[string]string `json:"versions"` // by peer, and of wrk
}

func (b *bench) machine() (machine, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return machine{}, fmt.Errorf("bench: uname: %w", err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return machine{}, fmt.Errorf("bench: sysinfo: %w", err)
	}
	m := machine{
		Date:     time.Now().UTC().Format(time.RFC3339),
		Commit:   commit(),
		System:   field("/etc/os-release", `PRETTY_NAME="(.*)"`),
		Kernel:   unix.ByteSliceToString(name.Release[:]),
		TCP:      tcp(),
		CPU:      field("/proc/cpuinfo", `model name\s*: (.*)`),
		Cores:    runtime.NumCPU(),
		Memory:   int64(info.Totalram) * int64(info.Unit) >> 20,
		Go:       runtime.Version(),
		Rounds:   b.rounds,
		Seconds:  b.seconds,
		Root:     os.Getuid() == 0,
		Versions: map[string]string{"wrk": versionOf(peer{argv: []string{b.wrkPath}, exe: b.wrkPath, header: header{version: []string{"-v"}}})},
	}
	for _, p := range b.peers {
		if p.header.program != ours { // that is the commit
			m.Versions[p.name] = versionOf(p)
		}
	}
	return m, nil
}

// field is what an expression finds in a file, for people.
func field(path, expression string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	found := regexp.MustCompile(`(?m)^` + expression + `$`).FindSubmatch(text)
	if found == nil {
		return "unknown"
	}
	return string(found[1])
}

// commit is the one that is checked out; "unknown" without git or its folder.
func commit() string {
	head, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	changes, err := exec.Command("git", "--no-optional-locks", "status", "--porcelain", "--", ".", ":!e2e", ":!*.md").Output()
	mark := ""
	if err != nil || len(changes) > 0 {
		mark = "+"
	}
	return strings.TrimSpace(string(head)) + mark
}

// versionOf asks a program for its version. Go programs have it in them.
func versionOf(p peer) string {
	if info, err := buildinfo.ReadFile(p.exe); err == nil {
		return strings.TrimSpace(info.Main.Version + " " + info.GoVersion)
	}
	argv := append(append([]string{}, p.argv...), p.header.version...)
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	var status *exec.ExitError // wrk says its version with exit code 1
	if err != nil && !errors.As(err, &status) {
		return "unknown"
	}
	return parseVersion(string(out))
}

// parseVersion takes the first thing that looks like a version, and the last
// OpenSSL that is named: the one that it runs with.
func parseVersion(text string) string {
	version := regexp.MustCompile(`\d+\.\d+\S*`).FindString(text)
	if all := regexp.MustCompile(`OpenSSL \d[\w.]*`).FindAllString(text, -1); len(all) > 0 {
		version += ", " + all[len(all)-1]
	}
	return version
}
