package main

import (
	"time"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/board"
)

// A duty is all that boot tells a warden, in sealed memory: nothing is left to
// decide. Descriptors are named by the warden's own gifts.
type duty struct {
	Name      string          // "core", "keeper", "registrar", "app": that of its wards
	Who       conf.ID         // the warden and its wards
	Sandbox   string          // of the plan
	Core      *conf.Core      // part of each core; nil in wardens of others
	Keeper    *conf.Keeper    // the same of the keeper
	Registrar *conf.Registrar // the same of the registrar
	Empty     []string        // gifts that are empty memory, for furnish to fill
	Wards     []wardPlan      // what to keep alive; of a part, made by furnish
	Drain     time.Duration   // from TERM to a ward until it is killed

	Upgrades time.Duration // from the retirement of a core until it is killed; the main warden's

	// The rest is the main warden's; zero for others, which are on a leash.

	Board     board.Plan  // no rows: there is none; made by furnish, as the next two
	Apps      []appDuty   // those of the board
	Spools    int         // files in which bodies wait, one for each row of the board
	Follows   int         // the number of the plan that this one was compared with; 0 of a start
	Listeners []listening // also those of an app's warden
	Siblings  []sibling
	Starter   int            // uid whose orders count, beside 0
	File      string         // path of the configuration; "" for serve
	Control   string         // path of the control socket
	Shared    bool           // core and keeper have one uid: there is a keeper
	Scribe    *scribeDuty    // nil: stderr is the log
	PIDFile   string         // "" when there is none
	Folder    string         // of certificates from a CA; "" without any, or in memory
	Trust     string         // how to trust the internal CA; "" when there is nothing to say
	Means     means          // of boot
	Notices   []conf.Mistake // worth a line at every start
}

// A wardPlan is one process to keep alive.
type wardPlan struct {
	Name  string // for the log: "core", "keeper", "app"
	Role  jail.Role
	Gifts []passing // beside "ready", which is new for every start of a program of ours
	App   *appPlan  // nil: a program of ours, which is the gift "program"

	QUIC   bool // a core that is given its slots
	Lone   bool // the one of its generation that is given UDP sockets that are alone
	Linked bool // a core that is given a "link" to the keeper, new for every start
}

// An appPlan is a program that is not ours. It runs once: its end is the end of
// its warden, with its exit status.
type appPlan struct {
	Path string
	Argv conf.Words
	User conf.Account

	Switched bool // from the starter to User
}

// A passing is a gift of the warden that becomes a gift of its ward.
type passing struct {
	As, From string
}

// A listening is a listener that cores accept on and the main warden keeps.
type listening struct {
	Gift    string
	Text    string // what the configuration calls it
	Address string // where it is bound
	Secure  bool
	Given   bool // by a supervisor, who will also remove what it left in the file system
	Private bool // in a folder of its own
	Slots   int  // UDP sockets beside it, for QUIC
}

// A sibling is another warden, a child of boot, as the main warden knows it.
type sibling struct {
	Name  string        // of its ward
	PID   int           // 0 once it is gone
	Leash string        // the gift that is the main warden's end
	Time  time.Duration // from the order to stop until it must be gone
	App   bool          // its end is the end of the service, and signals are for its ward
	Mason bool          // no warden, but the mason

	hold int // descriptor of the leash; -1 once it is cut
}

// seal adds the duty to the gifts of its warden, and the memory that it is to fill.
func (d *duty) seal(gifts sockets.Gifts) (sockets.Gifts, error) {
	fd, err := sealJSON("warden", d)
	gifts = append(sockets.Gifts{{Name: "duty", FD: fd}}, gifts...)
	for i := 0; i < len(d.Empty) && err == nil; i++ {
		fd, err = sockets.Sealable(d.Empty[i])
		gifts = append(gifts, sockets.Gift{Name: d.Empty[i], FD: fd})
	}
	return gifts, err
}

// wardenArgs is the argument list that starts a warden with its gifts.
func wardenArgs(name string, gifts sockets.Gifts) []string {
	return []string{"sallyport", "warden", name, gifts.Names()}
}

// readDuty is what seal has written.
func readDuty(gifts sockets.Gifts) (*duty, error) {
	d := new(duty)
	return d, gifts.Decode("duty", d)
}
