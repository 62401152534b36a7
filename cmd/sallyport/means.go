package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// This file knows by what means a start may do more than its user: which, for the
// operator, is the answer to whether anything had to be root.

// A means is what a start had beyond the rights of an ordinary user.
type means string

const (
	meansNone      means = "none"
	meansRoot      means = "root"
	meansNamespace means = "root of a user namespace"
	meansAmbient   means = "ambient capabilities" // of a supervisor: they end with this start
	meansFile      means = "file capabilities"    // of the binary: anybody who executes it has them
)

// meansOf are those of a process with this uid, this proc_pid_status(5), and this map of users of
// its namespace, user_namespaces(7).
func meansOf(uid int, status, maps string) means {
	permitted, ambient := hasCapability(status, "CapPrm"), hasCapability(status, "CapAmb")
	switch {
	case uid == 0 && usersOf(maps) != everyUser:
		return meansNamespace
	case uid == 0:
		return meansRoot
	case permitted && ambient:
		return meansAmbient
	case permitted:
		return meansFile
	default:
		return meansNone
	}
}

// hasCapability reports whether a set of a status has any in it. Without /proc there is none to
// speak of.
func hasCapability(status, set string) bool {
	_, rest, _ := strings.Cut(status, "\n"+set+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Trim(line, "\t 0") != ""
}

// everyUser is the number of users of a machine: "the initial user namespace ... 0 0
// 4294967295", user_namespaces(7).
const everyUser = 1<<32 - 1

// usersOf is how many users there are in a namespace.
func usersOf(maps string) (users uint64) {
	for line := range strings.Lines(maps) {
		var inside, outside, length uint64
		if n, _ := fmt.Sscan(line, &inside, &outside, &length); n == 3 {
			users += length
		}
	}
	if users == 0 { // it could not be read
		return everyUser
	}
	return users
}

// say tells what the operator might want to have otherwise.
func (m means) say(log *slog.Logger) {
	if m != meansFile {
		return
	}
	program, err := os.Readlink(selfPath)
	if err != nil {
		program = "sallyport"
	}
	log.Warn("file capability used", "program", program, "reason", "whoever may execute this file may bind any port with it, sallyport or not",
		"hint", "setcap -r "+program+"; let a service manager give the capability (AmbientCapabilities=CAP_NET_BIND_SERVICE) or the sockets: conf/systemd")
}
