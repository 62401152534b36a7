package jail

import (
	"slices"

	"golang.org/x/sys/unix"
)

// This file is the table of system calls: which process may make which, why, and what
// becomes of those that it may not make.
//
// A core has two filters, and so has a keeper. The one of the door lets Go's runtime start
// and the program wire itself from its gifts; no byte of a client is read under it. The
// other is laid on top before the doors open, and takes away what was for the start:
// Confine. A warden has one, which its stages inherit, and their programs, so that it
// allows whatever one of these does. An app has none: it is not ours, and its warden
// cannot know what it needs. A planner has one, of its own door: boot starts it, and it
// starts nothing.
//
// Verdicts: what a filter does not list fails with EPERM, for a new release of Go may try
// a new call, and copes; what only an exploit does kills, and is said by the warden;
// clone3 is as unknown as to an older kernel, because its flags are in memory, where a
// filter does not see them, and whoever needs threads turns to clone.

// A filterSet says in which filters a call is allowed. The last filter of a core is inCore
// with one or both of inConnect and inTake, and perhaps inQUIC.
type filterSet uint16

const (
	inCore   filterSet = 1 << iota // the last one of a core
	inKeeper                       // of a keeper
	inStart                        // the one of the door, for both, for the dialer and the registrar
	inWarden                       // which dialers, keepers, cores and registrars have too
	inPlanner
	inMason
	inDialer  // its last one
	inConnect // of a core that connects to apps by itself, from its own root
	inTake    // of a core that is given connections by the dialer
	inRegistrar
	inDial    // of the registrar and its warden, besides theirs
	inState   // of whoever is given a folder to keep files in, likewise, and of its warden
	inQUIC    // of a core that has UDP sockets
	inAll     = inCore | inKeeper | inStart | inWarden | inMason | inDialer | inRegistrar
	inRuntime = inAll | inPlanner // what every program in Go makes
)

// A subject is what a filter is told of the process that it is for.
type subject struct {
	pid     uint32
	program uint32   // descriptor of what it executes
	dialer  uint32   // descriptor of a core's link to the dialer
	slots   []uint32 // descriptors of its UDP sockets
}

// A call is a row of the table. Its numbers are those of amd64 and arm64, none where the
// machine does not have it.
type call struct {
	name         string
	amd64, arm64 int
	allowed      filterSet
	shapes       []shape // nil: with any arguments
	reason       string
}

const none = -1

// is is the condition that an int argument is one of these.
func is(argument int, values ...uint32) condition {
	return condition{argument: argument, mask: whole, values: values}
}

// option is the shape of socket options at the level of sockets.
func option(names ...uint32) []shape {
	return []shape{{is(1, unix.SOL_SOCKET), is(2, names...)}}
}

// ofQUIC are the options that quic-go sets on UDP sockets that it is given.
func ofQUIC() []shape {
	return []shape{
		{is(1, unix.IPPROTO_IP), is(2, unix.IP_RECVTOS, unix.IP_PKTINFO, unix.IP_MTU_DISCOVER)},
		{is(1, unix.IPPROTO_IPV6), is(2, unix.IPV6_RECVTCLASS, unix.IPV6_RECVPKTINFO, unix.IPV6_MTU_DISCOVER)},
	}
}

const (
	archSetFS = 0x1002 // ARCH_SET_FS, arch_prctl(2)
	sockKinds = 0xf    // of the second argument of socket(2): the rest are flags
	protRead  = unix.PROT_READ
	protWrite = unix.PROT_WRITE
)

// goThread is how Go's runtime makes a thread: newosproc in its os_linux.go. On amd64 it
// adds the thread's own memory, CLONE_SETTLS.
const goThread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// protection is the condition that memory is not to be executed. It is a long.
func protection() condition {
	return condition{argument: 2, wide: true, mask: whole, values: []uint32{0, protRead, protRead | protWrite}}
}

// flags is the condition that clone makes what these say. They are a long.
func flags(values ...uint32) condition {
	return condition{argument: 0, wide: true, mask: whole, values: values}
}

// notDumpable is the one way in which that is set.
func notDumpable() shape { return shape{is(0, unix.PR_SET_DUMPABLE), is(1, 0)} }

