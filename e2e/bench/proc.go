package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 on everything Linux runs
// on but Alpha and IA-64.
const tick = 10 * time.Millisecond

// A stat is what is of use of /proc/PID/stat.
//
// Sources: proc_pid_stat(5).
type stat struct {
	pid, parent, session int
	state                byte
	user, system         time.Duration // its own, and that of its children it has waited for
}

// parseStat reads the line of /proc/PID/stat. The name of a process is in
// parentheses and may have parentheses and spaces in it, so the last one counts.
func parseStat(line []byte) (stat, error) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("bench: no name in %q", line)
	}
	rest := bytes.Fields(line[end+1:]) // from field 3, the state, on
	if len(rest) < 15 || len(rest[0]) != 1 {
		return stat{}, fmt.Errorf("bench: too few fields in %q", line)
	}
	s := stat{state: rest[0][0]}
	for _, one := range []struct {
		into *int
		text []byte
	}{
		{&s.pid, bytes.TrimSpace(line[:open])},
		{&s.parent, rest[4-3]},
		{&s.session, rest[6-3]},
	} {
		n, err := strconv.Atoi(string(one.text))
		if err != nil {
			return stat{}, fmt.Errorf("bench: %q: %w", line, err)
		}
		*one.into = n
	}
	var ticks [4]int64 // utime, stime, cutime, cstime
	for i := range ticks {
		n, err := strconv.ParseInt(string(rest[14-3+i]), 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("bench: %q: %w", line, err)
		}
		ticks[i] = n
	}
	s.user = time.Duration(ticks[0]+ticks[2]) * tick
	s.system = time.Duration(ticks[1]+ticks[3]) * tick
	return s, nil
}

// processes reads the stat of all processes.
func processes() ([]stat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	all := make([]stat, 0, len(paths))
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		s, err := parseStat(line)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// tree returns those of the processes that descend from root, which is one of
// them, or are of its session: those whose parent has ended are.
func tree(all []stat, root int) []stat {
	byPID := make(map[int]stat, len(all))
	for _, s := range all {
		byPID[s.pid] = s
	}
	var found []stat
	for _, s := range all {
		in := s.session == root
		for at, ok := s, true; ok && !in; at, ok = byPID[at.parent] {
			in = at.pid == root
		}
		if in {
			found = append(found, s)
		}
	}
	return found
}

// A cost is processor time.
type cost struct{ user, system time.Duration }

func (c cost) total() time.Duration { return c.user + c.system }

// costOf sums what processes have used.
func costOf(some []stat) cost {
	var sum cost
	for _, s := range some {
		sum.user += s.user
		sum.system += s.system
	}
	return sum
}

// busy is what all processors have done since the machine started.
func busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	return parseBusy(string(text))
}

// parseBusy reads the first line of /proc/stat: cpu user nice system idle
// iowait irq softirq steal. Time that the hypervisor took is not ours either.
func parseBusy(text string) (time.Duration, error) {
	words := strings.Fields(strings.SplitN(text, "\n", 2)[0])
	if len(words) < 9 || words[0] != "cpu" {
		return 0, errors.New("bench: /proc/stat begins with no line of all processors")
	}
	var sum time.Duration
	for i, word := range words[1:9] {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("bench: /proc/stat: %w", err)
		}
		if idle, waits := i == 3, i == 4; !idle && !waits {
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// memoryOf sums the proportional set size of the processes of a tree, in bytes.
func memoryOf(root int) (int64, error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, s := range tree(all, root) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has just ended
		}
		if err != nil {
			return 0, fmt.Errorf("bench: memory of a process that is not dumpable (root may read it): %w", err)
		}
		pss, err := parsePSS(string(text))
		if err != nil {
			return 0, err
		}
		sum += pss
	}
	return sum, nil
}

func parsePSS(rollup string) (int64, error) {
	for line := range strings.Lines(rollup) {
		words := strings.Fields(line)
		if len(words) == 3 && words[0] == "Pss:" && words[2] == "kB" {
			n, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("bench: smaps_rollup: %w", err)
			}
			return n << 10, nil
		}
	}
	return 0, errors.New("bench: smaps_rollup has no line Pss")
}
