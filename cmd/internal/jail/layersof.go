package jail

import (
	"slices"
	"strings"
)

// Layers are the names of what a role gives away: at the door, and in its main, at the
// first statement and when it is wired.
func Layers(role Role) (door, main []string) {
	row := profiles()[role]
	for _, l := range row.door {
		door = append(door, l.name)
	}
	for _, l := range slices.Concat(row.seal, row.confine) {
		main = append(main, l.name)
	}
	return door, main
}

// Filters is how many filters of system calls a process of a role has at least: its own,
// and that of its warden.
func Filters(role Role) int {
	count := 0
	door, main := Layers(role)
	for _, name := range slices.Concat(door, main) {
		if strings.HasPrefix(name, seccompPrefix) {
			count++
		}
	}
	if role == Core || role == Keeper || role == Dialer || role == Registrar {
		count++
	}
	return count
}

// seccompPrefix begins the names of the layers that are filters.
const seccompPrefix = "seccomp "

// KeepsConnect reports whether landlock keeps connect(2) to sockets in the file system: from
// TCP, by which a disconnected listener leads out, and from abstract sockets.
func KeepsConnect() bool { return landlockABI() >= abiScopes }

// LandlockABI is the version of landlock that this kernel has, 0 for none.
func LandlockABI() int { return landlockABI() }