// calls is the table, with what is known of the process. What is called for each request
// stands first, and before that what is so with arguments to look at: the kernel remembers
// of the others that they are allowed.
func calls(of subject) []call {
	return slices.Concat(dialCalls(), requestCalls(of.dialer, of.slots), runtimeCalls(of.pid), stateCalls(), startCalls(of.program), wardenCalls(), masonCalls())
}

// dialCalls are what it takes to talk to a CA. They stand before those of others, whose
// shapes are narrower.
func dialCalls() []call {
	const both = inRegistrar | inDial
	kind := func(kinds ...uint32) condition { return condition{argument: 1, mask: sockKinds, values: kinds} }
	tcp := shape{is(0, unix.AF_INET, unix.AF_INET6), kind(unix.SOCK_STREAM), is(2, 0, unix.IPPROTO_TCP)}
	udp := shape{is(0, unix.AF_INET, unix.AF_INET6), kind(unix.SOCK_DGRAM), is(2, 0, unix.IPPROTO_UDP)}
	local := shape{is(0, unix.AF_UNIX), kind(unix.SOCK_STREAM)} // a warden's other children have it from here
	options := []shape{
		{is(1, unix.SOL_SOCKET), is(2, unix.SO_KEEPALIVE, unix.SO_BROADCAST, unix.SO_REUSEADDR, unix.SO_PASSRIGHTS, unix.SO_LINGER)},
		{is(1, unix.IPPROTO_TCP), is(2, unix.TCP_NODELAY, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT)},
		{is(1, unix.IPPROTO_IPV6), is(2, unix.IPV6_V6ONLY)},
	}
	return []call{
		{"socket", 41, 198, inRegistrar, []shape{tcp, udp}, "the CA, and name servers"},
		{"socket", 41, 198, inDial, []shape{tcp, udp, local}, "likewise"},
		{"bind", 49, 200, both, nil, "answered with EADDRINUSE: it listens nowhere, and certmagic takes it that others do"},
		{"connect", 42, 203, inRegistrar, nil, "the CA, and name servers"},
		{"getsockname", 51, 204, both, nil, "of connections"},
		{"getpeername", 52, 205, both, nil, "of connections"},
		{"setsockopt", 54, 208, both, options, "of connections"},
		{"getsockopt", 55, 209, inRegistrar, nil, "did it connect?"},
		{"fcntl", 72, 25, inRegistrar, []shape{{is(1, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD)}}, "of files"},
		{"openat", 257, 56, both, nil, "resolv.conf, hosts, nsswitch.conf, and the account; landlock has no others"},
		{"newfstatat", 262, 79, both, nil, "have they changed?"},
		{"fstat", 5, 80, inRegistrar, nil, "likewise"},
		{"getdents64", 217, 61, both, nil, "folders of certificates to trust"},
		{"readlinkat", 267, 78, inDial, nil, "likewise"},
		{"lseek", 8, 62, inRegistrar, nil, "of files"},
		{"uname", 63, 160, inRegistrar, nil, "the name of the machine, for resolv.conf without a domain"},
		{"geteuid", 107, 175, inRegistrar, nil, "whose the files of the account are"},
	}
}

// stateCalls are what a Folder takes, in whichever process it is.
func stateCalls() []call {
	return []call{
		{"openat", 257, 56, inState, nil, "files of the folder; landlock has no others"},
		{"fstat", 5, 80, inState, nil, "whose they are"},
		{"newfstatat", 262, 79, inState, nil, "are they there?"},
		{"fsync", 74, 82, inState, nil, "they are on the disk"},
		{"renameat", 264, 38, inState, nil, "they are replaced whole"},
		{"unlinkat", 263, 35, inState, nil, "they are removed"},
		{"getdents64", 217, 61, inState, nil, "what a predecessor has not finished"},
		{"geteuid", 107, 175, inState, nil, "whose they are"},
	}
}

// controls are the commands of fcntl that a core has, which may have UDP sockets.
func controls(slots []uint32) []shape {
	pipes := []shape{{is(1, unix.F_SETPIPE_SZ, unix.F_GETPIPE_SZ)}}
	if len(slots) == 0 {
		return pipes
	}
	return append(pipes, shape{is(0, slots...), is(1, unix.F_SETLK)})
}

