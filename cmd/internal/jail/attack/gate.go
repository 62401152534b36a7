//go:build drill && amd64

package main

import "golang.org/x/sys/unix"

// oldGate makes a system call by the table of 32 bits: call_amd64.s.
func oldGate(number uint64) int64

// throughOldGate asks for the pid as a program of 32 bits would.
func throughOldGate(*scene) error {
	const getpid32 = 20
	if r := int32(oldGate(getpid32)); r < 0 {
		return unix.Errno(-r)
	}
	return nil
}
