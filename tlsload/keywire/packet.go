package keywire

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrOversize means that a packet was longer than any message to this end. It is gone.
var ErrOversize = errors.New("keywire: oversize packet")

// Send writes one packet and never waits: unix.EAGAIN means that the other end
// does not read. The call is raw, because it cannot block: telling the scheduler
// about it costs more than the call (evidence/privileges.md section 11).
func Send(fd int, packet []byte) error {
	// send(2): MSG_NOSIGNAL keeps a lost peer from being a SIGPIPE.
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(packet))), uintptr(len(packet)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Receive reads one packet into buf and never waits: unix.EAGAIN means that
// there is none. No bytes and no error is an empty packet, or the end of the link.
func Receive(fd int, buf []byte) (int, error) {
	// recv(2): MSG_TRUNC returns "the real length of the packet ... even when it
	// was longer than the passed buffer".
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)),
		unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	if int(n) > len(buf) {
		return 0, ErrOversize
	}
	return int(n), nil
}
