package loop

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Peek copies the first bytes that have come into p and leaves them for Read. It never
// waits: where there are none it returns ErrWouldBlock, and io.EOF where none will come. It
// takes the edge with it: who goes on to read has to Look, and who waits for more must not.
func (c *Conn) Peek(p []byte) (int, error) {
	if err := c.await(&c.reading, true); err != nil {
		return 0, err
	}
	for {
		n, _, err := unix.Recvfrom(c.fd, p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		default:
			return 0, os.NewSyscallError("recvfrom", err)
		}
	}
}
