package sockets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Folder is a folder that a process of ours keeps files in, by its descriptor: who has it
// opened it for that process, and there is no path to anything else. Files belong to the
// process, are nobody else's to read, and are replaced as a whole: a reader, also one after
// a crash, finds the old content or the new one.
type Folder struct {
	fd    int
	path  string // for errors
	count atomic.Uint64
}

// ErrForeign is a file in a Folder that this process cannot have made, or others may read.
var ErrForeign = errors.New("is not ours alone")

const (
	// fileBytesMost bounds a file that is read: far more than a chain with its key.
	fileBytesMost = 1 << 20
	// unfinished ends the names of files that are being written.
	unfinished = ".new"
)

// OpenFolder takes over the descriptor of a folder. path is where it is, for errors. Files
// that a predecessor has not finished are removed.
func OpenFolder(fd int, path string) (*Folder, error) {
	f := &Folder{fd: fd, path: path}
	names, err := f.all()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, unfinished) {
			continue
		}
		if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, f.failure(name, err)
		}
	}
	return f, nil
}

// Read is the content of a file. It is fs.ErrNotExist when there is none, and ErrForeign
// when the file is a link, another's, or open to others.
func (f *Folder) Read(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, f.failure(name, err)
	}
	fd, err := unix.Openat(f.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		err = fmt.Errorf("%w: it is a link", ErrForeign)
	}
	if err != nil {
		return nil, f.failure(name, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, f.failure(name, err)
	}
	if err := checkOurs(&stat); err != nil {
		return nil, f.failure(name, err)
	}
	content := make([]byte, stat.Size)
	for done := 0; done < len(content); {
		n, err := unix.Read(fd, content[done:])
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, f.failure(name, err)
		}
		done += n
	}
	return content, nil
}

// checkOurs refuses what a file of a Folder never is.
func checkOurs(stat *unix.Stat_t) error {
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w: it is no regular file", ErrForeign)
	case int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%w: it belongs to uid %d, and this is %d; move it away", ErrForeign, stat.Uid, os.Geteuid())
	case stat.Nlink != 1:
		return fmt.Errorf("%w: it has %d names; move it away", ErrForeign, stat.Nlink)
	case stat.Mode&0o077 != 0:
		return fmt.Errorf("%w: its mode is %04o; chmod 600", ErrForeign, stat.Mode&0o7777)
	case stat.Size > fileBytesMost:
		return fmt.Errorf("has %d bytes, at most %d are read", stat.Size, fileBytesMost)
	}
	return nil
}

// Write makes a file, or replaces it, and returns when it is on the disk.
func (f *Folder) Write(name string, content []byte) error {
	if err := checkName(name); err != nil {
		return f.failure(name, err)
	}
	draft := strconv.FormatUint(f.count.Add(1), 10) + unfinished
	err := f.draft(draft, content)
	if err == nil {
		err = unix.Renameat(f.fd, draft, f.fd, name)
	}
	if err != nil {
		_ = unix.Unlinkat(f.fd, draft, 0) // the error that counts is the first; a successor removes it
		return f.failure(name, err)
	}
	if err := unix.Fsync(f.fd); err != nil { // the name
		return f.failure(name, err)
	}
	return nil
}

// draft writes a file that nobody looks for, to the disk.
func (f *Folder) draft(name string, content []byte) error {
	fd, err := unix.Openat(f.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for len(content) > 0 {
		n, err := unix.Write(fd, content)
		if err != nil && err != unix.EINTR {
			return err
		}
		content = content[max(n, 0):]
	}
	return unix.Fsync(fd)
}

// Remove takes a file away; one that is not there is no error.
func (f *Folder) Remove(name string) error {
	err := checkName(name)
	if err == nil {
		err = unix.Unlinkat(f.fd, name, 0)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = unix.Fsync(f.fd)
	}
	if err != nil {
		return f.failure(name, err)
	}
	return nil
}

// Has reports whether there is a file.
func (f *Folder) Has(name string) bool {
	var stat unix.Stat_t
	return checkName(name) == nil && unix.Fstatat(f.fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// Names are those of all files, in no order.
func (f *Folder) Names() ([]string, error) {
	names, err := f.all()
	if err != nil {
		return nil, err
	}
	finished := names[:0]
	for _, name := range names {
		if !strings.HasSuffix(name, unfinished) {
			finished = append(finished, name)
		}
	}
	return finished, nil
}

// all is Names with what is not finished.
func (f *Folder) all() ([]string, error) {
	again, err := unix.Openat(f.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) // an offset of its own
	if err != nil {
		return nil, f.failure("", err)
	}
	defer unix.Close(again)
	var names []string
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(again, buffer)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, f.failure("", err)
		case n == 0:
			return names, nil
		}
		for rest := buffer[:n]; len(rest) > 0; {
			var used int
			used, _, names = unix.ParseDirent(rest, -1, names)
			rest = rest[used:]
		}
	}
}

// nameBytesMost is NAME_MAX, less what a draft could add.
const nameBytesMost = 250

// FileName makes the name of a file of any text, another for each; people can read it where
// it is short and harmless.
func FileName(text string) string {
	const digits = "0123456789abcdef"
	name := make([]byte, 0, len(text)+8)
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '@' || c == '.' && len(name) > 0:
			name = append(name, c)
		case c == '/':
			name = append(name, ',')
		default:
			name = append(name, '%', digits[c>>4], digits[c&15])
		}
	}
	if len(name) > nameBytesMost || len(name) == 0 || strings.HasSuffix(string(name), unfinished) {
		sum := sha256.Sum256([]byte(text))
		return "~" + hex.EncodeToString(sum[:])
	}
	return string(name)
}

// checkName refuses names that are none of a file in this very folder.
func checkName(name string) error {
	if name == "" || name[0] == '.' || len(name) > nameBytesMost || strings.ContainsAny(name, "/\x00") || strings.HasSuffix(name, unfinished) {
		return unix.EINVAL
	}
	return nil
}

func (f *Folder) failure(name string, err error) error {
	if name != "" {
		name = "/" + name
	}
	return fmt.Errorf("%s%s: %w", f.path, name, err)
}
