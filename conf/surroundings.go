package conf

import (
	"fmt"
	"os"
	"runtime"
)

// Surroundings are the facts outside the file on which a plan depends. They are
// an argument, so that the same file and the same surroundings are the same plan.
type Surroundings struct {
	UID, GID int                 // of whoever starts sallyport; UID 0 means that identities are switched
	Folder   string              // absolute; where a relative name of the file begins
	Host     string              // the machine's own name, "" when it has none
	Env      func(string) string // looks up one variable, "" when it is not set; nil: none is set
	Accounts Accounts            // of this machine

	Processors int // that sallyport may run on, within the quota of its cgroup; 0 is as 1
}

// Here is the surroundings of this process. It fails when the accounts, the
// current folder or the name of the machine cannot be read.
func Here() (Surroundings, error) {
	folder, err := os.Getwd()
	if err != nil {
		return Surroundings{}, fmt.Errorf("conf: find the current folder: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return Surroundings{}, fmt.Errorf("conf: find the name of this machine: %w", err)
	}
	accounts, err := ReadAccounts("/")
	if err != nil {
		return Surroundings{}, err
	}
	return Surroundings{
		UID:      os.Getuid(),
		GID:      os.Getgid(),
		Folder:   folder,
		Host:     host,
		Env:      os.Getenv,
		Accounts: accounts,

		Processors: runtime.GOMAXPROCS(0),
	}, nil
}

// env looks up one variable.
func (at Surroundings) env(name string) string {
	if at.Env == nil {
		return ""
	}
	return at.Env(name)
}
