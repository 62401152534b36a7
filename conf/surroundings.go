package conf

import "golang.org/x/sys/unix"

// Surroundings are the facts outside the file on which a plan depends. They are
// an argument, so that the same file and the same surroundings are the same plan.
type Surroundings struct {
	UID, GID int                 // of whoever starts sallyport
	OneID    bool                // UID is all there is in this user namespace, and no root: also where it is 0
	Folder   string              // absolute; where a relative name of the file begins
	Real     string              // the same folder without links, for whose it is
	Host     string              // the machine's own name, "" when it has none
	Env      func(string) string // looks up one variable, "" when it is not set; nil: none is set
	Accounts Accounts            // of this machine

	Look func(path string) (unix.Stat_t, error) // stat(2); nil: our own

	Processors int // that sallyport may run on, within the quota of its cgroup; 0 is as 1
}

// Variables are the names that Env is ever asked for.
func Variables() []string {
	return []string{"RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME", "HOME", "TMPDIR", "SUDO_UID", "SUDO_GID"}
}

// root reports whether identities are switched.
func (at Surroundings) root() bool { return at.UID == 0 && !at.OneID }

// env looks up one variable.
func (at Surroundings) env(name string) string {
	if at.Env == nil {
		return ""
	}
	return at.Env(name)
}

// look is stat(2) as whoever starts sallyport sees it.
func (at Surroundings) look(path string) (stat unix.Stat_t, err error) {
	if at.Look != nil {
		return at.Look(path)
	}
	return stat, unix.Stat(path, &stat)
}
