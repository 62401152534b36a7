package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/board"
)

// This file is what a reload does before it asks for anything: it compares the plan of
// the file with the one in force, opens what is new with the privilege that it has, has
// the keys checked, and packs all of it. Whatever is wrong is said then, and nothing has
// changed.

// A runningPlan is what is in force, as boot or the reload command wrote it: in sealed
// memory, which the main warden keeps for the next reload and does not read. The command
// may be root, and that warden is not: it is believed where a lie would only keep the service
// from what it may have. No path of it is opened or removed.
type runningPlan struct {
	Version string
	Plan    *conf.Plan
	Bound   []listening // in the order of the plan
	Keeper  bool        // there is one, even if no certificate is left

	number int
	ours   bool // who asks is who has made the control socket, by whatever number it is known there
}

// sealRunning writes what a plan is, for what was bound by a duty.
func sealRunning(plan *conf.Plan, main *duty, keeper bool) (int, error) {
	return sealJSON("running", runningPlan{Version: version(), Plan: plan, Bound: main.Listeners, Keeper: keeper})
}

func readRunning(fd, number int) (*runningPlan, error) {
	text, err := sockets.ReadSealed(fd)
	if err != nil {
		return nil, err
	}
	was := &runningPlan{number: number}
	if err := json.Unmarshal(text, was); err != nil {
		return nil, fmt.Errorf("plan in force: %w", err)
	}
	if was.Version != version() || was.Plan == nil || len(was.Bound) != len(was.Plan.Listeners) {
		return nil, fmt.Errorf("version %q runs, and this is %s: that takes a restart", was.Version, version())
	}
	return was, nil
}

// An offer is what a running service may take over.
type offer struct {
	boot
	was    *runningPlan
	unfit  []conf.Mistake // what the limits of this process do not allow
	opened []listening    // listeners that are new
	closed []listening    // and those that are not in the file any more
}

// parcel makes all that the cores and the keeper of the new plan are given.
func (o *offer) parcel() (parcel int, mistakes []conf.Mistake, err error) {
	if mistakes = append(o.lasting(), o.keepIssuance()...); len(mistakes) > 0 {
		return -1, mistakes, nil
	}
	mistakes = append(slices.Clone(o.unfit), o.bindNew()...)
	if o.sharesGround() {
		o.main.Empty = []string{"part"}
	} else {
		mistakes = append(mistakes, o.openSpools()...)
	}
	mistakes = append(mistakes, o.openFiles()...)
	mistakes = append(mistakes, o.openNewAuthority()...)
	if len(mistakes) > 0 {
		return -1, mistakes, nil
	}
	if err := o.checkKeys(); err != nil {
		return -1, nil, err
	}
	parcel, err = o.pack()
	return parcel, nil, err
}

// lasting are the changes that no reload can make.
func (o *offer) lasting() (mistakes []conf.Mistake) {
	was, plan := o.was.Plan, o.plan
	refuse := func(key, what, hint string) {
		if hint == "" {
			hint = "it needs a restart; or write what it was"
		}
		mistakes = append(mistakes, conf.Mistake{Place: plan.WhereOf(key), What: what, Hint: hint})
	}
	if plan.File != was.File {
		refuse("", fmt.Sprintf("is another file than that of the service, %q", was.File), "sallyport reload -c with that one")
		return mistakes
	}
	if plan.Users.Switch != was.Users.Switch {
		refuse("user", "another user than this has started the service: its processes run as uid "+fmt.Sprint(was.Users.Core.UID),
			"reload as whoever has started it")
		return mistakes
	}
	own := !plan.Users.Switch && o.was.ours // in a namespace of its own that one may be uid 0
	for _, user := range []struct {
		key      string
		was, now conf.ID
	}{{"user", was.Users.Core, plan.Users.Core}, {"keeper_user", was.Users.Keeper, plan.Users.Keeper}} {
		if !own && (user.was.UID != user.now.UID || user.was.GID != user.now.GID) {
			refuse(user.key, fmt.Sprintf("is uid %d and gid %d, and the service runs as %d and %d", user.now.UID, user.now.GID, user.was.UID, user.was.GID), "")
		}
	}
	for _, value := range []struct{ key, was, now string }{
		{"sandbox", strconv.Quote(was.Sandbox), strconv.Quote(plan.Sandbox)},
		{"control", strconv.Quote(was.Control), strconv.Quote(plan.Control)},
		{"log.target", was.LogTarget.String(), plan.LogTarget.String()},
		{"pid_file", strconv.Quote(was.PIDFile), strconv.Quote(plan.PIDFile)},
		{"max_open_files", strconv.Itoa(was.OpenFiles), strconv.Itoa(plan.OpenFiles)},
	} {
		if value.now != value.was {
			refuse(value.key, fmt.Sprintf("is %s, and the service was started with %s", value.now, value.was), "")
		}
	}
	if plan.State != was.State && (was.Keeper.Authority != nil || plan.Keeper.Authority != nil || was.Registrar != nil) {
		refuse("state", fmt.Sprintf("is %q, and the service has %q", plan.State, was.State),
			fmt.Sprintf("it needs a restart; or write state = %q", was.State))
	}
	if !o.was.Keeper && len(plan.Keeper.Certificates) > 0 {
		where := plan.Keeper.Certificates[0].Where
		where.Key = "site.tls"
		mistakes = append(mistakes, conf.Mistake{
			Place: where,
			What:  "is the first certificate, and the service was started without a keeper",
			Hint:  "it needs a restart",
		})
	}
	o.lastingSlots(refuse)
	if !same(was.Managed, plan.Managed) {
		refuse("app", "an app that sallyport starts has changed", "it needs a restart")
	}
	return mistakes
}

