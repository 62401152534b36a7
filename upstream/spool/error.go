package spool

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrFull is what every refusal of space is, by errors.Is: that of a share, that
// of the whole, and that of a disk. The writer stops reading its source.
var ErrFull = errors.New("spool: full")

// ErrLeft ends a wait for room whose client has left.
var ErrLeft = errors.New("spool: the client has left")

var errClosed = errors.New("spool: written after its end")

// A FullError says what is used up. Each app has its own, made once.
type FullError struct {
	App   string // whose share is used up; "" when it is the whole spool
	Bytes int64  // of the share, or of the whole, in this core
}

func (e *FullError) Error() string {
	if e.App == "" {
		return fmt.Sprintf("spool: its %d bytes in this core are used up: raise spool.memory or spool.disk", e.Bytes)
	}
	return fmt.Sprintf("spool: app %s has used up its share of %d bytes in this core: raise spool.per_app", e.App, e.Bytes)
}

// Is makes a FullError ErrFull.
func (e *FullError) Is(err error) bool { return err == ErrFull }

// A FolderError is a failure of spool.folder, at start or later. When the disk or
// somebody's quota of it is full, it is ErrFull too: there may be room again.
type FolderError struct {
	Folder string
	Op     string // the call
	Err    error  // its errno
}

func (e *FolderError) Error() string {
	return "spool: folder " + e.Folder + ": " + e.Op + ": " + e.Err.Error()
}

// Hint is what to do about e; "" when nobody can tell.
func (e *FolderError) Hint() string {
	switch {
	case noSpace(e.Err):
		return "make room in the folder, or lower spool.disk"
	case errors.Is(e.Err, syscall.ENOENT):
		return "make the folder: mkdir -m 0700 " + e.Folder
	case errors.Is(e.Err, syscall.ENOTDIR):
		return "name a folder in spool.folder"
	case errors.Is(e.Err, syscall.EROFS):
		return "leave spool.folder out: memory needs no writable folder"
	case errors.Is(e.Err, os.ErrPermission):
		return "let whoever starts sallyport write the folder"
	case errors.Is(e.Err, syscall.EOPNOTSUPP), errors.Is(e.Err, syscall.EISDIR): // EISDIR: a file system without O_TMPFILE, open(2)
		return "its file system has no unnamed files or no holes: name a folder on ext4, xfs, btrfs or tmpfs"
	case errors.Is(e.Err, syscall.EFBIG):
		return "its file system takes no file of that size: lower spool.disk"
	case errors.Is(e.Err, syscall.EIO):
		return "look for the disk's errors in dmesg"
	}
	return ""
}

// Is makes a FolderError that a full disk caused ErrFull.
func (e *FolderError) Is(err error) bool { return err == ErrFull && noSpace(e.Err) }

// Unwrap returns the errno.
func (e *FolderError) Unwrap() error { return e.Err }

func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// A MemoryError is a failure of the memory that bodies wait in. ENOSPC is ErrFull.
type MemoryError struct {
	Op  string
	Err error
}

func (e *MemoryError) Error() string { return "spool: memory: " + e.Op + ": " + e.Err.Error() }

// Is makes a MemoryError for want of memory ErrFull.
func (e *MemoryError) Is(err error) bool { return err == ErrFull && noSpace(e.Err) }

// Unwrap returns the errno.
func (e *MemoryError) Unwrap() error { return e.Err }
