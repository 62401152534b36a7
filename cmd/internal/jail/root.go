package jail

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// This file is the root of a core, in which there are the folders of app sockets and
// nothing else, and that of a keeper, in which there is nothing.
//
// A core cannot mount: its warden has given up files, and landlock(7) lets nobody who has
// change what is mounted. So the mason, who has not, builds one root for all cores in
// namespaces of its own, and passes its folder on. The stage of a core is forked into a
// user namespace, in which it may call chroot(2), which landlock does not mind; behind it
// the capability is gone, and with it the way out: "the call does not change the current
// working directory" and "does not close open file descriptors" are what the two calls around
// it and close_range(2) are for. As the folder is not copied, what the mason mounts
// there later is seen by every core at once.

// emptyRoot is the name of the layer.
const emptyRoot = "empty root"

// RootCapabilities are what a stage has in its namespace, over its execve(2): to enter the
// root, and to empty the bounding set, which a new namespace fills. The door clears them.
func RootCapabilities() []uintptr { return []uintptr{unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP} }

// enterRoot is the layer of a core. Without a folder there is none: then such a core may
// not connect to anything, and the dialer does for it.
func enterRoot(e entrance) error {
	if e.root == 0 {
		return nil
	}
	if err := unix.Fchdir(e.root); err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return unix.Chdir("/")
}

// enterIfAllowed is the layer of a keeper, which could do nothing with files anyway: where a
// security module lets user namespaces be, and takes their capabilities, it goes without.
func enterIfAllowed(e entrance) error {
	err := enterRoot(e)
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}