// requestCalls are what connections and links take.
func requestCalls(dialer uint32, slots []uint32) []call {
	localStream := shape{is(0, unix.AF_UNIX), {argument: 1, mask: sockKinds, values: []uint32{unix.SOCK_STREAM}}}
	noFastOpen := condition{argument: 3, mask: unix.MSG_FASTOPEN, values: []uint32{0}}
	noFastOpenMessage := condition{argument: 2, mask: unix.MSG_FASTOPEN, values: []uint32{0}}
	return []call{
		{"sendto", 44, 206, inAll, []shape{{noFastOpen}}, "writes to clients, apps and links; MSG_FASTOPEN would connect, past landlock"},
		{"socket", 41, 198, inConnect | inStart | inWarden | inDialer, []shape{localStream}, "connections to apps; no other network"},
		{"recvfrom", 45, 207, inAll, nil, "reads of clients, apps and links"},
		{"epoll_pwait", 281, 22, inRuntime, nil, "waits for readiness, the loop's and the runtime's"},
		{"close", 3, 57, inRuntime, nil, "of connections"},
		{"epoll_ctl", 233, 21, inRuntime, nil, "connections are watched"},
		{"accept4", 288, 242, inCore | inStart | inWarden, nil, "clients"},
		{"connect", 42, 203, inConnect | inStart | inWarden | inDialer, nil, "apps; the root of a core has no others, and landlock keeps it from TCP"},
		{"write", 1, 64, inRuntime, nil, "the log, and bells"},
		{"read", 0, 63, inRuntime, nil, "bells and pipes"},
		{"splice", 275, 76, inCore | inStart | inWarden, nil, "long bodies pass without being copied"},
		{"pread64", 17, 67, inRuntime, nil, "bodies in the spool, sealed memory, and key files that come by a reload"},
		{"pwrite64", 18, 68, inCore | inStart | inWarden, nil, "bodies into the spool, and the files that the keeper was given"},
		{"fallocate", 285, 47, inCore | inStart | inWarden, []shape{{is(1, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)}}, "room in the spool is given back"},
		{"shutdown", 48, 210, inCore | inStart | inWarden, []shape{{is(1, unix.SHUT_WR, unix.SHUT_RDWR)}}, "ends of connections; SHUT_RD has no use but to deafen a listener"},
		{"pipe2", 293, 59, inCore | inStart | inWarden | inMason, nil, "for splice, and reports"},
		{"ppoll", 271, 73, inAll, nil, "the keeper's wait, and the core's look at a bell"},
		{"setsockopt", 54, 208, inCore, slices.Concat(option(unix.SO_LINGER), ofQUIC()), "a reset instead of an end; where packets of QUIC came to, how they were marked, and that no router cuts them"},
		{"sendmsg", 46, 211, inQUIC, []shape{{is(0, slots...), noFastOpenMessage}}, "packets of QUIC, by the dozen, from the address that their client has found; by no other socket, which could give descriptors away"},
		{"recvmmsg", 299, 243, inQUIC, []shape{{is(0, slots...)}}, "packets of QUIC, eight at a time"},
		{"recvmmsg", 299, 243, inStart | inWarden, nil, "likewise"},
		{"setsockopt", 54, 208, inKeeper, option(unix.SO_PASSRIGHTS), "links take no descriptors"},
		{"setsockopt", 54, 208, inStart, slices.Concat(option(unix.SO_PASSRIGHTS, unix.SO_LINGER), ofQUIC()), "links take no descriptors, and what cores do"},
		{
			"setsockopt", 54, 208, inWarden, slices.Concat(option(unix.SO_PASSRIGHTS, unix.SO_LINGER, unix.SO_ATTACH_REUSEPORT_CBPF), ofQUIC()),
			"likewise, and packets of QUIC go to the core that their ids name; a core has no say in that",
		},
		{"recvmsg", 47, 212, inTake, []shape{{is(0, dialer)}}, "connections that the dialer has made; nobody else passes anything"},
		{"recvmsg", 47, 212, inKeeper | inStart | inWarden | inMason | inDialer, nil, "links of new cores come with a descriptor"},
		{"sendmsg", 46, 211, inStart | inWarden | inMason | inDialer, nil, "the same, and the dialer's connections and a root, on their way"},
		{"fcntl", 72, 25, inCore, controls(slots), "room in pipes; of the cores that have one UDP socket, one has its lock; flags stay, for a blocking listener would stop its other holders"},
		{"fcntl", 72, 25, inKeeper, []shape{{is(1, unix.F_GETFL, unix.F_GETFD, unix.F_GET_SEALS)}}, "questions"},
		{"fcntl", 72, 25, inDialer, []shape{{is(1, unix.F_GETFL, unix.F_SETFL, unix.F_GET_SEALS)}}, "links of new cores are not to block; questions"},
		{"fcntl", 72, 25, inStart, []shape{{is(1, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD, unix.F_GET_SEALS,
			unix.F_DUPFD_CLOEXEC, unix.F_SETPIPE_SZ, unix.F_GETPIPE_SZ, unix.F_SETLK)}}, "what gifts are is looked at, and set"},
		{"fcntl", 72, 25, inPlanner, []shape{{is(1, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_GET_SEALS)}}, "what gifts are is looked at"},
		{"getsockopt", 55, 209, inKeeper | inStart | inWarden, nil, "what a descriptor is, and who called"},
		{
			"getsockopt", 55, 209, inCore, append(option(unix.SO_PROTOCOL, unix.SO_RCVBUF, unix.SO_SNDBUF), shape{is(1, unix.IPPROTO_UDP), is(2, unix.UDP_SEGMENT)}),
			"x/sys asks the first of the address that getsockname tells; of QUIC, how much room boot has made, and whether packets go out by the dozen",
		},
		{"getsockname", 51, 204, inCore | inStart | inWarden, nil, "which address a client has reached that sends no name in its handshake, and where a UDP socket is bound"},
	}
}

