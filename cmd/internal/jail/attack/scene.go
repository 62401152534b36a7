//go:build drill && amd64

package main

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// A scene is what there is around an attacker.
type scene struct {
	Place
	gifts sockets.Gifts
	kept  [][]byte // what the kernel was given pointers to
}

// A Place is what the test has prepared. Its JSON is the test's.
type Place struct {
	Folder   string // of the app's socket, app.sock, a neighbour's, docker.sock, and own.txt, which is the attacker's
	App      string // path of an app's socket, whose folder is in the root
	Mixed    string // folder of an app's socket, web.sock, and a neighbour's, docker.sock
	System   string // path of a socket in /run, that lets everybody in
	Key      string // path of a file that is the keeper's
	Abstract string // name of an abstract socket that listens
	Port     int    // of a TCP listener on 127.0.0.1, and of a UDP socket
	Brother  int    // pid of a process of the same user
	Stranger int    // and of another
	Starter  int    // of root
}

// report says what came of the attempt.
func (s *scene) report(err error) error {
	text := "OPEN"
	var errno unix.Errno
	if errors.As(err, &errno) {
		text = unix.ErrnoName(errno)
	} else if err != nil {
		return err
	}
	_, err = unix.Write(s.fd("report"), []byte(text+"\n"))
	return err
}

// fd is the descriptor of a gift, which the test has given.
func (s *scene) fd(name string) int {
	fd, err := s.gifts.FD(name)
	if err != nil {
		panic(err)
	}
	return fd
}

// call makes a system call.
func call(number uintptr, arguments ...uintptr) error {
	_, err := result(number, arguments...)
	return err
}

// result makes a system call, and returns what it does.
func result(number uintptr, arguments ...uintptr) (uintptr, error) {
	var a [6]uintptr
	copy(a[:], arguments)
	r, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// text is a pointer to a string with a zero behind it.
func (s *scene) text(of string) uintptr { return s.bytes(append([]byte(of), 0)) }

// space is a pointer to zeros.
func (s *scene) space() uintptr { return s.bytes(make([]byte, 8192)) }

// bytes is a pointer to something that stays where it is.
func (s *scene) bytes(b []byte) uintptr {
	s.kept = append(s.kept, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// words is a pointer to numbers.
func (s *scene) words(values ...uint64) uintptr {
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		for range 8 {
			b, v = append(b, byte(v)), v>>8
		}
	}
	return s.bytes(b)
}

// here is AT_FDCWD as the kernel takes it.
const here = ^uintptr(99)

// open opens a file.
func (s *scene) open(path string, flags uintptr) (uintptr, error) {
	return result(unix.SYS_OPENAT, here, s.text(path), flags|unix.O_CLOEXEC, 0o600)
}

// read opens a file and reads one byte of it.
func (s *scene) read(path string) error {
	fd, err := s.open(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	return call(unix.SYS_READ, fd, s.space(), 1)
}

// write opens a file for writing, which is made if it is not there.
func (s *scene) write(path string) error {
	_, err := s.open(path, unix.O_WRONLY|unix.O_CREAT)
	return err
}

// own is the path of something in the folder.
func (s *scene) own(name string) string { return s.Folder + "/" + name }

// execute puts a program in the place of the attacker.
func (s *scene) execute(path string) error {
	return call(unix.SYS_EXECVE, s.text(path), s.words(uint64(s.text(path)), 0), s.words(0))
}

// port is the target's address: a sockaddr_in.
func (s *scene) port(family uint16) uintptr {
	return s.bytes([]byte{byte(family), byte(family >> 8), byte(s.Port >> 8), byte(s.Port), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
}

const addressLength = 16 // of a sockaddr_in

// local is a sockaddr_un and its length.
func (s *scene) local(name string) (address, length uintptr) {
	b := append([]byte{unix.AF_UNIX, 0}, name...)
	return s.bytes(append(b, 0)), uintptr(len(b))
}

// reach connects a new local stream.
func (s *scene) reach(name string) error {
	fd, err := result(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	address, length := s.local(name)
	return call(unix.SYS_CONNECT, fd, address, length)
}

// disconnect ends the listening of a gift, for all its holders.
func (s *scene) disconnect() (listener uintptr, err error) {
	listener = uintptr(s.fd("listener"))
	return listener, call(unix.SYS_CONNECT, listener, s.port(unix.AF_UNSPEC), addressLength)
}
