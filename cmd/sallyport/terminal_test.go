package main

import (
	"bufio"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pair of pseudo terminals, pty(7).
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: there are no pseudo terminals: ", err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}

// TestTerminal shows that the terminal of a start is for the log, and that a core
// can neither type into it nor read from it. The main warden is told of Ctrl-C.
func TestTerminal(t *testing.T) {
	screen, terminal := openTerminal(t)
	h := build(t, settings{})
	h.cmd.Stdin, h.cmd.Stdout, h.cmd.Stderr = terminal, terminal, terminal
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go h.reapLoop()
	defer func() { _ = h.cmd.Process.Kill(); <-h.ended }()
	found := make(chan string, 1)
	go func() {
		ready := regexp.MustCompile(`message=ready http=\[(\S+)\]`)
		for lines := bufio.NewScanner(screen); lines.Scan(); {
			if match := ready.FindStringSubmatch(lines.Text()); match != nil {
				found <- match[1]
			}
		}
	}()
	select {
	case h.address = <-found:
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	if got := h.ask("terminal"); got != "EPERM inappropriate ioctl for device, bad file descriptor" {
		t.Errorf("%s", got)
	}
	if _, err := screen.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	h.ends(exitFine)
}
