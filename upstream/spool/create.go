package spool

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// This file is boot's and the wardens' half: the file of an arena, made before
// privilege is left, and emptied when a core is gone.

// Create makes the file of one core's arena and returns its descriptor: a file without a
// name in plan.Folder (O_TMPFILE, open(2)), which no crash can leave behind, or memory. Its
// size is that of the plan, with nothing in it yet.
func Create(plan conf.Spool) (fd int, err error) {
	if plan.Folder != "" {
		return createFile(plan.Folder, blocksOf(plan.Bytes)<<blockShift)
	}
	if fd, err = unix.MemfdCreate("spool", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING); err != nil {
		return -1, fmt.Errorf("spool: memfd_create: %w", err)
	}
	if err = Make(fd, plan); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Make makes an arena's file of empty memory that can be sealed (memfd_create(2)), for plans
// without a folder. It is sealed at its size, so that a core that was taken over cannot have
// more.
func Make(memory int, plan conf.Spool) error {
	bytes := blocksOf(plan.Bytes) << blockShift
	if err := unix.Ftruncate(memory, bytes); err != nil {
		return fmt.Errorf("spool: %d bytes of memory: ftruncate: %w", bytes, err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(memory), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("spool: memory: seals: %w", err)
	}
	return nil
}

// Clear gives back what an arena's file holds. A warden does it when a core is
// dead, so that nothing of its bodies is left and its successor begins with nothing.
func Clear(fd int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("spool: clear: fstat: %w", err)
	}
	if err := punch(fd, 0, stat.Size); err != nil {
		return fmt.Errorf("spool: clear: fallocate: %w", err)
	}
	return nil
}

func createFile(folder string, bytes int64) (int, error) {
	// With O_EXCL nobody can give the file a name later, linkat(2).
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, &FolderError{folder, "open", err}
	}
	if err := unix.Ftruncate(fd, bytes); err != nil {
		unix.Close(fd)
		return -1, &FolderError{folder, "ftruncate", err}
	}
	if err := punch(fd, 0, bytes); err != nil {
		unix.Close(fd)
		return -1, &FolderError{folder, "fallocate", err}
	}
	return fd, nil
}

// punch gives back the pages or blocks of a part of a file; its size stays.
func punch(fd int, offset, bytes int64) error {
	for {
		err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, bytes)
		if err != unix.EINTR {
			return err
		}
	}
}
