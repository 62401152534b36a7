package keywire

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Line is one end of the link between keeper and registrar. Unlike on a link to a core,
// either side waits for the other: nothing there is in a hurry.
type Line struct {
	file *os.File // in Go's poller
	raw  syscall.RawConn
}

// NewLine takes over the descriptor of a link.
func NewLine(fd int, name string) (*Line, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("keywire: link %s: %w", name, err)
	}
	if err := Harden(fd); err != nil {
		return nil, err
	}
	l := &Line{file: os.NewFile(uintptr(fd), name)}
	var err error
	if l.raw, err = l.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("keywire: link %s: %w", name, err)
	}
	return l, nil
}

// Send writes one packet, and waits while there is no room for it.
func (l *Line) Send(packet []byte) error {
	var err error
	inLink := l.raw.Write(func(fd uintptr) bool {
		err = Send(int(fd), packet)
		return err != unix.EAGAIN
	})
	if inLink != nil {
		return inLink
	}
	return err
}

// Receive waits for one packet. It may be empty: so is the end of a link that was shut.
func (l *Line) Receive(buffer []byte) (n int, err error) {
	inLink := l.raw.Read(func(fd uintptr) bool {
		n, err = Receive(int(fd), buffer)
		return err != unix.EAGAIN
	})
	if inLink != nil {
		return 0, inLink
	}
	return n, err
}

// Close ends whoever waits. The link stays as it is for other holders.
func (l *Line) Close() error { return l.file.Close() }
