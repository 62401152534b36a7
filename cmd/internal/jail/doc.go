// Package jail decides who a process becomes and what it may do.
//
// Every process of ours gets its identity at one door, Become: a stage gives
// away what the role must not have, thread by thread, and executes the role's
// binary in its place. Behind the door, the first statement of the role's main
// is Seal, which closes what only the process itself can close and refuses to
// run if the door was left open.
//
// An app is not ours: it goes through the door like all, and finds behind it the
// limits, the environment and the stdout of whoever started sallyport.
//
// What a role gives away is a table, profiles; each row is a list of layers and
// each layer is a function. Landlock, seccomp and the empty root are further
// layers of the same table.
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
//   - PR_SET_DUMPABLE is reset by execve, hence part of Seal.
//   - The descriptor table is shared by all threads; the runtime's epoll
//     descriptor may be any small number. Become takes its own copy
//     (CLONE_FILES) before it puts gifts in place, and has everything else close
//     on exec by close_range(2), which is Linux 5.11.
package jail
