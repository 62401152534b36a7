package conf

import (
	"bytes"
	"os"
	"strconv"
)

// OneID reports whether this process lives in a user namespace that has one user alone,
// who is not root outside, user_namespaces(7): what `unshare -Ur` makes for anybody. There
// uid 0 is that user's own, whom no process can leave, and without capabilities it may do
// what he may, no more.
//
// It fails for who may open no file.
func OneID() (bool, error) {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && oneID(text), err
}

// oneID is OneID by the text of proc_pid_uid_map(5): lines of the first id inside, the first
// outside, and how many there are.
func oneID(text []byte) bool {
	fields := bytes.Fields(text)
	if len(fields) != 3 || string(fields[2]) != "1" {
		return false
	}
	outside, err := strconv.ParseUint(string(fields[1]), 10, 32)
	return err == nil && outside != 0
}
