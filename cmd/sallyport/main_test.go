package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// TestMain is also the programs of the tests: copies of this test binary are
// sallyport itself and stand-ins for core and keeper.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "sallyport":
		main()
	case "sallyport-core":
		os.Exit(standIn(jail.Core, core))
	case "sallyport-keeper":
		os.Exit(standIn(jail.Keeper, keeper))
	case "sallyport-app":
		os.Exit(appLife())
	default:
		if !jail.Off() {
			fmt.Fprintln(os.Stderr, "the stand-ins do what a jail forbids: run these tests with -race, or with -tags jail_off")
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
}

// standIn begins as every child does, and fails if the door was not the way in.
func standIn(role jail.Role, life func(gifts sockets.Gifts) error) int {
	err := jail.Seal(role)
	if err == nil {
		var gifts sockets.Gifts
		if os.Args[1] == "--check" {
			os.Args, life = slices.Delete(os.Args, 1, 2), checks
		}
		if gifts, err = sockets.TakeGifts(os.Args[2]); err == nil {
			err = life(gifts)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func ready(gifts sockets.Gifts) error {
	fd, err := gifts.FD("ready")
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte("r")); err != nil {
		return err
	}
	return unix.Close(fd)
}

// checks is what a keeper with --check does. The key of a test that wants a failure says so.
func checks(gifts sockets.Gifts) error {
	key, err := gifts.FD("key0")
	if err != nil {
		return err
	}
	text := make([]byte, 100)
	n, err := unix.Pread(key, text, 0)
	if err != nil || string(text[:n]) == "bad" {
		return fmt.Errorf("bad key (%v)", err)
	}
	return nil
}

// keeper is ready until it is asked to end.
func keeper(gifts sockets.Gifts) error {
	if err := checks(gifts); err != nil {
		return err
	}
	if _, err := gifts.FD("adopt"); err != nil {
		return err
	}
	signal.Ignore(unix.SIGTERM)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR2)
	if err := ready(gifts); err != nil {
		return err
	}
	<-signals
	return nil
}

// core obeys one word per connection, until TERM; then it ends with the last
// connection. For fail.test it fails at once, for never.test it is never ready.
//
//	pid        says its pid
//	row        says its row
//	sockets    says how many sockets it has
//	exit N     ends
//	orphan     starts a process that loses its parent, and says its pid
//	unlisten   disconnects the listener
//	terminal   says what it may do with the terminal on stderr, as errnos
//	stay       says its pid and keeps the connection likewise
//	hold       says "held" and keeps the connection until the client closes it
func core(gifts sockets.Gifts) error {
	listener, err := gifts.FD("http0")
	if err != nil {
		return err
	}
	plan, err := gifts.FD("plan")
	if err != nil {
		return err
	}
	text, err := sockets.ReadSealed(plan)
	if err != nil || strings.Contains(string(text), "fail.test") {
		return fmt.Errorf("told to fail (%v)", err)
	}
	door, err := net.FileListener(os.NewFile(uintptr(listener), "http0"))
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	if !strings.Contains(string(text), "never.test") {
		if err := ready(gifts); err != nil {
			return err
		}
	}
	var guests sync.WaitGroup
	go acceptLoop(door, listener, &guests)
	<-signals
	door.Close()
	unix.Close(listener)
	go cutLoop(signals)
	guests.Wait()
	return nil
}

// cutLoop waits for the signal that ends all guests at once. It ends with the process.
func cutLoop(signals chan os.Signal) {
	for s := range signals {
		if s == unix.SIGUSR2 {
			os.Exit(0)
		}
	}
}

// acceptLoop ends with the door. A door that does not listen is expected to heal.
func acceptLoop(door net.Listener, listener int, guests *sync.WaitGroup) {
	for {
		guest, err := door.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			guests.Go(func() { obey(guest, listener) })
		}
	}
}

func obey(client net.Conn, listener int) {
	defer client.Close()
	buffer := make([]byte, 100)
	n, err := client.Read(buffer)
	if err != nil {
		return
	}
	word, argument, _ := strings.Cut(string(buffer[:n]), " ")
	answer := "?"
	switch word {
	case "pid":
		answer = strconv.Itoa(os.Getpid())
	case "row":
		answer = os.Args[4]
	case "sockets":
		answer = strconv.Itoa(countSockets())
	case "exit":
		code, _ := strconv.Atoi(argument)
		os.Exit(code)
	case "orphan":
		out, _ := exec.Command("/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!").Output() // "" is no pid
		answer = strings.TrimSpace(string(out))
	case "unlisten":
		unspecified := new([16]byte)
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(listener), uintptr(unsafe.Pointer(unspecified)), 16)
		answer = strconv.Itoa(int(errno))
	case "terminal":
		answer = tryTerminal(2)
	case "stay":
		_, _ = io.WriteString(client, strconv.Itoa(os.Getpid())) // as below
		_, _ = io.Copy(io.Discard, client)
		return
	case "hold":
		_, _ = io.WriteString(client, "held") // the client sees it, or not
		_, _ = io.Copy(io.Discard, client)
		return
	}
	_, _ = io.WriteString(client, answer)
}

// tryTerminal types into a terminal, takes it over, and reads from it.
func tryTerminal(fd int) string {
	signal.Ignore(unix.SIGTTOU, unix.SIGTTIN)
	letter, group := byte('x'), unix.Getpgrp()
	_, _, types := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&letter)))
	takes := unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group)
	_, reads := unix.Read(fd, make([]byte, 1))
	return fmt.Sprint(unix.ErrnoName(types), " ", takes, ", ", reads)
}

func countSockets() (n int) {
	for fd := range 100 {
		target, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)) // "" where none is open
		if strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}

func TestCommandUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		want int
	}{
		{"", exitUsage},
		{"nonsense", exitUsage},
		{"help", exitFine},
		{"version", exitFine},
		{"run -h", exitFine},
		{"run --nonsense", exitUsage},
		{"run extra", exitUsage},
		{"run --ready-fd x", exitUsage},
		{"run --ready-fd 977", exitUsage},
		{"run -c absent.toml", exitMistake},
		{"check -c absent.toml", exitMistake},
		{"stop -c absent.toml", exitMistake},
		{"stop --control /nonexistent/x.sock", exitMistake},
		{"reload extra", exitUsage},
		{"reload -c absent.toml", exitMistake},
		{"reload --control /nonexistent/x.sock", exitMistake},
		{"status -c absent.toml", exitMistake},
		{"status --control /nonexistent/x.sock", exitCheck},
		{"status extra", exitUsage},
		{"serve", exitUsage},
		{"serve --", exitUsage},
		{"serve --listen", exitUsage},
		{"serve unix:/x -- gunicorn", exitUsage},
		{"serve unix:/x unix:/y", exitUsage},
		{"serve unix:/x --user joe", exitUsage},
		{"serve unix:/x --listen 8080", exitMistake},
		{"serve --ready-fd 977 unix:/x", exitUsage},
		{"serve --help", exitFine},
		{"stage", exitMistake},
		{"stage no-gift! {} / program", exitMistake},
		{"stage  nonsense / program", exitMistake},
		{"warden main plan", exitMistake},
	} {
		run := exec.Command(os.Args[0], strings.Fields(c.args)...)
		run.Args[0] = "sallyport"
		out, _ := run.CombinedOutput() // the exit code is in ProcessState
		if got := run.ProcessState.ExitCode(); got != c.want {
			t.Errorf("sallyport %s: %d, want %d\n%s", c.args, got, c.want, out)
		}
	}
}
