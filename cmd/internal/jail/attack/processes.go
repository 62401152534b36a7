//go:build drill && amd64

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// child ends at once if it is one.
func child(pid uintptr, err error) error {
	if err == nil && pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return err
}

// executing is after running something else.
func executing() []attempt {
	return []attempt{
		{"execve a shell", func(s *scene) error { return s.execute("/bin/sh") }},
		{"execveat a path", func(s *scene) error {
			return call(unix.SYS_EXECVEAT, here, s.text("/bin/true"), s.words(uint64(s.text("x")), 0), s.words(0), 0)
		}},
		{"execveat a descriptor", func(s *scene) error {
			return call(unix.SYS_EXECVEAT, uintptr(s.fd("board")), s.text(""), s.words(uint64(s.text("x")), 0), s.words(0), unix.AT_EMPTY_PATH)
		}},
		{"fork by clone", func(*scene) error { return child(result(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0)) }},
		{"fork by fork(2)", func(*scene) error { return child(result(unix.SYS_FORK)) }},
		{"fork into a user namespace", func(*scene) error {
			return child(result(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0))
		}},
		{"fork by clone3", func(s *scene) error {
			return child(result(unix.SYS_CLONE3, s.words(0, 0, 0, 0, uint64(unix.SIGCHLD), 0, 0, 0), 64))
		}},
		{"call by the gate of 32 bits", throughOldGate},
		{"call by the table of x32", func(*scene) error { return call(0x40000000 | unix.SYS_GETPID) }},
		{"be another kernel's program", func(*scene) error { return call(unix.SYS_PERSONALITY, 0x0400000) }},
		{"change a segment", func(s *scene) error { return call(unix.SYS_MODIFY_LDT, 0, s.space(), 64) }},
		{"load a library by uselib", func(s *scene) error { return call(unix.SYS_USELIB, s.text("/bin/true")) }},
	}
}

// pages maps anonymous memory.
func pages(protection uintptr) (uintptr, error) {
	return result(unix.SYS_MMAP, 0, 8192, protection, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
}

// onPages does something with new memory.
func onPages(number uintptr, arguments ...uintptr) error {
	at, err := pages(unix.PROT_READ | unix.PROT_WRITE)
	if err != nil {
		return err
	}
	return call(number, append([]uintptr{at, 8192}, arguments...)...)
}

// remembering is after memory that can be executed, or that others see.
func remembering() []attempt {
	return []attempt{
		{"map memory to write and execute", func(*scene) error { _, err := pages(unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC); return err }},
		{"map memory to execute", func(*scene) error { _, err := pages(unix.PROT_READ | unix.PROT_EXEC); return err }},
		{"map a gift", func(s *scene) error {
			_, err := result(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_SHARED, uintptr(s.fd("board")), 0)
			return err
		}},
		{"map a gift to execute", func(s *scene) error {
			_, err := result(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE, uintptr(s.fd("board")), 0)
			return err
		}},
		{"make memory executable", func(*scene) error { return onPages(unix.SYS_MPROTECT, unix.PROT_READ|unix.PROT_EXEC) }},
		{"make memory executable by a key", func(*scene) error {
			return onPages(unix.SYS_PKEY_MPROTECT, unix.PROT_READ|unix.PROT_EXEC, ^uintptr(0))
		}},
		{"lock memory", func(*scene) error { return onPages(unix.SYS_MLOCK) }},
		{"move memory", func(*scene) error { return onPages(unix.SYS_MREMAP, 16384, unix.MREMAP_MAYMOVE) }},
		{"ask what is in memory", func(s *scene) error { return onPages(unix.SYS_MINCORE, s.space()) }},
		{"share equal memory", func(*scene) error { return onPages(unix.SYS_MADVISE, unix.MADV_MERGEABLE) }},
		{"advise another process", func(s *scene) error { return call(unix.SYS_PROCESS_MADVISE, 0, s.words(0, 0), 1, unix.MADV_COLD, 0) }},
		{"remap pages of a file", func(*scene) error { return onPages(unix.SYS_REMAP_FILE_PAGES, 0, 0, 0) }},
		{"memfd_create", func(s *scene) error { return call(unix.SYS_MEMFD_CREATE, s.text("x"), 0) }},
		{"memfd_secret", func(*scene) error { return call(unix.SYS_MEMFD_SECRET, 0) }},
		{"userfaultfd", func(*scene) error { return call(unix.SYS_USERFAULTFD, 1) }},
		{"shmget", func(*scene) error { return call(unix.SYS_SHMGET, 0, 4096, 0o1600) }},
		{"change its map by prctl", func(*scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_BRK, 4096, 0, 0) }},
	}
}

