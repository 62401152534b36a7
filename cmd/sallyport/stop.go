package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// stopCommand asks the main warden to end and waits until it has.
func stopCommand(args []string) int {
	return atControl("stop", args, func(control string) error { return stop(control, jail.Leave) })
}

// atControl runs what a command does at the control socket that its arguments name, and
// returns the exit code.
func atControl(command string, args []string, do func(control string) error) int {
	flags, path := newFlags(command)
	control := flags.String("control", "", "")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	if *control == "" {
		found, mistakes := controlOf(*path)
		if found == "" {
			return complain(mistakes)
		}
		*control = found
	}
	if err := do(*control); err != nil {
		fmt.Fprintf(os.Stderr, "sallyport %s: %s: %v\n", command, *control, err)
		if hint := stopHint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint: "+hint)
		}
		return exitMistake
	}
	return exitFine
}

// controlOf is the control socket of the configuration at path, or "" and why there is none.
func controlOf(path string) (string, []conf.Mistake) {
	a := consult(inquiry{Command: "control", Path: path})
	return a.Control, a.Mistakes
}

// stop gives the order and waits for the end of file that is the end of the
// process: its descriptors are closed when nothing of it runs any more. leave gives the
// caller's privilege away once it is connected.
func stop(control string, leave func() error) error {
	fd, err := callControl(control)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := leave(); err != nil { // who has called counts, and what is said takes no privilege to read
		return err
	}
	if err := confirmed(fd, orderStop); err != nil {
		return err
	}
	answer := make([]byte, orderBytesMax)
	for err == nil {
		_, _, err = sockets.Receive(fd, answer)
	}
	if hungUp(err) {
		return nil
	}
	return err
}

// confirmed gives an order and waits for the word that it counts. What comes after that
// may take as long as a drain does.
func confirmed(fd int, o order, along ...int) error {
	answer := make([]byte, orderBytesMax)
	n, _, err := ask(fd, o, answer, along...)
	if err == nil && order(answer[:n]) != o {
		return errRefused
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{})
	}
	return err
}

// errRefused is what a caller sees whose order does not count.
var errRefused = errors.New("the order was refused; the log of sallyport says why")

// answerTime is how long an answer may take: the callers before this one may each
// be given orderTime.
const answerTime = 5 * time.Second

// ask gives an order, with descriptors if some belong to it, and waits for its answer, which
// may have some too, for answerTime.
func ask(fd int, o order, answer []byte, along ...int) (n int, descriptors []int, err error) {
	if err = sockets.Send(fd, []byte(o), along...); err == nil || hungUp(err) { // who has hung up may have said why
		n, descriptors, err = sockets.Receive(fd, answer)
	}
	switch {
	case hungUp(err):
		err = errRefused
	case errors.Is(err, unix.EAGAIN):
		err = silenceOf(fd)
	}
	return n, descriptors, err
}

// A silence is a main warden that does not answer.
type silence struct {
	pid   int
	state string // a letter of proc_pid_stat(5); "" when it is not to be seen
}

func (s *silence) Error() string {
	return fmt.Sprintf("no answer from process %d, whose state is %q", s.pid, s.state)
}

// hint says what makes it answer, or ends it.
func (s *silence) hint() string {
	if s.state == "T" || s.state == "t" {
		return fmt.Sprintf("it is stopped: kill -CONT %d", s.pid)
	}
	return fmt.Sprintf("if it stays so, kill -KILL %d ends it with all its processes", s.pid)
}

// silenceOf says who does not answer on a connection: "the credentials ... in
// effect at the time of the call to listen(2)" are those of boot, whose pid the main
// warden has.
func silenceOf(fd int) error {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err
	}
	s := &silence{pid: int(peer.Pid)}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", peer.Pid)) // "" when it is not to be seen
	if end := bytes.LastIndexByte(stat, ')'); end > 0 && len(stat) > end+2 {
		s.state = string(stat[end+2])
	}
	return s
}

// callControl connects to a control socket. Neither this nor what is said on the
// connection takes more than answerTime.
func callControl(control string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err == nil {
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &limit)
		}
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: control})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// hungUp reports whether the other side has closed the connection, with or
// without having read everything.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// stopHint says how to mend what kept stop from its work; "" when that is clear.
func stopHint(err error) string {
	var silent *silence
	switch {
	case errors.As(err, &silent):
		return silent.hint()
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return "no sallyport runs there; name its configuration with -c, or its socket with --control"
	case errors.Is(err, unix.EACCES):
		return "only root and the user who started it may ask it"
	default:
		return ""
	}
}