// same reports whether two parts of plans are, one of which has been written and read.
func same(was, now any) bool {
	before, err := json.Marshal(was)
	after, nowErr := json.Marshal(now)
	return err == nil && nowErr == nil && string(before) == string(after)
}

// bindNew binds what is not bound yet. What is, is known by what the file calls it, and
// stays as it is.
func (o *offer) bindNew() (mistakes []conf.Mistake) {
	kept := o.keptListeners()
	for i, wanted := range o.plan.Listeners {
		if has := kept[i]; has != nil {
			o.listeners = append(o.listeners, sockets.Listener{FD: -1, Address: has.Address, Given: has.Given})
			o.slots = append(o.slots, keptSlots(has.Slots))
			continue
		}
		bound, err := sockets.Bind(wanted.Address, nil)
		if err != nil {
			mistakes = append(mistakes, o.bindMistake(wanted, err))
			continue
		}
		slots, err := o.bindSlots(wanted, bound)
		if err != nil {
			mistakes = append(mistakes, mistakeOf(wanted.Where, err))
		}
		o.listeners, o.slots = append(o.listeners, bound), append(o.slots, slots)
		o.opened = append(o.opened, listening{Address: bound.Address, Secure: wanted.Secure})
	}
	return mistakes
}

// keptListeners are those that are bound, for each of the plan; nil where there is none.
// Several may have one name, of port 0: those of a kind find each other first.
func (o *offer) keptListeners() []*listening {
	kept := make([]*listening, len(o.plan.Listeners))
	o.closed = slices.Clone(o.was.Bound)
	for _, ofKind := range []bool{true, false} {
		for k, wanted := range o.plan.Listeners {
			is := func(l listening) bool {
				return l.Text == wanted.Address && (l.Secure == wanted.Secure) == ofKind
			}
			if i := slices.IndexFunc(o.closed, is); kept[k] == nil && i >= 0 {
				found := o.closed[i]
				kept[k], o.closed = &found, slices.Delete(o.closed, i, i+1)
			}
		}
	}
	return kept
}

// bindMistake says of an address that cannot be had when it may be our own.
func (o *offer) bindMistake(wanted conf.Listener, err error) conf.Mistake {
	mistake := mistakeOf(wanted.Where, err)
	if errors.Is(err, unix.EADDRINUSE) && len(o.was.Bound) > 0 {
		var bound []string
		for _, l := range o.was.Bound {
			bound = append(bound, plainCommand([]byte(l.Text)))
		}
		mistake.Hint = strings.TrimPrefix(mistake.Hint+"; or if it is a part of what the service has ("+strings.Join(bound, ", ")+
			"), that needs a restart", "; or ")
	}
	return mistake
}

// sharesGround reports whether the plans agree about their apps, and the spool: then what
// is counted, and waits, is so for old and new cores together.
func (o *offer) sharesGround() bool {
	was, plan := o.was.Plan, o.plan
	spool, wasSpool := plan.Core.Spool, was.Core.Spool
	spool.Where, wasSpool.Where = conf.Place{}, conf.Place{}
	return spool == wasSpool &&
		reflect.DeepEqual(board.PlanOf(&plan.Core), board.PlanOf(&was.Core)) &&
		same(appDuties(was.Core.Apps), appDuties(plan.Core.Apps))
}

