//go:build drill && amd64

package main

import "golang.org/x/sys/unix"

// newSocket tries to have one.
func newSocket(family, kind, protocol uintptr) func(*scene) error {
	return func(*scene) error { return call(unix.SYS_SOCKET, family, kind, protocol) }
}

// connecting is after a network, or another socket than the app's.
func connecting() []attempt {
	return []attempt{
		{"socket of IPv4", newSocket(unix.AF_INET, unix.SOCK_STREAM, 0)},
		{"socket of IPv6", newSocket(unix.AF_INET6, unix.SOCK_STREAM, 0)},
		{"socket of UDP", newSocket(unix.AF_INET, unix.SOCK_DGRAM, 0)},
		{"socket of ICMP", newSocket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)},
		{"socket of MPTCP", newSocket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)},
		{"socket of SCTP", newSocket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)},
		{"raw socket", newSocket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"packet socket", newSocket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"netlink socket", newSocket(unix.AF_NETLINK, unix.SOCK_RAW, 0)},
		{"socket to the host", newSocket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
		{"socket of the kernel's ciphers", newSocket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},
		{"bluetooth socket", newSocket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 1)},
		{"local datagram socket", newSocket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)},
		{"local packet socket", newSocket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)},
		{"socketpair", func(s *scene) error { return call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, s.space()) }},
		{"bind a new TCP port", func(s *scene) error {
			fd, err := result(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			any := s.bytes([]byte{unix.AF_INET, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
			return call(unix.SYS_BIND, fd, any, addressLength)
		}},
		{"connect a new TCP socket", func(s *scene) error {
			fd, err := result(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			return call(unix.SYS_CONNECT, fd, s.port(unix.AF_INET), addressLength)
		}},
		{"connect to an abstract socket", func(s *scene) error { return s.reach("\x00" + s.Abstract) }},
		{"connect to a neighbour's socket", func(s *scene) error { return s.reach(s.own("docker.sock")) }},
		{"connect to its app", func(s *scene) error { return s.reach(s.App) }},
		{"connect to a neighbour in an app's folder", func(s *scene) error { return s.reach(s.Mixed + "/docker.sock") }},
		{"connect to a socket in /run", func(s *scene) error { return s.reach(s.System) }},
		{"connect to a neighbour by ..", func(s *scene) error { return s.reach("../../../../../.." + s.System) }},
		{"connect to a neighbour by its root", func(s *scene) error { return s.reach("/proc/1/root" + s.System) }},
		{"remove a socket of the root", func(s *scene) error { return call(unix.SYS_UNLINKAT, here, s.text(s.App+"s"), 0) }},
		{"bind a socket in the root", func(s *scene) error {
			fd, err := result(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			address, length := s.local("/mine.sock")
			return call(unix.SYS_BIND, fd, address, length)
		}},
		{"leave the root by another", func(s *scene) error {
			err := call(unix.SYS_CHROOT, s.text("."))
			if err == nil {
				err = call(unix.SYS_CHDIR, s.text("../../.."))
			}
			return err
		}},
		{"bind a local socket", func(s *scene) error {
			fd, err := result(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			address, length := s.local(s.own("mine.sock"))
			return call(unix.SYS_BIND, fd, address, length)
		}},
		{"bind an abstract socket", func(s *scene) error {
			fd, err := result(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			address, length := s.local("\x00" + s.Abstract + "-mine")
			return call(unix.SYS_BIND, fd, address, length)
		}},
	}
}

// misusing is after what can be made of a listener, which other cores have too.
func misusing() []attempt {
	return []attempt{
		{"disconnect the listener", func(s *scene) error { _, err := s.disconnect(); return err }},
		{"connect the listener out", func(s *scene) error {
			fd, err := s.disconnect()
			if err != nil {
				return err
			}
			return call(unix.SYS_CONNECT, fd, s.port(unix.AF_INET), addressLength)
		}},
		{"open the listener out fast", func(s *scene) error {
			fd, err := s.disconnect()
			if err != nil {
				return err
			}
			err = call(unix.SYS_SENDTO, fd, s.text("x"), 1, unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, s.port(unix.AF_INET), addressLength)
			if err == unix.EINPROGRESS {
				return nil // it is under way
			}
			return err
		}},
		{"bind the listener elsewhere", func(s *scene) error {
			fd, err := s.disconnect()
			if err != nil {
				return err
			}
			err = call(unix.SYS_BIND, fd, s.bytes([]byte{unix.AF_INET, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}), addressLength)
			if err == unix.EINVAL {
				return nil // it is bound, and was let try
			}
			return err
		}},
		{"deafen the listener", func(s *scene) error { return call(unix.SYS_SHUTDOWN, uintptr(s.fd("listener")), unix.SHUT_RD) }},
		{"deafen the listener both ways", func(s *scene) error { return call(unix.SYS_SHUTDOWN, uintptr(s.fd("listener")), unix.SHUT_RDWR) }},
		{"shorten the listener's queue", func(s *scene) error { return call(unix.SYS_LISTEN, uintptr(s.fd("listener")), 0) }},
		{"make the listener block", func(s *scene) error { return call(unix.SYS_FCNTL, uintptr(s.fd("listener")), unix.F_SETFL, 0) }},
		{"make the listener block by ioctl", func(s *scene) error {
			return call(unix.SYS_IOCTL, uintptr(s.fd("listener")), 0x5421, s.words(0)) // FIONBIO
		}},
		{"have signals of the listener", func(s *scene) error {
			return call(unix.SYS_IOCTL, uintptr(s.fd("listener")), 0x5452, s.words(1)) // FIOASYNC
		}},
		{"list interfaces by a socket", func(s *scene) error {
			return call(unix.SYS_IOCTL, uintptr(s.fd("listener")), unix.SIOCGIFCONF, s.words(4096, uint64(s.space())))
		}},
		{"accept by accept(2)", func(s *scene) error {
			_ = call(unix.SYS_FCNTL, uintptr(s.fd("listener")), unix.F_SETFL, unix.O_NONBLOCK) // if it may: else it may not accept either
			err := call(unix.SYS_ACCEPT, uintptr(s.fd("listener")), 0, 0)
			if err == unix.EAGAIN {
				return nil
			}
			return err
		}},
		{"ask for the listener's name", func(s *scene) error {
			return call(unix.SYS_GETSOCKNAME, uintptr(s.fd("listener")), s.space(), s.words(128))
		}},
		{"ask for its client's name", func(s *scene) error {
			return call(unix.SYS_GETPEERNAME, uintptr(s.fd("client")), s.space(), s.words(128))
		}},
	}
}

// option tries to set one of the listener.
func option(level, name, value uintptr) func(*scene) error {
	return func(s *scene) error {
		return call(unix.SYS_SETSOCKOPT, uintptr(s.fd("listener")), level, name, s.words(uint64(value), 0), 16)
	}
}

// setting is after options of sockets.
func setting() []attempt {
	const socket = unix.SOL_SOCKET
	return []attempt{
		{"have the listener time out", option(socket, unix.SO_RCVTIMEO, 1)},
		{"share the listener's port", option(socket, unix.SO_REUSEPORT, 1)},
		{"filter the listener", func(s *scene) error {
			filter := s.bytes([]byte{6, 0, 0, 0, 0, 0, 0, 0}) // drop all
			return call(unix.SYS_SETSOCKOPT, uintptr(s.fd("listener")), socket, unix.SO_ATTACH_FILTER, s.words(1, uint64(filter)), 16)
		}},
		{"lock the listener's filter", option(socket, unix.SO_LOCK_FILTER, 1)},
		{"shrink the listener's room", option(socket, unix.SO_RCVBUF, 1)},
		{"force the listener's room", option(socket, unix.SO_RCVBUFFORCE, 1<<20)},
		{"mark the listener", option(socket, unix.SO_MARK, 1)},
		{"bind the listener to a device", option(socket, unix.SO_BINDTODEVICE, 0x6f6c)},
		{"change the listener's priority", option(socket, unix.SO_PRIORITY, 1)},
		{"have stamps of time", option(socket, unix.SO_TIMESTAMPING, 1)},
		{"have the peer's identity", option(socket, unix.SO_PASSCRED, 1)},
		{"pose as another address", option(unix.SOL_IP, unix.IP_TRANSPARENT, 1)},
		{"bind what is not here", option(unix.SOL_IP, unix.IP_FREEBIND, 1)},
		{"set options of IP", option(unix.SOL_IP, unix.IP_TOS, 8)},
		{"repair TCP", option(unix.SOL_TCP, unix.TCP_REPAIR, 1)},
		{"have the kernel do TLS", func(s *scene) error {
			return call(unix.SYS_SETSOCKOPT, uintptr(s.fd("client")), unix.SOL_TCP, unix.TCP_ULP, s.text("tls"), 3)
		}},
		{"open the listener fast", option(unix.SOL_TCP, unix.TCP_FASTOPEN, 5)},
		{"defer what the listener accepts", option(unix.SOL_TCP, unix.TCP_DEFER_ACCEPT, 60)},
		{"choose another congestion control", func(s *scene) error {
			return call(unix.SYS_SETSOCKOPT, uintptr(s.fd("client")), unix.SOL_TCP, unix.TCP_CONGESTION, s.text("reno"), 4)
		}},
	}
}

// header is a struct msghdr, with control data.
func (s *scene) header(control []byte) uintptr {
	iov := s.words(uint64(s.text("x")), 1)
	return s.words(0, 0, uint64(iov), 1, uint64(s.bytes(control)), uint64(len(control)), 0)
}

// passing is after descriptors, to give away and to take.
func passing() []attempt {
	return []attempt{
		{"give a descriptor away", func(s *scene) error {
			return call(unix.SYS_SENDMSG, uintptr(s.fd("app")), s.header(unix.UnixRights(s.fd("listener"))), unix.MSG_NOSIGNAL)
		}},
		{"give descriptors away in bulk", func(s *scene) error {
			return call(unix.SYS_SENDMMSG, uintptr(s.fd("app")), s.header(unix.UnixRights(s.fd("listener"))), 1, unix.MSG_NOSIGNAL)
		}},
		{"take a descriptor", func(s *scene) error {
			err := call(unix.SYS_RECVMSG, uintptr(s.fd("app")), s.header(make([]byte, 64)), unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				return nil
			}
			return err
		}},
		{"take descriptors in bulk", func(s *scene) error {
			err := call(unix.SYS_RECVMMSG, uintptr(s.fd("app")), s.header(make([]byte, 64)), 1, unix.MSG_DONTWAIT, 0)
			if err == unix.EAGAIN {
				return nil
			}
			return err
		}},
		{"send a file", func(s *scene) error {
			return call(unix.SYS_SENDFILE, uintptr(s.fd("app")), uintptr(s.fd("board")), 0, 16)
		}},
		{"copy between files", func(s *scene) error {
			return call(unix.SYS_COPY_FILE_RANGE, uintptr(s.fd("board")), 0, uintptr(s.fd("board")), s.words(2048), 16, 0)
		}},
		{"tee a pipe", func(s *scene) error {
			err := call(unix.SYS_TEE, uintptr(s.fd("report")), uintptr(s.fd("report")), 1, 0)
			if err == unix.EBADF || err == unix.EINVAL {
				return nil // it was let try
			}
			return err
		}},
		{"give pages to a pipe", func(s *scene) error {
			return call(unix.SYS_VMSPLICE, uintptr(s.fd("report")), s.words(uint64(s.space()), 0), 1, 0)
		}},
		{"dup the listener", func(s *scene) error { return call(unix.SYS_DUP, uintptr(s.fd("listener"))) }},
		{"dup2 the listener", func(s *scene) error { return call(unix.SYS_DUP2, uintptr(s.fd("listener")), 200) }},
		{"dup3 the listener", func(s *scene) error { return call(unix.SYS_DUP3, uintptr(s.fd("listener")), 200, 0) }},
		{"dup the listener by fcntl", func(s *scene) error { return call(unix.SYS_FCNTL, uintptr(s.fd("listener")), unix.F_DUPFD, 100) }},
		{"keep the listener over execve", func(s *scene) error { return call(unix.SYS_FCNTL, uintptr(s.fd("listener")), unix.F_SETFD, 0) }},
		{"lease a gift", func(s *scene) error {
			return call(unix.SYS_FCNTL, uintptr(s.fd("board")), unix.F_SETLEASE, unix.F_RDLCK)
		}},
		{"seal the board", func(s *scene) error {
			err := call(unix.SYS_FCNTL, uintptr(s.fd("board")), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
			if err == unix.EBUSY {
				return nil
			}
			return err
		}},
		{"close all descriptors at once", func(*scene) error { return call(unix.SYS_CLOSE_RANGE, 300, 400, 0) }},
	}
}
