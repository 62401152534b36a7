package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// quietVariable tells a benchmark that it is where withdraw has put it.
const quietVariable = "SALLYPORT_BENCH_NETWORK"

// congestion is the file that names how TCP finds its speed.
const congestion = "/proc/sys/net/ipv4/tcp_congestion_control"

// withdraw goes on in a network namespace of its own, with nothing but loopback: nobody
// else's packets are there, and TCP is as Debian has it. BBR, which some hosts set, wakes a
// timer for every burst: a large body then costs twice or three times as much of every
// proxy, and the figures are those of the timer. Without root all stays as it is.
func withdraw() error {
	if os.Getuid() != 0 || os.Getenv(quietVariable) != "" {
		return nil
	}
	runtime.LockOSThread() // it is its namespace that the program below inherits
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("bench: a network namespace: %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("bench: loopback: %w", err)
	}
	// Cubic is Debian's; where a namespace may not have it (tcp(7), tcp_allowed_congestion_control),
	// reno does not pace either. The machine's line says which it was.
	if err := os.WriteFile(congestion, []byte("cubic"), 0); err != nil {
		if err = errors.Join(err, os.WriteFile(congestion, []byte("reno"), 0)); tcp() != "reno" {
			return fmt.Errorf("bench: congestion control: %w", err)
		}
	}
	err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), quietVariable+"=1"))
	return fmt.Errorf("bench: run again: %w", err)
}

// tcp is how TCP finds its speed here.
func tcp() string {
	name, err := os.ReadFile(congestion)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(name))
}

// raiseLoopback brings the interface up, as `ip link set lo up`.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("ioctl", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request))
}
