package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

// stopCommand asks the main warden to end and waits until it has.
func stopCommand(args []string) int {
	flags, path := newFlags("stop")
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
	if err := stop(*control); err != nil {
		fmt.Fprintf(os.Stderr, "sallyport stop: %s: %v\n", *control, err)
		if hint := stopHint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint: "+hint)
		}
		return exitMistake
	}
	return exitFine
}

// controlOf is the control socket of the configuration at path. One that has
// become wrong since it was loaded does not keep an operator from stopping what
// runs on it: then it is the socket that it has by default.
func controlOf(path string) (string, []conf.Mistake) {
	plan, mistakes := load(path)
	if plan != nil {
		if plan.Control == "" {
			mistakes = plan.Notices
		}
		return plan.Control, mistakes
	}
	at, err := conf.Here()
	absolute, absErr := filepath.Abs(path)
	if err != nil || absErr != nil {
		return "", mistakes
	}
	if control := conf.ControlPath(absolute, at); exists(control) {
		return control, nil
	}
	return "", mistakes
}

// exists reports whether there is anything at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// stop gives the order and waits for the end of file that is the end of the
// process: its descriptors are closed when nothing of it runs any more.
func stop(control string) error {
	fd, err := callControl(control)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	answer, n := make([]byte, orderBytesMax), 0
	if err = sockets.Send(fd, []byte(orderStop)); err == nil {
		n, _, err = sockets.Receive(fd, answer)
	}
	if hungUp(err) || err == nil && order(answer[:n]) != orderStop {
		return errRefused
	}
	for err == nil {
		_, _, err = sockets.Receive(fd, answer)
	}
	if hungUp(err) {
		return nil
	}
	return err
}

// errRefused is what a caller sees whose order does not count.
var errRefused = errors.New("the order was refused; the log of sallyport says why")

// callControl connects to a control socket.
func callControl(control string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: control}); err != nil {
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
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return "no sallyport runs there; name its configuration with -c, or its socket with --control"
	case errors.Is(err, unix.EACCES):
		return "only root and the user who started it may ask it"
	default:
		return ""
	}
}
