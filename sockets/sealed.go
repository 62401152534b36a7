package sockets

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// sealedBytesMax bounds sealed content; a plan of fifty thousand names has 9 MiB.
const sealedBytesMax = 16 << 20

// allSeals make memory constant for every holder of the descriptor, the maker included.
const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// Seal copies content into anonymous memory that nobody can change any more and
// returns its descriptor (memfd_create(2)). The name shows in /proc only.
func Seal(name string, content []byte) (int, error) {
	if len(content) > sealedBytesMax {
		return -1, fmt.Errorf("sockets: seal %s: %d bytes are more than %d", name, len(content), sealedBytesMax)
	}
	fd, err := Sealable(name)
	if err != nil {
		return -1, fmt.Errorf("sockets: seal %s: memfd_create: %w", name, err)
	}
	if err := SealIn(fd, content); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("sockets: seal %s: %w", name, err)
	}
	return fd, nil
}

// Sealable makes empty memory that can be sealed and, where the kernel knows
// the flag (Linux 6.3), never executed.
func Sealable(name string) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		return unix.MemfdCreate(name, flags)
	}
	return fd, err
}

// SealIn writes content into empty memory of Sealable and seals it.
func SealIn(fd int, content []byte) error {
	for len(content) > 0 {
		n, err := unix.Write(fd, content)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		content = content[n:]
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, allSeals); err != nil {
		return fmt.Errorf("seals: %w", err)
	}
	return nil
}

// Fix gives empty memory of Sealable so many bytes, all zero, and makes it impossible to have it
// smaller or larger: who has mapped it does not die of SIGBUS (mmap(2)).
func Fix(fd int, bytes int64) error {
	if err := unix.Ftruncate(fd, bytes); err != nil {
		return fmt.Errorf("sockets: memory of %d bytes: %w", bytes, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		return fmt.Errorf("sockets: memory of %d bytes: seals: %w", bytes, err)
	}
	return nil
}

// ReadSealed returns the content behind fd. It refuses memory that somebody
// could still change and memory of more than 16 MiB. It reads by position, so
// every holder sees the whole.
func ReadSealed(fd int) ([]byte, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("sockets: read sealed: descriptor %d: %w", fd, err)
	}
	if seals&allSeals != allSeals {
		return nil, fmt.Errorf("sockets: read sealed: descriptor %d: is not sealed", fd)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("sockets: read sealed: descriptor %d: %w", fd, err)
	}
	if stat.Size > sealedBytesMax {
		return nil, fmt.Errorf("sockets: read sealed: %d bytes are more than %d", stat.Size, sealedBytesMax)
	}
	content := make([]byte, stat.Size)
	for read := 0; read < len(content); {
		n, err := unix.Pread(fd, content[read:], int64(read))
		if err != nil {
			return nil, fmt.Errorf("sockets: read sealed: descriptor %d: %w", fd, err)
		}
		if n == 0 {
			return nil, fmt.Errorf("sockets: read sealed: descriptor %d: ends after %d bytes", fd, read)
		}
		read += n
	}
	return content, nil
}
