package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process is one of ours, known by the file it executes: its name in ps is
// cut at 15 characters and may be anything.
type process struct {
	pid  int
	name string // "sallyport", "sallyport-core", "sallyport-keeper"
}

func (p process) String() string { return fmt.Sprintf("%s[%d]", p.name, p.pid) }

// kill ends the process as nothing else does. That it is gone already is fine.
func (p process) kill() { _ = syscall.Kill(p.pid, syscall.SIGKILL) }

// ours lists the processes that execute a binary under test.
func ours() []process { return running(os.Getenv(binEnv)) }

// running lists the processes that execute a file of a folder.
func running(dir string) []process {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	var found []process
	for _, link := range links {
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			continue // not a process
		}
		exe, err := os.Readlink(link) // fails for zombies and for those that just ended
		if errors.Is(err, fs.ErrPermission) && os.Getuid() != 0 {
			exe = dir + "/" + claimed(pid)
		}
		name, is := strings.CutPrefix(strings.TrimSuffix(exe, " (deleted)"), dir+"/")
		if is && name != "" && !strings.Contains(name, "/") { // below are programs of tests
			found = append(found, process{pid, name})
		}
	}
	return found
}

// claimed is the name by which a process of this user calls itself, if it is
// one of ours. Only root sees what a process that is not dumpable executes.
func claimed(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	facts, statusErr := status(fmt.Sprintf("/proc/%d/status", pid))
	name, _, _ := strings.Cut(string(line), "\x00")
	name = filepath.Base(name)
	if err != nil || statusErr != nil || !strings.HasPrefix(facts["Uid"], strconv.Itoa(os.Getuid())+" ") {
		return ""
	}
	if name != "sallyport" && !strings.HasPrefix(name, "sallyport-") {
		return ""
	}
	return name
}

// named returns the one process of ours with this name; it waits for it, since
// a killed one comes back only after a while.
func named(t *testing.T, name string) process {
	t.Helper()
	var one process
	await(t, "one process "+name, func() bool {
		count := 0
		for _, p := range ours() {
			if p.name == name {
				one, count = p, count+1
			}
		}
		return count == 1
	})
	return one
}

// status reads the facts of one thread of a process: field name to value.
func status(path string) (map[string]string, error) {
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

// window is how much of a process's memory is looked at in one piece. Pieces
// overlap by the longest needle.
const window = 1 << 20

// scan looks for byte strings in all readable memory of a process and returns
// how often each one was found. It needs root: our processes are not dumpable.
func scan(t *testing.T, pid int, needles map[string][]byte) map[string]int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	found := map[string]int{}
	read := 0
	for region := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if n, _ := fmt.Sscanf(region, "%x-%x %s", &from, &to, &mode); n != 3 || mode[0] != 'r' {
			continue
		}
		if strings.Contains(region, "[vvar") || strings.Contains(region, "[vsyscall]") {
			continue // the kernel's own, not readable this way
		}
		read += scanRegion(io.NewSectionReader(mem, from, to-from), needles, found)
	}
	if read < window {
		t.Fatalf("only %d bytes of the memory of %d could be read", read, pid)
	}
	return found
}

// scanRegion adds to found what is in one region, and says how much it read.
func scanRegion(region io.Reader, needles map[string][]byte, found map[string]int) (read int) {
	longest := 0
	for _, needle := range needles {
		longest = max(longest, len(needle))
	}
	buffer := make([]byte, window)
	kept := 0
	for {
		n, err := io.ReadFull(region, buffer[kept:])
		read += n
		seen := buffer[:kept+n]
		for name, needle := range needles {
			if bytes.Contains(seen, needle) {
				found[name]++
			}
		}
		if err != nil {
			return read
		}
		kept = copy(buffer, seen[len(seen)-longest:])
	}
}

// await waits until something is so, and ends the test when it is not in time.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	if !until(patience, so) {
		t.Fatalf("waited %v in vain for: %s", patience, what)
	}
}

// until asks every few milliseconds whether something is so, up to a limit.
func until(limit time.Duration, so func() bool) bool {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}