// runtimeCalls are what Go's runtime makes at any time.
func runtimeCalls(pid uint32) []call {
	anonymous := condition{argument: 3, mask: unix.MAP_ANONYMOUS, values: []uint32{unix.MAP_ANONYMOUS}}
	threads := shape{flags(goThread, goThread|unix.CLONE_SETTLS)}
	given := []uint32{unix.MADV_DONTNEED, unix.MADV_FREE, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_COLLAPSE}
	return []call{
		{"nanosleep", 35, 101, inRuntime, nil, "the scheduler's pauses"},
		{"futex", 202, 98, inRuntime, nil, "the scheduler's waits"},
		{"mmap", 9, 222, inCore | inKeeper | inDialer | inRegistrar, []shape{{protection(), anonymous}}, "memory; none that may be executed"},
		{"munmap", 11, 215, inRuntime, nil, "memory is given back"},
		{"madvise", 28, 233, inRuntime, []shape{{is(2, given...)}}, "memory is given back"},
		{"clone", 56, 220, inCore | inKeeper | inStart | inDialer | inRegistrar | inPlanner, []shape{threads}, "threads, and no process"},
		{"tgkill", 234, 131, inCore | inKeeper | inStart | inDialer | inRegistrar | inPlanner, []shape{{is(0, pid)}}, "the runtime interrupts its own threads"},
		{"gettid", 186, 178, inRuntime, nil, "threads of the runtime"},
		{"getpid", 39, 172, inRuntime, nil, "tgkill takes it"},
		{"sched_yield", 24, 124, inRuntime, nil, "the scheduler gives way"},
		{"sched_getaffinity", 204, 123, inRuntime, nil, "processors are counted"},
		{"getrandom", 318, 278, inRuntime, nil, "keys of handshakes, where the vDSO has none"},
		{"clock_gettime", 228, 113, inRuntime, nil, "where the vDSO has no clock"},
		{"clock_nanosleep", 230, 115, inRuntime, nil, "what a kernel may restart nanosleep as"},
		{"restart_syscall", 219, 128, inRuntime, nil, "what a stopped wait goes on as"},
		{"rt_sigaction", 13, 134, inRuntime, nil, "the runtime handles signals"},
		{"rt_sigprocmask", 14, 135, inRuntime, nil, "likewise"},
		{"rt_sigreturn", 15, 139, inRuntime, nil, "the end of a handler"},
		{"sigaltstack", 131, 132, inRuntime, nil, "each thread has one"},
		{"exit", 60, 93, inRuntime, nil, "of threads"},
		{"exit_group", 231, 94, inRuntime, nil, "the end"},
		{"prctl", 157, 167, inCore | inKeeper | inDialer | inRegistrar, []shape{{is(0, unix.PR_SET_VMA)}}, "the runtime names its memory"},
		{"eventfd2", 290, 19, inKeeper | inRegistrar | inStart | inWarden | inMason | inPlanner, nil, "bells"},
		{"epoll_create1", 291, 20, inKeeper | inRegistrar | inStart | inWarden | inMason | inPlanner, nil, "the loop"},
	}
}

