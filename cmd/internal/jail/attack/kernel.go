//go:build drill && amd64

package main

import "golang.org/x/sys/unix"

// reaching is after the parts of the kernel that have had holes, and what only root may do.
func reaching() []attempt {
	return []attempt{
		{"bpf", func(s *scene) error {
			return call(unix.SYS_BPF, unix.BPF_MAP_CREATE, s.words(2|4<<32, 4|1<<32, 0, 0, 0, 0, 0, 0, 0), 72)
		}},
		{"io_uring_setup", func(s *scene) error { return call(unix.SYS_IO_URING_SETUP, 1, s.space()) }},
		{"io_uring_register", func(s *scene) error { return call(unix.SYS_IO_URING_REGISTER, ^uintptr(0), 0, 0, 0) }},
		{"aio", func(s *scene) error { return call(unix.SYS_IO_SETUP, 1, s.words(0)) }},
		{"init_module", func(s *scene) error { return call(unix.SYS_INIT_MODULE, s.space(), 64, s.text("")) }},
		{"finit_module", func(s *scene) error { return call(unix.SYS_FINIT_MODULE, uintptr(s.fd("board")), s.text(""), 0) }},
		{"delete_module", func(s *scene) error { return call(unix.SYS_DELETE_MODULE, s.text("nothing"), 0) }},
		{"kexec_load", func(*scene) error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0) }},
		{"kexec_file_load", func(s *scene) error { return call(unix.SYS_KEXEC_FILE_LOAD, uintptr(s.fd("board")), 0, 0, 0, 4) }},
		{"reboot", func(*scene) error { return call(unix.SYS_REBOOT, 0xfee1dead, 672274793, 0, 0) }}, // CAD off: nothing happens
		{"swapon", func(s *scene) error { return call(unix.SYS_SWAPON, s.text("/dev/null"), 0) }},
		{"acct", func(*scene) error { return call(unix.SYS_ACCT, 0) }},
		{"quotactl", func(s *scene) error { return call(unix.SYS_QUOTACTL, 0x800001, 0, 0, 0) }},
		{"sethostname", func(s *scene) error { return call(unix.SYS_SETHOSTNAME, s.text("x"), 1) }},
		{"settimeofday", func(s *scene) error { return call(unix.SYS_SETTIMEOFDAY, s.words(1, 0), 0) }},
		{"clock_settime", func(s *scene) error { return call(unix.SYS_CLOCK_SETTIME, 0, s.words(1, 0)) }},
		{"adjtimex", func(s *scene) error {
			return call(unix.SYS_ADJTIMEX, s.words(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
		}},
		{"iopl", func(*scene) error { return call(unix.SYS_IOPL, 3) }},
		{"ioperm", func(*scene) error { return call(unix.SYS_IOPERM, 0x80, 1, 1) }},
		{"vhangup", func(*scene) error { return call(unix.SYS_VHANGUP) }},
		{"keyctl: read a keyring", func(*scene) error { return call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 1) }},
		{"add_key", func(s *scene) error {
			return call(unix.SYS_ADD_KEY, s.text("user"), s.text("x"), s.text("y"), 1, ^uintptr(2))
		}},
		{"request_key", func(s *scene) error {
			err := call(unix.SYS_REQUEST_KEY, s.text("user"), s.text("nothing"), 0, ^uintptr(2))
			if err == unix.ENOKEY {
				return nil
			}
			return err
		}},
		{"msgget", func(*scene) error { return call(unix.SYS_MSGGET, 0, 0o1600) }},
		{"semget", func(*scene) error { return call(unix.SYS_SEMGET, 0, 1, 0o1600) }},
		{"mq_open", func(s *scene) error {
			return call(unix.SYS_MQ_OPEN, s.text("sallyport-attack"), unix.O_CREAT|unix.O_RDWR, 0o600, 0)
		}},
		{"membarrier", func(*scene) error { return call(unix.SYS_MEMBARRIER, 0, 0, 0) }},
		{"rseq", func(s *scene) error {
			err := call(unix.SYS_RSEQ, s.space(), 32, 0, 0)
			if err == unix.EINVAL {
				return nil // it was let try, with memory that is not aligned
			}
			return err
		}},
		{"set_mempolicy", func(*scene) error { return call(unix.SYS_SET_MEMPOLICY, 0, 0, 0) }},
		{"set the priority of I/O", func(*scene) error { return call(unix.SYS_IOPRIO_SET, 1, 0, 2<<13|4) }},
		{"type into the terminal", func(s *scene) error {
			err := call(unix.SYS_IOCTL, 2, unix.TIOCSTI, s.text("x"))
			if err == unix.ENOTTY {
				return nil // it was let try, on what is no terminal
			}
			return err
		}},
	}
}

// waiting is after what takes memory of the kernel, or wakes it later.
func waiting() []attempt {
	return []attempt{
		{"timer_create", func(s *scene) error { return call(unix.SYS_TIMER_CREATE, 1, 0, s.space()) }},
		{"timerfd_create", func(*scene) error { return call(unix.SYS_TIMERFD_CREATE, 1, 0) }},
		{"setitimer", func(s *scene) error { return call(unix.SYS_SETITIMER, 1, s.words(0, 0, 100, 0), 0) }},
		{"alarm", func(*scene) error { return call(unix.SYS_ALARM, 100) }},
		{"signalfd", func(s *scene) error { return call(unix.SYS_SIGNALFD4, ^uintptr(0), s.words(0), 8, 0) }},
		{"eventfd", func(*scene) error { return call(unix.SYS_EVENTFD2, 0, 0) }},
		{"epoll_create", func(*scene) error { return call(unix.SYS_EPOLL_CREATE1, 0) }},
		{"pipe by pipe(2)", func(s *scene) error { return call(unix.SYS_PIPE, s.space()) }},
		{"select", func(s *scene) error { return call(unix.SYS_SELECT, 0, 0, 0, 0, s.words(0, 0)) }},
		{"poll by poll(2)", func(s *scene) error { return call(unix.SYS_POLL, 0, 0, 0) }},
		{"brk", func(*scene) error { return call(unix.SYS_BRK, 0) }},
		{"uname", func(s *scene) error { return call(unix.SYS_UNAME, s.space()) }},
		{"getppid", func(*scene) error { return call(unix.SYS_GETPPID) }},
		{"getuid", func(*scene) error { return call(unix.SYS_GETUID) }},
		{"times", func(s *scene) error { return call(unix.SYS_TIMES, s.space()) }},
		{"getpgrp", func(*scene) error { return call(unix.SYS_GETPGRP) }},
	}
}
