package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/conf"
)

// The fixed ids of package conf are free on most machines. A process that runs
// under one of them without being ours has got it from somebody who keeps no
// record in /etc, such as a container's user namespace; core or keeper would
// share its fate.
const (
	fixedIDsFirst = 60578
	fixedIDsLast  = 60580
)

// A fixedID is one that nobody else may have, and the mistake that it is if somebody has.
type fixedID struct {
	ID      int
	Mistake conf.Mistake // but for the process
}

// fixedIDs are those of a plan.
func fixedIDs(plan *conf.Plan) (fixed []fixedID) {
	for _, user := range []struct {
		key, account string
		who          conf.ID
	}{
		{"user", "sallyport", plan.Users.Core},
		{"keeper_user", "sallyport-keeper", plan.Users.Keeper},
		{"registrar_user", "sallyport-registrar", plan.Users.Registrar},
	} {
		if plan.Users.Switch && user.who.Name == "" && user.who.UID >= fixedIDsFirst && user.who.UID <= fixedIDsLast {
			fixed = append(fixed, fixedID{user.who.UID, conf.Mistake{
				Place: conf.Place{File: plan.File, Key: user.key},
				Hint:  "useradd --system --no-create-home --shell /usr/sbin/nologin " + user.account,
			}})
		}
	}
	return fixed
}

// checkIDs refuses fixed ids that a process which is not ours has.
func checkIDs(fixed []fixedID) (mistakes []conf.Mistake) {
	for _, f := range fixed {
		if pid, exe := lastingStranger(f.ID); pid != 0 {
			f.Mistake.What = fmt.Sprintf("process %d (%s) has id %d, which would be ours", pid, exe, f.ID)
			mistakes = append(mistakes, f.Mistake)
		}
	}
	return mistakes
}

// strangerTime is how long a process that was killed, such as the core of a
// predecessor, may take to be gone.
const strangerTime = time.Second

// lastingStranger is strangerWith for who is still there after strangerTime.
func lastingStranger(id int) (pid int, exe string) {
	const step = strangerTime / 20
	for began := time.Now(); ; time.Sleep(step) {
		if pid, exe = strangerWith("/proc", id); pid == 0 || time.Since(began) > strangerTime {
			return pid, exe
		}
	}
}

// strangerWith finds a process that has id, as uid or gid, and is none of ours.
// The pid is 0 when there is none.
func strangerWith(proc string, id int) (pid int, exe string) {
	folders, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		panic("BUG: " + err.Error()) // the pattern is constant
	}
	for _, folder := range folders {
		if !hasID(filepath.Join(folder, "status"), strconv.Itoa(id)) {
			continue
		}
		exe, err := os.Readlink(filepath.Join(folder, "exe"))
		if os.IsNotExist(err) || isOurs(exe) && hasWarden(folder) {
			continue // it has just ended, or is a zombie
		}
		if err != nil {
			exe = "of an unknown program"
		}
		pid, _ := strconv.Atoi(filepath.Base(folder)) // the pattern lets only numbers through, mostly
		return pid, exe
	}
	return 0, ""
}

// isOurs reports whether a program is of this house: boot starts again while the
// processes of its predecessor are still about to end. The name is enough for an
// accident; what a core that was taken over has left behind has it too, and no warden.
func isOurs(exe string) bool {
	switch filepath.Base(strings.TrimSuffix(exe, " (deleted)")) {
	case "sallyport", "sallyport-core", "sallyport-keeper", "sallyport-registrar":
		return true
	default:
		return false
	}
}

// hasWarden reports whether the process in a folder of /proc is a warden or a
// descendant of one. A core that forks twice is child of a warden for as long as
// there is one, and of init afterwards.
func hasWarden(folder string) bool {
	for pid := filepath.Base(folder); pid != "" && pid != "0"; pid = parentOf(folder) {
		folder = filepath.Join(filepath.Dir(folder), pid)
		exe, _ := os.Readlink(filepath.Join(folder, "exe"))         // "" when it is gone
		command, _ := os.ReadFile(filepath.Join(folder, "cmdline")) // the same
		if isOurs(exe) && strings.HasPrefix(string(command), "sallyport\x00warden\x00") {
			return true
		}
	}
	return false
}

// parentOf is the pid of the parent of the process in a folder of /proc, "" when it
// is gone.
func parentOf(folder string) string {
	status, _ := os.ReadFile(filepath.Join(folder, "status"))
	_, rest, _ := strings.Cut(string(status), "\nPPid:\t")
	pid, _, _ := strings.Cut(rest, "\n")
	return pid
}

// hasID reports whether the process of a status file, proc_pid_status(5), has id
// as one of its uids or gids. A process that is gone has none.
func hasID(status, id string) bool {
	text, _ := os.ReadFile(status)
	// The dead do nothing more. With other threads it is only the first that has ended.
	if bytes.Contains(text, []byte("\nState:\tZ")) && bytes.Contains(text, []byte("\nThreads:\t1\n")) {
		return false
	}
	for line := range strings.Lines(string(text)) {
		name, ids, _ := strings.Cut(line, ":")
		if (name == "Uid" || name == "Gid" || name == "Groups") && slices.Contains(strings.Fields(ids), id) {
			return true
		}
	}
	return false
}