// startCalls are what a program of ours makes until it is wired.
func startCalls(program uint32) []call {
	return []call{
		{"mmap", 9, 222, inStart | inWarden | inMason | inPlanner, []shape{{protection()}}, "memory, and that of the board; none that may be executed"},
		{"prctl", 157, 167, inStart | inPlanner, []shape{{is(0, unix.PR_SET_VMA, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP)}, notDumpable()}, "Seal"},
		{"seccomp", 317, 277, inStart | inWarden, []shape{{is(0, unix.SECCOMP_SET_MODE_FILTER), is(1, 0, unix.SECCOMP_FILTER_FLAG_TSYNC)}}, "the next filter, which can only take away"},
		{"execveat", 322, 281, inStart | inPlanner, []shape{{is(0, program), is(4, unix.AT_EMPTY_PATH)}}, "the program of the role, by its descriptor"},
		{"uname", 63, 160, inStart | inWarden | inMason | inPlanner, nil, "of which kernel"},
		{"arch_prctl", 158, none, inStart | inWarden | inMason | inPlanner, []shape{{is(0, archSetFS)}}, "the first thread's own memory"},
		{"fstat", 5, 80, inKeeper | inStart | inWarden | inMason | inDialer | inPlanner, nil, "what a descriptor is"},
		{"ftruncate", 77, 46, inStart | inWarden, nil, "of the files that the keeper was given"},
		{"fsync", 74, 82, inStart | inWarden, nil, "likewise"},
		{"fdatasync", 75, 83, inStart | inWarden, nil, "likewise"},
		{"lseek", 8, 62, inStart | inWarden, nil, "likewise"},
		{"ioctl", 16, 29, inStart | inWarden | inMason | inPlanner, []shape{{is(1, unix.TCGETS)}}, "is the log a terminal"},
		{"prlimit64", 302, 261, inStart | inWarden | inMason | inPlanner, []shape{{is(0, 0)}}, "limits of its own, which without a capability only fall"},
		{"getresuid", 118, 148, inStart | inWarden | inMason | inPlanner, nil, "Seal"},
		{"getresgid", 120, 150, inStart | inWarden | inMason | inPlanner, nil, "Seal"},
		{"capget", 125, 90, inStart | inWarden | inMason | inPlanner, nil, "Seal"},
		{"getuid", 102, 174, inStart | inWarden | inMason | inPlanner, nil, "who it is"},
		{"geteuid", 107, 175, inKeeper | inStart | inWarden | inMason | inPlanner, nil, "who it is"},
		{"getgid", 104, 176, inStart | inWarden | inMason | inPlanner, nil, "who it is"},
		{"getegid", 108, 177, inStart | inWarden | inMason | inPlanner, nil, "who it is"},
	}
}

