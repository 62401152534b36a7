package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// writePID writes the file of pid_file, if it is wanted: the pid of this process, which the
// main warden will have. It replaces what is there in one step, and follows no link.
func (b *boot) writePID() []conf.Mistake {
	path := b.Plan.PIDFile
	if path == "" {
		return nil
	}
	err := isPIDFile(path)
	if err == nil {
		err = replaceFile(path, strconv.Itoa(os.Getpid())+"\n")
	}
	if err != nil {
		return []conf.Mistake{{
			Place: conf.Place{File: b.Plan.File, Key: "pid_file"},
			What:  err.Error(),
			Hint:  "name a file in a folder that is there, as $RUNTIME_DIRECTORY; a supervisor that has started this needs none",
		}}
	}
	return nil
}

// pidBytesMax is more than a pid and its line feed have.
const pidBytesMax = 16

// isPIDFile refuses what is there and has something else in it than a pid, or nothing.
func isPIDFile(path string) error {
	fd, _, err := openRegular(path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	text := make([]byte, pidBytesMax)
	n, err := unix.Read(fd, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, err := strconv.ParseUint(string(bytes.TrimSpace(text[:n])), 10, 31); err != nil && n > 0 {
		return fmt.Errorf("%s: is there, and no pid is in it", path)
	}
	return nil
}

// replaceFile makes a file of mode 0644 with this text.
func replaceFile(path, text string) error {
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(made, flags, 0o644)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	file := os.NewFile(uintptr(fd), made)
	_, err = file.WriteString(text)
	if err == nil {
		err = file.Chmod(0o644) // whatever the umask
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		_ = os.Remove(made) // what is left of it
	}
	return err
}
