package keywire

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrOversize means that a packet was longer than any message to this end. It is gone.
var ErrOversize = errors.New("keywire: oversize packet")

// Harden closes this end of a link to descriptors: whoever sends one gets EPERM,
// with Linux from 6.16 on (SO_PASSRIGHTS). Before that one is closed unread, since
// Receive has no room for it. It holds for every process that has this end.
func Harden(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) { // an older kernel
		return fmt.Errorf("keywire: close link to descriptors: %w", err)
	}
	return nil
}

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