// wardenCalls are what wardens make, and the stages that are their children.
func wardenCalls() []call {
	threads := shape{flags(goThread, goThread|unix.CLONE_SETTLS)}
	forks := shape{flags(uint32(unix.SIGCHLD), unix.CLONE_VM|unix.CLONE_VFORK|uint32(unix.SIGCHLD), unix.CLONE_NEWUSER|uint32(unix.SIGCHLD))}
	return []call{
		{"fcntl", 72, 25, inWarden | inMason, nil, "whatever: its descriptors are its own"},
		{"clone", 56, 220, inWarden, []shape{threads, forks}, "threads, and the children that become stages"},
		{"tgkill", 234, 131, inWarden | inMason, nil, "the pid is that of whoever is started"},
		{"prctl", 157, 167, inWarden, []shape{{is(0, unix.PR_SET_VMA, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP, unix.PR_SET_NAME,
			unix.PR_SET_CHILD_SUBREAPER, unix.PR_CAPBSET_READ, unix.PR_CAPBSET_DROP,
			unix.PR_CAP_AMBIENT, unix.PR_SET_KEEPCAPS, unix.PR_SET_NO_NEW_PRIVS, unix.PR_SET_PDEATHSIG)}, notDumpable()}, "Seal, and the door"},
		{"execveat", 322, 281, inWarden | inMason, []shape{{is(4, unix.AT_EMPTY_PATH)}}, "the programs of stages"},
		{"getgroups", 115, 158, inWarden, nil, "what is lacking"},
		{"openat", 257, 56, inWarden | inMason, nil, "its children, by /proc; the log's null device"},
		{"newfstatat", 262, 79, inWarden | inMason, nil, "likewise"},
		{"getdents64", 217, 61, inWarden | inMason, nil, "likewise"},
		{"readlinkat", 267, 78, inWarden | inMason, nil, "likewise"},
		{"unlinkat", 263, 35, inWarden, nil, "names of sockets, at the end"},
		{"wait4", 61, 260, inWarden | inMason, nil, "the dead are reaped"},
		{"kill", 62, 129, inWarden, nil, "wards are told to end"},
		{"listen", 50, 201, inWarden, nil, "a listener that a core has deafened"},
		{"socketpair", 53, 199, inWarden, nil, "likewise"},
		{"execve", 59, 221, inWarden, nil, "this program again, as a stage; landlock knows no other"},
		{"setsid", 112, 157, inWarden, nil, "of a stage"},
		{"getppid", 110, 173, inWarden, nil, "of a stage, whose parent may be gone"},
		{"dup3", 292, 24, inWarden, nil, "gifts"},
		{"unshare", 272, 97, inWarden, []shape{{is(0, unix.CLONE_FILES)}}, "the stage's own descriptors"},
		{"close_range", 436, 436, inWarden, nil, "likewise"},
		{"chdir", 80, 49, inWarden, nil, "the door"},
		{"fchdir", 81, 50, inWarden, nil, "the door: into the root"},
		{"chroot", 161, 51, inWarden | inMason, nil, "the door: likewise, tried by the mason; only a process in a namespace of its own has the capability"},
		{"umask", 95, 166, inWarden, nil, "the door"},
		{"keyctl", 250, 219, inWarden, []shape{{is(0, unix.KEYCTL_JOIN_SESSION_KEYRING), is(1, 0)}}, "the door: a new session keyring"},
		{"setgroups", 116, 159, inWarden, nil, "the door: groups that it has already"},
		{"setresgid", 119, 149, inWarden, nil, "the door: the group that it has already"},
		{"setresuid", 117, 147, inWarden, nil, "the door: the user that it is already"},
		{"capset", 126, 91, inWarden, nil, "the door: to none"},
		{"landlock_create_ruleset", 444, 444, inWarden, nil, "the door"},
		{"landlock_add_rule", 445, 445, inWarden, nil, "the door"},
		{"landlock_restrict_self", 446, 446, inWarden, nil, "the door"},
	}
}

// masonCalls are what the mason makes, beside what others do: it forks a child into
// namespaces, who has the capabilities there, and mounts.
func masonCalls() []call {
	const builder, worker = unix.CLONE_FILES | unix.CLONE_NEWUSER | unix.CLONE_NEWNS, unix.CLONE_FILES
	threads := shape{flags(goThread, goThread|unix.CLONE_SETTLS)}
	forks := shape{flags(builder|uint32(unix.SIGCHLD), worker|uint32(unix.SIGCHLD))}
	return []call{
		{"clone", 56, 220, inMason, []shape{threads, forks}, "threads, and the children that mount"},
		{"prctl", 157, 167, inMason, []shape{{is(0, unix.PR_SET_VMA, unix.PR_GET_NO_NEW_PRIVS, unix.PR_SET_NAME)}, notDumpable()}, "Seal"},
		{"setns", 308, 268, inMason, nil, "its own namespaces, by their descriptors"},
		{"mount", 165, 40, inMason, nil, "folders into the root, in its own namespace"},
		{"umount2", 166, 39, inMason, nil, "likewise"},
		{"mkdirat", 258, 34, inMason, nil, "where they are mounted"},
	}
}

