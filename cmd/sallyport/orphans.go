package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killOrphans kills what wards have left behind: the children of this warden that
// are neither wards, nor who checks their files, nor were there before it. What such a child has started comes
// to us by its death, which is the occasion to look again. While an app runs its
// orphans are its own affair. It reports whether there were any; those of another
// uid, which came to us as pid 1, do not count.
func (w *warden) killOrphans() (some bool) {
	wards := map[int]bool{w.renewals.pid: true}
	for _, ward := range w.wards {
		if ward.plan.App != nil && ward.pid != 0 {
			return false
		}
		wards[ward.pid] = true
	}
	for _, pid := range ownChildren() {
		if !wards[pid] && !w.before[pid] && unix.Kill(pid, unix.SIGKILL) == nil {
			some = true
		}
	}
	return some
}

// ownChildren lists the children of this process, proc_tid_children(5), the dead
// among them too. Each belongs to one of our threads.
func ownChildren() []int {
	lists, _ := filepath.Glob("/proc/self/task/[0-9]*/children") // the pattern is right
	var pids []int
	for _, list := range lists {
		text, _ := os.ReadFile(list) // "" when the thread has ended: another has its children
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
