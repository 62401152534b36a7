package sockets

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// BindPath makes a listening unix socket of a kind (SOCK_STREAM or
// SOCK_SEQPACKET) at path, with exactly the given mode from its first moment. A
// dead socket of our own uid that a predecessor left there is replaced; whatever
// else is there stays, and is an error: ErrAlive where somebody listens.
//
// It changes the umask of the process for a moment: only boot may call it.
func BindPath(path string, kind int, mode int) (int, error) {
	return bindPath(path, kind, mode, os.Geteuid())
}

// BindPathOver is BindPath that replaces a dead socket whosesoever it is. The folder
// is one that only we write.
func BindPathOver(path string, kind, mode int) (int, error) {
	return bindPath(path, kind, mode, anybody)
}

// anybody is no uid.
const anybody = -1

// bindPath is BindPath for dead sockets of an owner.
func bindPath(path string, kind, mode, owner int) (int, error) {
	if err := checkPath(path); err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := listenAt(fd, path, kind, mode, owner); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// listenAt gives the socket its name and lets it listen.
func listenAt(fd int, path string, kind, mode, owner int) error {
	defer unix.Umask(unix.Umask(0o777 &^ mode))
	name := &unix.SockaddrUnix{Name: path}
	err := unix.Bind(fd, name)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeDead(path, kind, owner); err != nil {
			return err
		}
		err = unix.Bind(fd, name)
	}
	if err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

// ErrAlive is a socket that somebody listens on.
var ErrAlive = errors.New("somebody listens there")

// removeDead removes a socket that nobody listens on any more, if it is the owner's.
func removeDead(path string, kind, owner int) error {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return fmt.Errorf("look at what is there: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("what is there is no socket")
	}
	if owner != anybody && int(stat.Uid) != owner {
		return fmt.Errorf("the socket there belongs to uid %d, not to %d", stat.Uid, owner)
	}
	probe, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(probe)
	// "ECONNREFUSED: A connect() on a stream socket found no one listening on the
	// remote address", connect(2). Anything else, a full backlog too, is life.
	if err := unix.Connect(probe, &unix.SockaddrUnix{Name: path}); !errors.Is(err, unix.ECONNREFUSED) {
		return ErrAlive
	}
	if err := unix.Unlink(path); err != nil {
		return fmt.Errorf("remove the dead socket there: %w", err)
	}
	return nil
}