// openNewAuthority opens the files of an internal CA, if this plan is the first that has
// one: then the keeper has none yet.
func (o *offer) openNewAuthority() []conf.Mistake {
	if was := o.was.Plan.Keeper.Authority; was != nil && o.plan.Keeper.Authority != nil {
		where := o.plan.Keeper.Authority.Where
		*o.plan.Keeper.Authority = *was
		o.plan.Keeper.Authority.Where = where
		return nil
	}
	return o.openAuthority()
}

// errKeys is what a checking keeper has said more of.
var errKeys = errors.New("not reloaded: see above; what runs serves on")

// checkKeys has a keeper read certificates and keys, under the keeper's user and in its
// jail: root reads no key. It says itself what is wrong with them.
func (o *offer) checkKeys() error {
	if len(o.plan.Keeper.Certificates) == 0 {
		return nil
	}
	program, err := findProgram("sallyport-keeper")
	if err != nil {
		return err
	}
	defer unix.Close(program)
	plan := o.plan.Keeper
	if o.was.Plan.Keeper.Authority != nil {
		plan.Authority = nil // it is the running keeper's
	}
	part, err := sealJSON("keeper", plan)
	if err != nil {
		return err
	}
	defer unix.Close(part)
	gifts := append(sockets.Gifts{{Name: "plan", FD: part}}, o.files...)
	s := stage{
		role: jail.Keeper, sandbox: o.plan.Sandbox, who: o.plan.Users.Keeper, gifts: gifts, dies: true,
		program: jail.Program{FD: program, Argv: []string{"sallyport-keeper", "--check", "--gifts", gifts.Names()}},
	}
	pid, err := s.start()
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err != nil:
		return err
	case !status.Exited():
		return fmt.Errorf("not reloaded: the keeper that was to check the keys has ended: %s", fateText(status))
	case status.ExitStatus() != exitFine:
		return errKeys
	}
	return nil
}

// pack makes the parcel.
func (o *offer) pack() (int, error) {
	d := o.main
	d.Core, d.Follows = &o.plan.Core, o.was.number
	all, err := o.coreGifts(&d)
	if err != nil {
		return -1, err
	}
	var gifts sockets.Gifts
	for _, gift := range all {
		if gift.FD >= 0 && gift.Name != "program" { // cores of one service are of one build
			gifts = append(gifts, gift)
		}
	}
	if len(o.plan.Keeper.Certificates) > 0 {
		table, err := o.packTable()
		if err != nil {
			return -1, err
		}
		defer unix.Close(table)
		gifts = append(gifts, sockets.Gift{Name: "keeper", FD: table})
	}
	list, err := o.packSockets()
	if err != nil {
		return -1, err
	}
	gifts = append(gifts, list...)
	running, err := sealRunning(o.plan, &d, o.was.Keeper)
	if err != nil {
		return -1, err
	}
	if gifts, err = d.seal(append(gifts, sockets.Gift{Name: "running", FD: running})); err != nil {
		return -1, err
	}
	return sockets.Pack(gifts)
}

// packTable makes the parcel within, which is for the keeper alone.
func (o *offer) packTable() (int, error) {
	part, err := sealJSON("keeper", o.plan.Keeper)
	if err != nil {
		return -1, err
	}
	return sockets.Pack(append(sockets.Gifts{{Name: "plan", FD: part}}, o.files...))
}

// withdraw closes what an offer has bound that was not taken, and removes what would be
// left of it.
func (o *offer) withdraw() {
	for _, l := range o.listeners {
		if l.FD >= 0 {
			unix.Close(l.FD)
		}
	}
	for _, slots := range o.slots {
		closeSlots(slots)
	}
	for _, l := range o.opened {
		if path, found := strings.CutPrefix(l.Address, "unix:"); found {
			removeSocket(path)
		}
	}
}

// changes are what became of listeners, for people.
func (o *offer) changes() (lines []string) {
	for _, l := range o.opened {
		lines = append(lines, "opened: "+l.text())
	}
	for _, l := range o.closed {
		lines = append(lines, "closed: "+plainCommand([]byte(l.text()))) // as it was told
	}
	return lines
}

// text is a listener for people: "https on [::]:443".
func (l listening) text() string {
	if l.Secure {
		return "https on " + l.Address
	}
	return "http on " + l.Address
}
