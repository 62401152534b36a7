package loop

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file make sockets and close them. They do not wait either, so they
// go past the scheduler like those that read and write. One of them that does not, in
// the life of a connection, is enough to keep the runtime's watcher of system calls
// awake, which costs as much as an X25519: a full TLS handshake with its request, the
// app's connection and the end took 406 µs with all of them told to the scheduler, 383
// without accept and close, 347 without any (and half the context switches).

// rawAccept is accept4(2) on a listener that is non-blocking; what it returns is too.
// Another core that shares the listener, if it is not ours any more, can make it block
// (O_NONBLOCK belongs to the open file, which all of them have): then the loop waits in
// here for the next client, and as the scheduler knows nothing of it, a core, which has
// one processor, does nothing else meanwhile. No check before the call helps, because
// the other can change it in between; what does is a core that may not call F_SETFL and
// FIONBIO, which is for package jail to see to.
func rawAccept(fd int) (int, unix.Sockaddr, error) {
	var from unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&from)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, nil, errno
	}
	return int(n), sockaddrOf(&from), nil
}

// sockaddrOf is who is at the other end, or nil where that has no address of its own.
func sockaddrOf(from *unix.RawSockaddrAny) unix.Sockaddr {
	switch from.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
		return &unix.SockaddrInet4{Port: hostOrder(in.Port), Addr: in.Addr}
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(from))
		return &unix.SockaddrInet6{Port: hostOrder(in.Port), ZoneId: in.Scope_id, Addr: in.Addr}
	}
	return nil // a socket of another family; most of a unix socket's clients have no name
}

// hostOrder is a port of the network, whose bytes come high first.
func hostOrder(port uint16) int {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return int(binary.BigEndian.Uint16(b[:]))
}

// rawStream makes a non-blocking unix stream socket.
func rawStream() (int, error) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int(fd), errnoError(errno)
}

// rawConnect is connect(2) to a path. "If the socket is nonblocking and the backlog is
// full" it is EAGAIN. What it may wait for is the folders of the path, on a disk that
// has stalled; sockets are in memory, below /run.
func rawConnect(fd int, path string) error {
	to := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	if len(path) >= len(to.Path) { // the last byte is a zero
		return unix.EINVAL
	}
	for i := range len(path) {
		to.Path[i] = int8(path[i])
	}
	size := unsafe.Offsetof(to.Path) + uintptr(len(path)) + 1
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to)), size)
	return errnoError(errno)
}

// rawClose is close(2). It waits only for a socket that lingers, which SetLinger does not
// let happen.
func rawClose(fd int) syscall.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return errno
}
