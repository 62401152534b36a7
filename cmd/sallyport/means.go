package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
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

// ownMeans are those of this process, which has not left privilege yet.
func ownMeans() means {
	ambient, permitted := false, permittedSet() != 0
	for c := 0; c <= unix.CAP_LAST_CAP && !ambient; c++ {
		on, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(c), 0, 0)
		ambient = err == nil && on == 1
	}
	maps, _ := os.ReadFile("/proc/self/uid_map") // without /proc there is no namespace to speak of
	return meansOf(os.Getuid(), permitted, ambient, string(maps))
}

// permittedSet is what this thread might do.
func permittedSet() uint64 {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return 0 // a kernel without capabilities has none to give
	}
	return uint64(sets[1].Permitted)<<32 | uint64(sets[0].Permitted)
}

// meansOf are those of a process with this uid, these sets, and this map of users of its
// namespace, user_namespaces(7).
func meansOf(uid int, permitted, ambient bool, maps string) means {
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
