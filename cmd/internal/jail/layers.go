package jail

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// The layers act on the calling thread by raw calls: Go's own wrappers of
// setresuid and friends change all threads, and cannot do that where cgo is
// linked in (the race detector).

// leaveFolder ends the starter's folder as a way to what its user may not reach by path.
func leaveFolder(entrance) error {
	return unix.Chdir("/") // of all threads: this process is about to be another
}

// leaveKeyring leaves the starter's session keyring, whose keys root's tools put
// there, for a new and empty one, keyctl_join_session_keyring(3). A kernel
// without keys, or a container's filter, has none to leave.
func leaveKeyring(entrance) error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) // by name "" it would be a name
	switch err {
	case unix.ENOSYS, unix.EPERM, unix.EDQUOT:
		return nil
	}
	return err
}

// limitResources forbids core files and locked memory, and allows as many
// descriptors as the hard limit does. Limits are only lowered, which needs no
// capability; RLIMIT_FSIZE stays, for stderr may be a file.
func limitResources(entrance) error {
	for _, limit := range []int{unix.RLIMIT_CORE, unix.RLIMIT_MEMLOCK} {
		if err := unix.Prlimit(0, limit, &unix.Rlimit{}, nil); err != nil {
			return err
		}
	}
	var files unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &files); err != nil {
		return err
	}
	files.Cur = files.Max
	return unix.Prlimit(0, unix.RLIMIT_NOFILE, &files, nil)
}

// emptyBoundingSet drops every capability from the bounding set. Without
// CAP_SETPCAP it cannot, and Lacking says so.
func emptyBoundingSet(entrance) error {
	for capability := uintptr(0); ; capability++ {
		// "EINVAL: arg2 does not specify a valid capability" (PR_CAPBSET_DROP(2const)): one
		// past the kernel's last.
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err {
		case nil:
		case unix.EINVAL, unix.EPERM:
			return nil
		default:
			return err
		}
	}
}

// boundingSet returns the capabilities a later execve could still grant.
func boundingSet() []int {
	var set []int
	for capability := 0; ; capability++ {
		// "The call fails with the error EINVAL if arg2 does not specify a valid
		// capability" (PR_CAPBSET_READ(2const)): one past the kernel's last.
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0)
		if err != nil {
			return set
		}
		if held == 1 {
			set = append(set, capability)
		}
	}
}

// changeGroups makes the supplementary groups those of who. Without CAP_SETGID it
// cannot, and Lacking says so.
func changeGroups(e entrance) error {
	who := e.who
	groups := make([]uint32, len(who.Groups)+1) // one more, to point to when there is none
	for i, gid := range who.Groups {
		groups[i] = uint32(gid)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(who.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 && errno != unix.EPERM {
		return errno
	}
	return nil
}

// changeIdentity makes all four group ids and all four user ids those of who.
// The filesystem ids follow the effective ones. In a namespace of its own, where no id has
// a name, a process stays who its starter is, for ever; that one was who already.
func changeIdentity(e entrance) error {
	if e.root != 0 {
		return nil
	}
	who := e.who
	if isIdentity(who.UID, who.GID) {
		return nil // what this takes may be forbidden: SystemCallFilter=~@privileged of a unit
	}
	gid, uid := uintptr(who.GID), uintptr(who.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("gid %d: %w", who.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("uid %d: %w", who.UID, errno)
	}
	return nil
}

// isIdentity reports whether these are all ids of the calling thread already.
func isIdentity(uid, gid int) bool {
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	return ruid == uid && euid == uid && suid == uid && rgid == gid && egid == gid && sgid == gid
}

// clearCapabilities empties the ambient, permitted, effective and inheritable
// sets. A process that began with an ambient or file capability, and kept its
// uid, still has them here.
//
// Where a service manager forbids capset, which it counts as a privilege, the execve that
// follows empties two of them: "P'(permitted) = (P(inheritable) & F(inheritable)) | (F(permitted) &
// P(bounding)) | P'(ambient)", capabilities(7). The inheritable ones stay, and Lacking says so.
func clearCapabilities(entrance) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	err := unix.Capset(&header, &none[0])
	if err == unix.EPERM && unix.Geteuid() != 0 {
		return nil
	}
	return err
}

// refuseNewPrivileges makes every later execve grant nothing.
func refuseNewPrivileges(entrance) error {
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// closeUmask keeps whatever a process of ours creates to itself.
func closeUmask(entrance) error {
	unix.Umask(0o077)
	return nil
}

// dieWithParent has the kernel kill this process when the thread that started
// it ends. Until here the signal asked for at the fork has covered the process.
func dieWithParent(entrance) error {
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// refuseDumps keeps other processes of the same uid from attaching, and the
// kernel from writing memory to a file.
func refuseDumps(entrance) error {
	if err := unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// demandIdentity refuses uid 0, where that is not all there is, and a uid or gid that could
// be changed back.
func demandIdentity(entrance) error {
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	switch {
	case (ruid == 0 || euid == 0 || suid == 0) && !zeroIsNobodys():
		return errors.New("uid is 0")
	case ruid != euid || euid != suid:
		return fmt.Errorf("uids differ: %d, %d, %d", ruid, euid, suid)
	case rgid != egid || egid != sgid:
		return fmt.Errorf("gids differ: %d, %d, %d", rgid, egid, sgid)
	}
	return nil
}

// zeroIsNobodys reports whether uid 0 is all that this user namespace has, and no root. Who
// can open no file any more has been asked at the door, where bounding sets are emptied.
func zeroIsNobodys() bool {
	alone, err := conf.OneID()
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return len(boundingSet()) == 0
	}
	return err == nil && alone
}

// demandNoCapability refuses any permitted, effective or ambient capability. Ambient ones
// are permitted ones (capabilities(7)). Inheritable ones are of use in an execve that
// grants, and no_new_privs is demanded too.
func demandNoCapability(entrance) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	if sets[0].Permitted|sets[0].Effective|sets[1].Permitted|sets[1].Effective != 0 {
		return errors.New("a capability is left")
	}
	return nil
}

// demandNoNewPrivileges refuses a process that an execve could still lift.
func demandNoNewPrivileges(entrance) error {
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	if set != 1 {
		return errors.New("is not set")
	}
	return nil
}
