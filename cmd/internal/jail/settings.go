package jail

import "math"

// settings are what a build for tests may have another way.
type settings struct {
	noSeccomp     bool    // no filters are laid
	seccompAbsent bool    // as if the kernel had none
	otherwise     verdict // on what a filter does not list
	landlockMost  int     // the newest ABI to use; 0: none
}

// landlockNewest uses whatever there is: of a later ABI only what is known here.
const landlockNewest = math.MaxInt

// Off reports whether this build lays no filter and enters no domain: those for the race
// detector and with the tag jail_off do not.
func Off() bool { return switches().noSeccomp && switches().landlockMost == 0 }
