// Package jail decides who a process becomes and what it may do.
//
// Every process of ours gets its identity at one door, Become: a stage gives
// away what the role must not have, thread by thread, and executes the role's
// binary in its place. Behind the door, the first statement of the role's main
// is Seal, which closes what only the process itself can close and refuses to
// run if the door was left open. The last one before a core or keeper meets
// anybody is Confine.
//
// An app is not ours: it goes through the door like all, and finds behind it the
// limits, the environment and the stdout of whoever started sallyport.
//
// What a role gives away is a table, profiles; each row is a list of layers and
// each layer is a function. Which system calls it has left is another table, in
// calls.go. What there is in its file system is told by root.go.
//
// Who is given a folder to keep files in, the gift "state", may write there and nowhere
// else, and so may its warden, whose domain it inherits: that is the keeper with certificates
// from a CA, and the registrar. The registrar alone reaches the network, to connect.
//
// # Facts the code rests on
//
//   - Credentials belong to a kernel thread. Become drops them with raw calls on
//     one locked thread; execveat makes that thread the only one (execve(2):
//     "all threads other than the calling thread are destroyed").
//   - The parent-death signal belongs to a thread too, and is zero on a new one;
//     a change of identity clears it. So a layer sets it, after the identity.
//   - Go's runtime raises the soft limit of files of each process to the hard one;
//     only syscall.Exec and ForkExec put it back. Hence an app, and its warden,
//     are executed by them, and the others by execveat.
//   - PR_SET_DUMPABLE is reset by execve, hence part of Seal. Who is not dumpable cannot
//     name the ids of a namespace, since its files in /proc are root's.
//   - clone(2) into a user namespace fills the bounding set, and execve(2) of who is not its
//     root empties the others but for the ambient one.
//   - The descriptor table is shared by all threads; the runtime's epoll
//     descriptor may be any small number. Become takes its own copy
//     (CLONE_FILES) before it puts gifts in place, and has everything else close
//     on exec by close_range(2), which is Linux 5.11.
//   - A filter and a domain of landlock belong to a thread as well, and are
//     inherited, over execve too. The kernel takes the strictest of all filters, so
//     that each of those below must allow what the last one allows: those of the
//     warden and of the door. The door lays them last, the others need the calls.
//   - landlock does not look at connect(2) to sockets in the file system before ABI 9,
//     nor at stat(2), nor at TCP that is opened by MSG_FASTOPEN (Linux 6.18 ✓), nor at
//     MPTCP: the filters do where they can.
//
// # Decisions
//
// 2026-11-25. What only an exploit does kills the process, and its warden says that. It
// cannot say which call it was: wait4(2) tells the signal alone, a dead process has no
// registers, and the number is in the kernel's log, which takes CAP_SYSLOG to read. The
// ways to learn it would each cost more: SECCOMP_RET_TRAP leaves the death to the
// process that was taken over, SECCOMP_RET_USER_NOTIF has the warden read what its child
// does, and has the last filter allow what the first one asks about, a tracer
// (PTRACE_O_TRACEEXIT too) is woken by every signal, and /proc/PID/syscall has nothing of a
// process that is dead. The log has the command that tells it.
//
// 2026-11-25. A core may not look at files at all, not even whether they are there. What is
// in the way to an app's socket is for sallyport check to say, which goes there as
// the core.
//
// 2026-11-25. Only who may mount can build a root, and a warden may not: landlock(7) takes that
// from whoever has given up files, and from his children. So the root is built by a process
// beside it, the mason, and entered by chroot(2), which landlock lets be, in a user namespace
// without any id. In one with ids the stage would have to write them, which is a file again.
// As the root is one folder for all, what changes in it changes for cores that run: an app
// whose folder was made anew costs no generation of cores, and a request that is held finds it.
//
// 2026-11-25. The mason has no capability while it waits. To mount it forks a child that
// enters its namespaces by setns(2), makes calls that were listed before, and ends; a
// program of Go's could not, for it has several threads (errand.go).
//
// 2026-11-25. A core connects by itself only in its own root, and where landlock keeps
// connect(2) from TCP and abstract sockets (ABI 6). Else the call is not in its filter, and the
// dialer connects. A folder is in the root if it has no other socket
// than those of the plan, and no folder.
//
// 2026-11-25. sandbox = "full" demands the filters of system calls; landlock is used as far
// as the kernel has it, and Lacking names the rest: without it files are still out of
// reach, by the filters, but TCP by a disconnected listener and abstract sockets are not.
//
// 2026-11-25. A planner reads the configuration under an id of its own, 60581 where root
// starts, and not under that of a core, which a core could share that an attacker has kept:
// root acts on what a planner says. It is given open files instead of rights, so that its
// filter has neither openat nor socket, and there is one filter: nothing is laid on top,
// because nothing is left to take away but the execveat of the door.
//
// 2026-11-25. Builds for the race detector link cgo and are without filters and landlock, as
// those with the tag jail_off; sallyport version and the log of each start say so.
package jail
