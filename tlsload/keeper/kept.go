package keeper

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// This file is what a keeper leaves behind for the next one: two files of the
// internal CA, which boot has opened to be read and written. Without a folder to
// keep them in they are memory that the warden holds, and end with it.

// secretBytes is the size of the secret: as strong as SHA-256, which derives from it.
const secretBytes = 32

// A keptFile is a file that outlives the keeper.
type keptFile struct {
	fd    int
	path  string // "" in memory, which shows owner and rights of whoever made it
	owner int    // uid that it has to have
	mode  uint32 // rights that it may have at most
}

// keptSecret is the file of the secret, which is nobody else's business.
func keptSecret(fd int, path string) keptFile { return keptFile{fd, path, os.Geteuid(), 0o600} }

// keptRoot is the file of the root. Everybody may read it, but who could write
// it would have others trust a CA of his.
func keptRoot(fd int, path string) keptFile { return keptFile{fd, path, os.Geteuid(), 0o644} }

// secret is the secret that is kept, or a new one when the file is empty. A
// secret of another kind is never written over: the root that clients trust is its.
func (f keptFile) secret() ([]byte, flaw) {
	secret, flawed := f.read()
	switch {
	case flawed.what != "":
		return nil, flawed
	case len(secret) == 0:
		secret = make([]byte, secretBytes)
		rand.Read(secret) // never fails, says its documentation
		return secret, f.write(secret)
	case len(secret) != secretBytes:
		return nil, f.flaw(
			fmt.Sprintf("holds %d bytes, and the secret of the internal CA has %d", len(secret), secretBytes),
			"take it from a backup, or: rm "+f.path+"; that makes another CA, which clients have to trust anew")
	case [secretBytes]byte(secret) == [secretBytes]byte{}:
		// A file system may do so that lost its power before the bytes were written.
		return nil, f.flaw("holds zeros instead of the secret of the internal CA",
			"take it from a backup, or: rm "+f.path+"; that makes another CA, which clients have to trust anew")
	}
	return secret, flaw{}
}

// read is the whole content, of a file that is nobody else's: regular, with one
// name, and of the keeper's uid. For another one there is no command to mend it: a
// keeper that was taken over may have put it there, so that root gives a file of
// its own away, or its rights.
func (f keptFile) read() ([]byte, flaw) {
	var stat unix.Stat_t
	if err := unix.Fstat(f.fd, &stat); err != nil {
		return nil, f.flaw("cannot be read: "+err.Error(), "")
	}
	if f.path != "" {
		const hint = "nothing of the keeper's: find out what it is, and remove it or move it elsewhere"
		switch {
		case stat.Mode&unix.S_IFMT != unix.S_IFREG:
			return nil, f.flaw("is not a regular file", hint)
		case stat.Nlink != 1:
			return nil, f.flaw(fmt.Sprintf("is a file with %d names", stat.Nlink), hint)
		case int(stat.Uid) != f.owner:
			return nil, f.flaw(fmt.Sprintf("belongs to uid %d, and the keeper is %d", stat.Uid, f.owner), hint)
		case stat.Mode&0o777&^f.mode != 0:
			return nil, f.flaw(fmt.Sprintf("is open to others (mode %04o)", stat.Mode&0o7777),
				fmt.Sprintf("chmod %o %s", f.mode, f.path))
		}
	}
	content, err := readFile(f.fd)
	if err != nil {
		return nil, f.flaw(err.Error(), "")
	}
	return content, flaw{}
}

// write replaces the content, and returns when it is safe. If it fails, the file
// is empty, as before the first start.
func (f keptFile) write(content []byte) flaw {
	err := unix.Ftruncate(f.fd, 0)
	if err == nil {
		err = writeFile(f.fd, content)
	}
	if err == nil {
		return flaw{}
	}
	_ = unix.Ftruncate(f.fd, 0) // half a secret would be a mistake at every start
	return f.flaw("cannot be written: "+err.Error(), "")
}

// flaw is one of this file.
func (f keptFile) flaw(what, hint string) flaw {
	if f.path == "" {
		return flaw{"in memory: " + what, ""}
	}
	return flaw{f.path + ": " + what, hint}
}

// writeFile writes an empty file, wherever its offset is, to the disk.
func writeFile(fd int, content []byte) error {
	for done := 0; done < len(content); {
		n, err := unix.Pwrite(fd, content[done:], int64(done))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		done += max(n, 0)
	}
	return unix.Fsync(fd)
}