// becoming is after being somebody else, or bound by less.
func becoming() []attempt {
	return []attempt{
		{"setuid 0", func(*scene) error { return call(unix.SYS_SETUID, 0) }},
		{"setresuid to the keeper", func(*scene) error { return call(unix.SYS_SETRESUID, 60579, 60579, 60579) }},
		{"setreuid 0", func(*scene) error { return call(unix.SYS_SETREUID, 0, 0) }},
		{"setgid 0", func(*scene) error { return call(unix.SYS_SETGID, 0) }},
		{"setresgid 0", func(*scene) error { return call(unix.SYS_SETRESGID, 0, 0, 0) }},
		{"setgroups", func(s *scene) error { return call(unix.SYS_SETGROUPS, 1, s.words(0)) }},
		{"capset all", func(s *scene) error {
			return call(unix.SYS_CAPSET, s.words(unix.LINUX_CAPABILITY_VERSION_3), s.words(1<<unix.CAP_NET_ADMIN, 0, 0))
		}},
		{"raise an ambient capability", func(*scene) error {
			return call(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_ADMIN, 0, 0)
		}},
		{"keep capabilities", func(*scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0) }},
		{"set secure bits", func(*scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, 1, 0, 0, 0) }},
		{"be dumpable", func(*scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }},
		{"have a tracer", func(*scene) error { return call(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0) }},
		{"let anybody trace it", func(*scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0) }},
		{"outlive its warden", func(*scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0, 0, 0, 0) }},
		{"adopt orphans", func(*scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }},
		{"have another name", func(s *scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_NAME, s.text("sshd"), 0, 0, 0) }},
		{"lay a filter that listens", func(s *scene) error {
			filter := s.bytes([]byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f}) // return SECCOMP_RET_ALLOW
			return call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, s.words(1, uint64(filter)))
		}},
		{"make a landlock ruleset", func(s *scene) error { return call(unix.SYS_LANDLOCK_CREATE_RULESET, s.words(1), 8, 0) }},
		{"lower a limit", func(s *scene) error { return call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, s.words(64, 64), 0) }},
		{"raise the limit of cores", func(s *scene) error { return call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, s.words(1<<30, 1<<30), 0) }},
		{"raise a limit by setrlimit", func(s *scene) error { return call(unix.SYS_SETRLIMIT, unix.RLIMIT_MEMLOCK, s.words(1<<30, 1<<30)) }},
		{"be of real time", func(s *scene) error { return call(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, s.words(1)) }},
		{"be of lower priority", func(*scene) error { return call(unix.SYS_SETPRIORITY, 0, 0, 5) }},
		{"be on one processor", func(s *scene) error { return call(unix.SYS_SCHED_SETAFFINITY, 0, 8, s.words(1)) }},
		{"have a session", func(*scene) error { return call(unix.SYS_SETPGID, 0, 0) }},
		{"have exact timers", func(*scene) error { return call(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }},
	}
}

