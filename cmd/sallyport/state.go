package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

// This file gives the keeper what it keeps of its internal CA: two open files in
// the state folder, or two pieces of memory that live as long as its warden.

// keptFiles are the names of the keeper's gifts and the modes of their files. Who
// may read the root may trust it; the secret is every key of the CA.
var keptFiles = [...]struct {
	gift string
	mode uint32
}{{"secret", 0o600}, {"root", 0o644}}

// openAuthority opens the files of the internal CA, if the plan has one. A state
// folder that cannot be had costs a warning, one that is wrong stops the start.
func (b *boot) openAuthority() []conf.Mistake {
	authority := b.Plan.Keeper.Authority
	if !b.Authority {
		return nil
	}
	paths := []string{authority.Secret, authority.Root}
	if paths[0] != "" {
		err := b.openKept(paths)
		if err == nil {
			return nil
		}
		var wrong *fileError
		if errors.As(err, &wrong) {
			return []conf.Mistake{mistakeOf(authority.Where, wrong)}
		}
		b.log.Warn("state folder not to be had", "error", err,
			"hint", "the internal CA is in memory and another one after every start; give state a folder that can be made")
	}
	authority.Secret, authority.Root, b.Main.Trust = "", "", ""
	for _, kept := range keptFiles {
		fd, err := unix.MemfdCreate("sallyport-"+kept.gift, unix.MFD_CLOEXEC)
		if err != nil {
			return []conf.Mistake{{Place: authority.Where, What: fmt.Sprintf("memory for the internal CA: %v", err)}}
		}
		b.files = append(b.files, sockets.Gift{Name: kept.gift, FD: fd})
	}
	return nil
}

// openKept opens the files at paths, and makes what is missing, as the keeper's.
func (b *boot) openKept(paths []string) error {
	keeper := b.Plan.Users.Keeper
	folder, err := openState(filepath.Dir(paths[0]), keeper)
	if err != nil {
		return err
	}
	defer unix.Close(folder)
	var opened sockets.Gifts
	for i, kept := range keptFiles {
		fd, err := openOrMake(folder, paths[i], kept.mode, keeper)
		if err != nil {
			for _, gift := range opened {
				unix.Close(gift.FD)
			}
			return err
		}
		opened = append(opened, sockets.Gift{Name: kept.gift, FD: fd})
	}
	b.files = append(b.files, opened...)
	return unix.Fsync(folder) // the keeper makes the contents last, and boot the names
}

// openState opens the state folder, or one in it, which is made if it is missing: 0700,
// its owner's, who is the keeper but for one. One that belongs to somebody else is a *fileError, and never taken.
func openState(path string, owner conf.ID) (int, error) {
	if os.Getuid() != 0 {
		// "an attempt should be made to create it with permission 0700", XDG Base
		// Directory Specification; root's folders are there, or are a mistake.
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return -1, err
		}
	}
	made := unix.Mkdir(path, 0o700)
	if made != nil && !errors.Is(made, unix.EEXIST) {
		return -1, fmt.Errorf("%s: %w", path, made)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	if made == nil {
		err = unix.Fchown(fd, owner.UID, owner.GID)
	} else {
		err = checkState(fd, path, owner)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func checkState(fd int, path string, owner conf.ID) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	switch {
	case int(stat.Uid) != owner.UID:
		hint := fmt.Sprintf("chown %d:%d %s", owner.UID, owner.GID, path)
		if given, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); given == path {
			// systemd gives it, and all in it, back to User= when that is not its owner.
			hint = fmt.Sprintf("write state = %q: a folder of StateDirectory= is taken back at every start", filepath.Join(path, "keeper"))
		}
		return &fileError{path, fmt.Errorf("belongs to uid %d, and has to be that of %d", stat.Uid, owner.UID), hint}
	case stat.Mode&0o022 != 0:
		return &fileError{path, fmt.Errorf("may be written by others (mode %04o)", stat.Mode&0o7777), "chmod go-w " + path}
	}
	return nil
}

// openOrMake opens a file of the keeper's in the state folder. Boot judges whose it
// is, because boot may open what the keeper may not; the content is the keeper's to judge.
func openOrMake(folder int, path string, mode uint32, keeper conf.ID) (int, error) {
	const flags = unix.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	name := filepath.Base(path)
	fd, err := unix.Openat(folder, name, flags, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		if fd, err = unix.Openat(folder, name, flags|unix.O_CREAT|unix.O_EXCL, mode); err == nil {
			err = errors.Join(unix.Fchmod(fd, mode), unix.Fchown(fd, keeper.UID, keeper.GID))
		}
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO):
		return -1, foreign(path, "is no regular file")
	case err == nil:
		err = checkKept(fd, path, keeper)
	}
	if err != nil {
		unix.Close(fd) // -1 if it was not opened
		var wrong *fileError
		if !errors.As(err, &wrong) {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return -1, err
	}
	return fd, nil
}

// checkKept refuses a file that somebody else has put there, perhaps as another
// name of one that only root may open.
func checkKept(fd int, path string, keeper conf.ID) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return foreign(path, "is no regular file")
	case int(stat.Uid) != keeper.UID:
		return foreign(path, fmt.Sprintf("belongs to uid %d, not to the keeper's %d", stat.Uid, keeper.UID))
	case stat.Nlink != 1:
		return foreign(path, "has another name too")
	}
	return nil
}

// foreign is the error about a file in the state folder that is not the keeper's.
// Who takes it over by chown may give the keeper what was never meant for it.
func foreign(path, what string) error {
	return &fileError{path, errors.New(what), "look whose it is, then remove it or move it away: a new one will be made"}
}
