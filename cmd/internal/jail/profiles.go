package jail

import (
	"fmt"
	"slices"

	"sallyport/conf"
	"sallyport/sockets"
)

// A Role is what a process is for; it names a row of the table.
type Role string

// The roles.
const (
	Warden    Role = "warden"     // starts children, holds their descriptors; one per uid
	Core      Role = "core"       // answers the internet
	Keeper    Role = "keeper"     // holds the private keys
	Mason     Role = "mason"      // builds the root of the cores, and keeps it as the folders of apps are
	Dialer    Role = "dialer"     // connects to apps for cores that cannot from their root
	Scribe    Role = "scribe"     // writes the log to where it is wanted
	AppWarden Role = "app-warden" // the warden of an app, which is to have the resources that the starter had
	App       Role = "app"        // an app: a program that is not ours
	Planner   Role = "planner"    // makes a plan of the configuration, and is gone

	Registrar       Role = "registrar"        // talks to the CA
	RegistrarWarden Role = "registrar-warden" // the warden of the one process that dials
)

// A profile is what a role goes through: at the door, before its binary runs, as the
// first statement of its main, and once it is wired.
type profile struct {
	door    []layer
	seal    []layer // none for an app, which does not know us
	confine []layer // of who meets strangers
}

// A layer takes one thing away from the calling thread, or from the process
// where the kernel knows no threads in the matter.
type layer struct {
	name string
	pass func(entrance) error
}

// An entrance is what the layers of a door are told. Behind it, they know it.
type entrance struct {
	who     conf.ID
	program int   // descriptor of what is executed; meaningless for an app
	root    int   // descriptor of the folder that is to be its root; 0: none
	dialer  int   // descriptor of a core's link to the dialer, when it confines itself
	slots   []int // descriptors of a core's UDP sockets, likewise
	gifts   sockets.Gifts
	lenient bool // what the kernel does not have is not demanded
}

// stateGift is the name of a folder that a process is given to keep files in.
const stateGift = "state"

// keeps reports whether there is such a folder.
func (e entrance) keeps() bool {
	_, err := e.gifts.FD(stateGift)
	return err == nil
}

// profiles is the table: what each role gives away, in order. The order counts:
// bounding set and groups need the privilege that identity ends, what needs none comes
// after the last capability is gone, and a change of identity forgets the parent-death
// signal. An app keeps its folder and the limits of the starter, and so does its warden for
// it.
func profiles() map[Role]profile {
	shed := []layer{
		{"bounding set", emptyBoundingSet},
		{"groups", changeGroups},
		{"identity", changeIdentity},
		{"capabilities", clearCapabilities},
		{"session keyring", leaveKeyring},
		{"no_new_privs", refuseNewPrivileges},
		{"umask", closeUmask},
	}
	seal := []layer{
		{"not dumpable", refuseDumps},
		{"identity", demandIdentity},
		{"capabilities", demandNoCapability},
		{"no_new_privs", demandNoNewPrivileges},
	}
	ours := slices.Concat(shed, []layer{{"folder", leaveFolder}, {"resource limits", limitResources}})
	parent := layer{"parent-death signal", dieWithParent}
	// Files and calls last, because the others need them; the root while there is what it
	// takes to enter it.
	last := []layer{parent, {"landlock", leaveAll}, {seccompPrefix + "start", filterThread(inStart)}}
	rooted := func(enter func(entrance) error) []layer {
		return slices.Concat([]layer{{emptyRoot, enter}}, ours, last)
	}
	planning := slices.Concat(ours, []layer{parent, {"landlock", leaveAll}, {seccompPrefix + "planner", filterThread(inPlanner)}})
	warding := slices.Concat(ours, []layer{{"landlock", leaveMost}, {seccompPrefix + "warden", filterThread(inWarden)}})
	masonry := slices.Concat(ours, []layer{{"landlock of network", leaveNetwork}, {seccompPrefix + "mason", filterThread(inMason)}})
	dialing := slices.Concat(ours, []layer{parent, {"landlock", leaveAllButNetwork}, {seccompPrefix + "start", filterThread(inStart | inDial)}})
	wardingDialer := slices.Concat(ours, []layer{{"landlock", leaveMostButNetwork}, {seccompPrefix + "warden", filterThread(inWarden | inDial)}})
	return map[Role]profile{
		Warden:  {door: warding, seal: seal}, // the leash ends it: the signal does not cross uids
		Planner: {door: planning, seal: seal},
		Core:    {door: rooted(enterRoot), seal: seal, confine: []layer{{seccompPrefix + "core", filterProcess(inCore)}}},
		Keeper:  {door: rooted(enterIfAllowed), seal: seal, confine: []layer{{seccompPrefix + "keeper", filterProcess(inKeeper)}}},
		Dialer:  {door: slices.Concat(ours, last), seal: seal, confine: []layer{{seccompPrefix + "dialer", filterProcess(inDialer)}}},
		Mason:   {door: masonry, seal: seal},
		// What it does, to read a pipe and to write to what is open, a keeper does too. It keeps
		// its root: a syslog daemon has a path.
		Scribe:    {door: slices.Concat(ours, last), seal: seal, confine: []layer{{seccompPrefix + "keeper", filterProcess(inKeeper)}}},
		AppWarden: {door: shed, seal: seal},
		App:       {door: slices.Concat(shed, []layer{parent})},

		Registrar:       {door: dialing, seal: seal, confine: []layer{{seccompPrefix + "registrar", filterProcess(inRegistrar)}}},
		RegistrarWarden: {door: wardingDialer, seal: seal},
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
