package jail

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Lacking names what this process could not give away because it was started without the
// privilege that takes, or because the kernel does not have it: said once at start, for
// an operator who expects more. It is empty where boot was root and the kernel is new.
func Lacking() []string {
	var lacking []string
	if len(boundingSet()) > 0 {
		lacking = append(lacking, "bounding set")
	}
	if inherits() {
		lacking = append(lacking, "inheritable set")
	}
	if groups, err := unix.Getgroups(); err != nil || len(groups) > 0 {
		lacking = append(lacking, "groups")
	}
	return append(lacking, lackingLayers()...)
}

// inherits reports whether an inheritable capability is left.
func inherits() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	err := unix.Capget(&header, &sets[0])
	return err != nil || sets[0].Inheritable|sets[1].Inheritable != 0
}

// lackingLayers are those that the kernel, or this build, does not have.
func lackingLayers() (lacking []string) {
	if on, err := filtered(); err != nil || !on {
		lacking = append(lacking, "seccomp")
	}
	switch abi := landlockABI(); {
	case abi == 0:
		lacking = append(lacking, "landlock")
	case abi < abiTCP:
		lacking = append(lacking, fmt.Sprintf("landlock of TCP, signals and abstract sockets (ABI %d of %d)", abi, abiScopes))
	case abi < abiScopes:
		lacking = append(lacking, fmt.Sprintf("landlock of signals and abstract sockets (ABI %d of %d)", abi, abiScopes))
	}
	return lacking
}