// killing is after the end of others.
func killing() []attempt {
	return []attempt{
		{"kill its brother", func(s *scene) error { return call(unix.SYS_KILL, uintptr(s.Brother), uintptr(unix.SIGCONT)) }},
		{"kill a stranger", func(s *scene) error { return call(unix.SYS_KILL, uintptr(s.Stranger), uintptr(unix.SIGCONT)) }},
		{"kill who started it", func(s *scene) error { return call(unix.SYS_KILL, uintptr(s.Starter), uintptr(unix.SIGCONT)) }},
		{"kill all that it may", func(s *scene) error { return call(unix.SYS_KILL, ^uintptr(0), 0) }},
		{"tgkill its brother", func(s *scene) error {
			return call(unix.SYS_TGKILL, uintptr(s.Brother), uintptr(s.Brother), uintptr(unix.SIGCONT))
		}},
		{"tkill its brother", func(s *scene) error { return call(unix.SYS_TKILL, uintptr(s.Brother), uintptr(unix.SIGCONT)) }},
		{"queue a signal to its brother", func(s *scene) error {
			return call(unix.SYS_RT_SIGQUEUEINFO, uintptr(s.Brother), uintptr(unix.SIGCONT), s.words(uint64(unix.SIGCONT), 0xffffffff, 0))
		}},
		{"pidfd_open its brother", func(s *scene) error { return call(unix.SYS_PIDFD_OPEN, uintptr(s.Brother), 0) }},
		{"signal its brother by a pidfd", func(s *scene) error {
			fd, err := result(unix.SYS_PIDFD_OPEN, uintptr(s.Brother), 0)
			if err != nil {
				return err
			}
			return call(unix.SYS_PIDFD_SEND_SIGNAL, fd, uintptr(unix.SIGCONT), 0, 0)
		}},
		{"own a socket in its brother's name", func(s *scene) error {
			return call(unix.SYS_FCNTL, uintptr(s.fd("listener")), unix.F_SETOWN, uintptr(s.Brother))
		}},
		{"choose the signal of a socket", func(s *scene) error { return call(unix.SYS_FCNTL, uintptr(s.fd("listener")), unix.F_SETSIG, 9) }},
		{"limit its brother", func(s *scene) error {
			return call(unix.SYS_PRLIMIT64, uintptr(s.Brother), unix.RLIMIT_CPU, s.words(1<<40, 1<<40), 0)
		}},
		{"slow its brother down", func(s *scene) error { return call(unix.SYS_SETPRIORITY, 0, uintptr(s.Brother), 5) }},
		{"move its brother to a processor", func(s *scene) error { return call(unix.SYS_SCHED_SETAFFINITY, uintptr(s.Brother), 8, s.words(3)) }},
		{"wait for a child", func(s *scene) error {
			err := call(unix.SYS_WAIT4, ^uintptr(0), 0, unix.WNOHANG, 0)
			if err == unix.ECHILD {
				return nil // it was let ask
			}
			return err
		}},
	}
}

// spying is after what others know.
func spying() []attempt {
	return []attempt{
		{"ptrace its brother", func(s *scene) error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(s.Brother), 0, 0) }},
		{"ptrace a stranger", func(s *scene) error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(s.Stranger), 0, 0) }},
		{"read its brother's memory", func(s *scene) error {
			remote := s.words(uint64(s.space()), 8)
			err := call(unix.SYS_PROCESS_VM_READV, uintptr(s.Brother), s.words(uint64(s.space()), 8), 1, remote, 1, 0)
			if err == unix.EFAULT {
				return nil // it was let look, at an address where nothing is
			}
			return err
		}},
		{"write its brother's memory", func(s *scene) error {
			err := call(unix.SYS_PROCESS_VM_WRITEV, uintptr(s.Brother), s.words(uint64(s.space()), 8), 1, s.words(8, 8), 1, 0)
			if err == unix.EFAULT {
				return nil
			}
			return err
		}},
		{"take its brother's descriptor", func(s *scene) error {
			fd, err := result(unix.SYS_PIDFD_OPEN, uintptr(s.Brother), 0)
			if err != nil {
				return err
			}
			return call(unix.SYS_PIDFD_GETFD, fd, 0, 0)
		}},
		{"compare itself with its brother", func(s *scene) error { return call(unix.SYS_KCMP, uintptr(unix.Getpid()), uintptr(s.Brother), 0, 0, 0) }},
		{"count its own events", func(s *scene) error {
			attr := unix.PerfEventAttr{Type: 1, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
			return call(unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&attr)), 0, ^uintptr(0), ^uintptr(0), 0)
		}},
		{"find its brother's locks", func(s *scene) error { return call(unix.SYS_GET_ROBUST_LIST, uintptr(s.Brother), s.space(), s.space()) }},
		{"move its brother's pages", func(s *scene) error {
			return call(unix.SYS_MIGRATE_PAGES, uintptr(s.Brother), 1, s.words(1), s.words(1))
		}},
		{"read the kernel's log", func(s *scene) error { return call(unix.SYS_SYSLOG, 3, s.space(), 4096) }},
		{"ask how the machine is", func(s *scene) error { return call(unix.SYS_SYSINFO, s.space()) }},
		{"ask what it has used", func(s *scene) error { return call(unix.SYS_GETRUSAGE, 0, s.space()) }},
		{"ask for its brother's session", func(s *scene) error { return call(unix.SYS_GETSID, uintptr(s.Brother)) }},
	}
}