// A hopeless call is one that no filter allows, or none but that of a warden.
type hopeless struct {
	name         string
	amd64, arm64 int
}

// refused are calls that the runtime makes, copes without, and is not to have.
func refused() []hopeless {
	return []hopeless{
		{"openat", 257, 56}, // limits of a cgroup, and the size of huge pages
	}
}

// deadly are the calls that no program of ours makes: whoever does has taken it over. What
// the same filter allows is not deadly under it.
func deadly() []hopeless {
	return []hopeless{
		{"execve", 59, 221},
		{"execveat", 322, 281},
		{"fork", 57, none},
		{"vfork", 58, none},
		{"ptrace", 101, 117},
		{"process_vm_readv", 310, 270},
		{"process_vm_writev", 311, 271},
		{"process_madvise", 440, 440},
		{"process_mrelease", 448, 448},
		{"bpf", 321, 280},
		{"perf_event_open", 298, 241},
		{"io_uring_setup", 425, 425},
		{"io_uring_enter", 426, 426},
		{"io_uring_register", 427, 427},
		{"userfaultfd", 323, 282},
		{"keyctl", 250, 219},
		{"add_key", 248, 217},
		{"request_key", 249, 218},
		{"mount", 165, 40},
		{"umount2", 166, 39},
		{"pivot_root", 155, 41},
		{"chroot", 161, 51},
		{"unshare", 272, 97},
		{"setns", 308, 268},
		{"open_tree", 428, 428},
		{"move_mount", 429, 429},
		{"fsopen", 430, 430},
		{"fsconfig", 431, 431},
		{"fsmount", 432, 432},
		{"fspick", 433, 433},
		{"mount_setattr", 442, 442},
		{"memfd_create", 319, 279},
		{"memfd_secret", 447, 447},
		{"open_by_handle_at", 304, 265},
		{"name_to_handle_at", 303, 264},
		{"fanotify_init", 300, 262},
		{"fanotify_mark", 301, 263},
		{"setuid", 105, 146},
		{"setgid", 106, 144},
		{"setreuid", 113, 145},
		{"setregid", 114, 143},
		{"setresuid", 117, 147},
		{"setresgid", 119, 149},
		{"setfsuid", 122, 151},
		{"setfsgid", 123, 152},
		{"setgroups", 116, 159},
		{"capset", 126, 91},
		{"init_module", 175, 105},
		{"finit_module", 313, 273},
		{"delete_module", 176, 106},
		{"kexec_load", 246, 104},
		{"kexec_file_load", 320, 294},
		{"reboot", 169, 142},
		{"swapon", 167, 224},
		{"swapoff", 168, 225},
		{"acct", 163, 89},
		{"quotactl", 179, 60},
		{"syslog", 103, 116},
		{"settimeofday", 164, 170},
		{"clock_settime", 227, 112},
		{"clock_adjtime", 305, 266},
		{"adjtimex", 159, 171},
		{"sethostname", 170, 161},
		{"setdomainname", 171, 162},
		{"vhangup", 153, 58},
		{"nfsservctl", 180, 42},
		{"lookup_dcookie", 212, 18},
		{"modify_ldt", 154, none},
		{"iopl", 172, none},
		{"ioperm", 173, none},
		{"personality", 135, 92},
		{"pidfd_getfd", 438, 438},
		{"pidfd_open", 434, 434},
		{"kcmp", 312, 272},
		{"migrate_pages", 256, 238},
		{"move_pages", 279, 239},
		{"mbind", 237, 235},
		{"set_mempolicy", 238, 237},
		{"landlock_create_ruleset", 444, 444},
		{"landlock_add_rule", 445, 445},
		{"landlock_restrict_self", 446, 446},
	}
}
