package main

import (
	"encoding/json"
	"fmt"
	"time"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// A duty is all that boot tells a warden, in sealed memory: nothing is left to
// decide. Descriptors are named by the warden's own gifts.
type duty struct {
	Who   conf.ID       // the warden and its wards
	Wards []wardPlan    // what to keep alive
	Drain time.Duration // from TERM to a ward until it is killed, without the grace

	// The rest is the main warden's; zero for others, which are on a leash.

	Listeners []listening
	Sibling   sibling // zero when there is none
	Starter   int     // uid whose orders count, beside 0
	Control   string  // path of the control socket
	Shared    bool    // core and keeper have one uid
	Trust     string  // how to trust the internal CA; "" when there is nothing to say
}

// A wardPlan is one process to keep alive.
type wardPlan struct {
	Name  string // for the log: "core", "keeper"
	Role  jail.Role
	Gifts []passing // beside "ready", which is new for every start
}

// A passing is a gift of the warden that becomes a gift of its ward.
type passing struct {
	As, From string
}

// A listening is a listener that cores accept on and the main warden keeps.
type listening struct {
	Gift    string
	Address string // where it is bound
	Secure  bool
	Given   bool // by a supervisor, who will also remove what it left in the file system
}

// A sibling is another warden, a child of boot.
type sibling struct {
	Name string
	PID  int
}

// seal adds the duty to the gifts of its warden.
func (d *duty) seal(gifts sockets.Gifts) (sockets.Gifts, error) {
	fd, err := sealJSON("warden", d)
	if err != nil {
		return nil, err
	}
	return append(sockets.Gifts{{Name: "duty", FD: fd}}, gifts...), nil
}

// wardenArgs is the argument list that starts a warden with its gifts.
func wardenArgs(name string, gifts sockets.Gifts) []string {
	return []string{"sallyport", "warden", name, gifts.Names()}
}

// readDuty is what seal has written.
func readDuty(gifts sockets.Gifts) (*duty, error) {
	fd, err := gifts.FD("duty")
	if err != nil {
		return nil, err
	}
	text, err := sockets.ReadSealed(fd)
	if err != nil {
		return nil, err
	}
	d := new(duty)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("warden: duty: %w", err)
	}
	return d, nil
}
