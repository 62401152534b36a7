package jail

import (
	"fmt"
	"slices"

	"sallyport/conf"
)

// A Role is what a process is for; it names a row of the table.
type Role string

// The roles.
const (
	Warden Role = "warden" // starts children, holds their descriptors; one per uid
	Core   Role = "core"   // answers the internet
	Keeper Role = "keeper" // holds the private keys
)

// A profile is what a role goes through: at the door, before its binary runs,
// and as the first statement of its main.
type profile struct {
	door []layer
	seal []layer
}

// A layer takes one thing away from the calling thread, or from the process
// where the kernel knows no threads in the matter.
type layer struct {
	name string
	pass func(who conf.ID) error
}

// profiles is the table: what each role gives away, in order. The order counts:
// bounding set and groups need the privilege that identity ends, and
// a change of identity forgets the parent-death signal.
func profiles() map[Role]profile {
	shed := []layer{
		{"resource limits", limitResources},
		{"bounding set", emptyBoundingSet},
		{"groups", clearGroups},
		{"identity", changeIdentity},
		{"capabilities", clearCapabilities},
		{"no_new_privs", refuseNewPrivileges},
		{"umask", closeUmask},
	}
	seal := []layer{
		{"not dumpable", refuseDumps},
		{"identity", demandIdentity},
		{"capabilities", demandNoCapability},
		{"no_new_privs", demandNoNewPrivileges},
	}
	child := slices.Concat(shed, []layer{{"parent-death signal", dieWithParent}})
	return map[Role]profile{
		Warden: {door: shed, seal: seal}, // the leash ends it: the signal does not cross uids
		Core:   {door: child, seal: seal},
		Keeper: {door: child, seal: seal},
	}
}

// profileOf returns the row of role.
func profileOf(role Role) (profile, error) {
	row, known := profiles()[role]
	if !known {
		return profile{}, fmt.Errorf("jail: role %q: is not in the table", role)
	}
	return row, nil
}
