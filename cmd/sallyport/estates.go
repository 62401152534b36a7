package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
	"sallyport/upstream/board"
	"sallyport/upstream/spool"
)

// This file is what the main warden has for its cores: that of the plan in force, and
// that of each older plan for as long as a core of it lives. A new plan comes from the
// reload command, as a parcel in which everything is ready: nothing is left to decide,
// and nothing of it takes privilege any more.

// An estate is what the cores of one plan are given. Listeners are kept beside it, since
// they outlive it where the next plan has them too.
type estate struct {
	number  int           // of the plan, and of the keeper's table of its certificates
	duty    *duty         // what it is for
	gifts   sockets.Gifts // its own, but for those below
	running int           // the whole plan in sealed memory, for the next reload; 0: there is none
	ground  *ground
}

// A ground is where cores count together, and let bodies wait. Plans that agree about
// their apps and about the spool have the same; others have each their own, so that for as
// long as an old core lives max_inflight and queue.len hold for each of them alone.
type ground struct {
	plan   board.Plan
	apps   []appDuty
	board  *board.Memory // nil: there is none
	spools []int         // by row
	gifts  sockets.Gifts // board and wake-ups
}

// A door is a listener that the main warden keeps.
type door struct {
	listening
	fd    int
	slots sockets.Slots
}

// errOutdated is an estate that was made while another one came into force.
var errOutdated = errors.New("another reload has come between: run it again")

// gift is the door as a core is given it.
func (d door) gift() sockets.Gift { return sockets.Gift{Name: d.Gift, FD: d.fd} }

// firstEstate is that of the plan that the warden was started with, of what boot gave.
func (w *warden) firstEstate(gifts sockets.Gifts) error {
	e := &estate{number: sockets.FirstTable, duty: w.duty}
	e.running, _ = gifts.FD("running") // of the main warden alone
	var err error
	if e.ground, err = newGround(w.duty, gifts); err != nil {
		return err
	}
	for _, l := range w.duty.Listeners {
		fd, err := gifts.FD(l.Gift)
		if err != nil {
			return err
		}
		slots, err := takeSlots(l, gifts)
		if err != nil {
			return err
		}
		w.doors = append(w.doors, door{l, fd, slots})
	}
	known := map[string]bool{"program": true}
	for _, gift := range e.ground.gifts {
		known[gift.Name] = true
	}
	for _, l := range w.duty.Listeners {
		known[l.Gift] = true
	}
	for _, plan := range w.duty.Wards {
		for _, p := range plan.Gifts {
			if fd, err := gifts.FD(p.From); err == nil && !known[p.From] {
				e.gifts = append(e.gifts, sockets.Gift{Name: p.From, FD: fd})
				known[p.From] = true
			}
		}
	}
	w.program, _ = gifts.FD("program") // an app has none
	w.estate, w.estates, w.plans = e, []*estate{e}, e.number
	return nil
}

// newGround maps the board of a duty, and finds its spools.
func newGround(d *duty, gifts sockets.Gifts) (*ground, error) {
	g := &ground{plan: d.Board, apps: d.Apps}
	if d.Board.Rows == 0 {
		return g, nil
	}
	memory, err := gifts.FD("board")
	if err != nil {
		return nil, err
	}
	g.gifts = sockets.Gifts{{Name: "board", FD: memory}}
	wakes := make([]int, d.Board.Rows)
	for row := range wakes {
		if wakes[row], err = gifts.FD(rowName("wake", row)); err != nil {
			return nil, err
		}
		g.gifts = append(g.gifts, sockets.Gift{Name: rowName("wake", row), FD: wakes[row]})
	}
	for row := range d.Spools {
		fd, err := gifts.FD(rowName("spool", row))
		if err != nil {
			return nil, err
		}
		g.spools = append(g.spools, fd)
	}
	g.board, err = board.Map(memory, wakes, d.Board)
	return g, err
}

// close gives the ground back. No core of it lives.
func (g *ground) close() error {
	g.gifts.Close()
	sockets.CloseAll(g.spools)
	if g.board == nil {
		return nil
	}
	return g.board.Unmap()
}

// lends is all that the wards of an estate may be given.
func (w *warden) lends(e *estate) sockets.Gifts {
	all := slices.Concat(sockets.Gifts{{Name: "program", FD: w.program}}, e.gifts, e.ground.gifts)
	for _, d := range w.doorsOf(e) {
		all = append(all, d.gift())
	}
	return all
}

// doorsOf are the listeners of an estate, in its order and under its names. One that it
// has in common with another is known by what the configuration calls it.
func (w *warden) doorsOf(e *estate) (doors []door) {
	for _, wanted := range e.duty.Listeners {
		for _, has := range w.doors {
			if has.Text == wanted.Text && has.Address == wanted.Address {
				wanted.Given, wanted.Private, wanted.Slots = has.Given, has.Private, has.Slots
				doors = append(doors, door{wanted, has.fd, has.slots})
				break
			}
		}
	}
	return doors
}

// takeEstate makes an estate of what a reload command has packed, and sends the keeper its
// part. Nothing has changed if it fails.
func (w *warden) takeEstate(parcel int) (*estate, error) {
	gifts, err := sockets.Unpack(parcel)
	if err != nil {
		return nil, err
	}
	e, doors, err := w.readEstate(gifts)
	if err != nil {
		gifts.Close()
		return nil, err
	}
	if fd, err := gifts.FD("duty"); err == nil {
		unix.Close(fd) // read
	}
	w.plans++
	e.number = w.plans
	list := slices.DeleteFunc(slices.Clone(gifts), func(gift sockets.Gift) bool { return !isOfList(gift) })
	if err := w.keepSockets(e.number, list); err != nil {
		return nil, errors.Join(err, e.close(w.estate.ground), closeDoors(doors))
	}
	if table, err := gifts.FD("keeper"); err == nil {
		err = w.sendTable(e.number, table)
		unix.Close(table)
		if err != nil {
			w.forgetSockets(e.number)
			return nil, errors.Join(err, e.close(w.estate.ground), closeDoors(doors))
		}
	}
	w.doors = append(w.doors, doors...)
	w.estates = append(w.estates, e)
	return e, nil
}

// sameEstate is that of the plan in force once more, for cores whose certificates the keeper
// has read again.
func (w *warden) sameEstate() (*estate, error) {
	e := &estate{duty: w.estate.duty, ground: w.estate.ground}
	var err error
	if e.running, err = unix.FcntlInt(uintptr(w.estate.running), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, err
	}
	for _, gift := range w.estate.gifts {
		fd, err := unix.FcntlInt(uintptr(gift.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, errors.Join(err, e.close(e.ground))
		}
		e.gifts = append(e.gifts, sockets.Gift{Name: gift.Name, FD: fd})
	}
	w.plans++
	e.number = w.plans
	list, err := w.kept.like(w.estate.number)
	if err == nil {
		err = w.keepSockets(e.number, list)
	}
	if err != nil {
		return nil, errors.Join(err, e.close(e.ground))
	}
	message := sockets.Keeping{Table: e.number, Like: w.estate.number}.Append(nil)
	if err := sockets.Send(w.keeperLeash(), message); err != nil {
		w.forgetSockets(e.number)
		return nil, errors.Join(fmt.Errorf("certificates for the keeper: %w", err), e.close(e.ground))
	}
	w.estates = append(w.estates, e)
	return e, nil
}

// readEstate sorts the gifts of an estate. doors are those that are new.
func (w *warden) readEstate(gifts sockets.Gifts) (e *estate, doors []door, err error) {
	e = &estate{ground: w.estate.ground}
	if e.duty, err = readDuty(gifts); err != nil {
		return nil, nil, err
	}
	if e.duty.Follows != w.estate.number {
		return nil, nil, errOutdated
	}
	known := map[string]bool{"duty": true, "keeper": true, "running": true}
	if e.running, err = gifts.FD("running"); err != nil {
		return nil, nil, err
	}
	for _, l := range e.duty.Listeners {
		fd, err := gifts.FD(l.Gift)
		if err == nil {
			slots, err := takeSlots(l, gifts)
			if err != nil {
				return nil, nil, err
			}
			known[l.Gift] = true
			for slot := range slots {
				known[slotName(l.Gift, slot)] = true
			}
			doors = append(doors, door{l, fd, slots})
			continue
		}
		if !slices.ContainsFunc(w.doors, func(d door) bool { return d.Text == l.Text && d.Address == l.Address }) {
			return nil, nil, fmt.Errorf("listener %s is neither here nor given", l.Text)
		}
	}
	if gifts, err = e.duty.furnish(gifts); err != nil {
		return nil, nil, err
	}
	if _, err := gifts.FD("board"); err == nil {
		if e.ground, err = newGround(e.duty, gifts); err != nil {
			return nil, nil, err
		}
	}
	for _, gift := range gifts {
		ofGround := gift.Name == "board" || strings.HasPrefix(gift.Name, "wake") || strings.HasPrefix(gift.Name, "spool")
		if !known[gift.Name] && !ofGround && !isOfList(gift) {
			e.gifts = append(e.gifts, gift)
		}
	}
	return e, doors, nil
}

// sendTable passes certificates on to the keeper, by its warden.
func (w *warden) sendTable(number, parcel int) error {
	if err := sockets.Send(w.keeperLeash(), sockets.Keeping{Table: number}.Append(nil), parcel); err != nil {
		return fmt.Errorf("certificates for the keeper: %w", err)
	}
	return nil
}

// close gives an estate back, and its ground unless that is also another's.
func (e *estate) close(kept *ground) error {
	e.gifts.Close()
	if e.running != 0 {
		unix.Close(e.running)
	}
	if e.ground == kept {
		return nil
	}
	return e.ground.close()
}

// settle gives back each estate that no core is of any more, nor will be, and what it
// counted that is in force goes on with it.
func (w *warden) settle() {
	isLeft := func(e *estate) bool {
		ofIt := func(ward *ward) bool { return ward.estate == e }
		return e != w.estate && e != w.reload.incoming && !slices.ContainsFunc(w.wards, ofIt)
	}
	for _, e := range w.estates {
		if !isLeft(e) {
			continue
		}
		w.estates = slices.DeleteFunc(slices.Clone(w.estates), func(other *estate) bool { return other == e })
		kept := w.estate.ground
		if slices.ContainsFunc(w.estates, func(other *estate) bool { return other.ground == e.ground }) {
			kept = e.ground
		} else {
			w.keepCounts(e.ground)
		}
		if err := e.close(kept); err != nil {
			w.log.Error("board not given back", "error", err)
		}
		w.forgetSockets(e.number)
		if leash := w.keeperLeash(); leash >= 0 {
			if err := sockets.Send(leash, sockets.Keeping{Table: e.number, Forget: true}.Append(nil)); err != nil {
				w.log.Warn("certificates not forgotten", "error", err)
			}
		}
	}
}

// enforce puts an estate in force. The doors that it does not have are closed next, as
// retired cores do at once: who waits there is refused.
func (w *warden) enforce(e *estate) {
	for _, l := range e.duty.Listeners {
		if !slices.ContainsFunc(w.duty.Listeners, func(old listening) bool { return old.Text == l.Text && old.Address == l.Address }) {
			w.log.Info("listener opened", "listener", l.Address, "tls", l.Secure)
		}
	}
	w.estate = e
	now := *w.duty
	now.Wards, now.Drain, now.Upgrades, now.Trust = e.duty.Wards, e.duty.Drain, e.duty.Upgrades, e.duty.Trust
	now.Board, now.Apps, now.Spools, now.Listeners = e.duty.Board, e.duty.Apps, e.duty.Spools, e.duty.Listeners
	w.duty = &now
}

// keepDoors closes all doors but those of an estate.
func (w *warden) keepDoors(e *estate) {
	kept := w.doorsOf(e)
	for _, d := range w.doors {
		if slices.ContainsFunc(kept, func(k door) bool { return k.fd == d.fd }) {
			continue
		}
		w.log.Info("listener closed", "listener", d.Address)
		d.close()
	}
	w.doors = kept
}

// close closes the main warden's share of a door. The name of a unix socket goes first,
// while nobody else can have put his own in its place.
func (d door) close() {
	if path, found := strings.CutPrefix(d.Address, "unix:"); found && !d.Given {
		removeSocket(path)
		if d.Private {
			removeSocket(filepath.Dir(path))
		}
	}
	unix.Close(d.fd)
	sockets.CloseAll(d.slots)
}

func closeDoors(doors []door) error {
	for _, d := range doors {
		d.close()
	}
	return nil
}

// clearRows gives back what dead cores held on a ground, or wrote there in the name of
// rows that nobody has. They were waited for, so that they write no more.
func (w *warden) clearRows(g *ground) {
	if g.board == nil {
		return
	}
	var vacant []int
	for row := range g.plan.Rows {
		taken := func(ward *ward) bool {
			return ward.isCore() && ward.pid != 0 && ward.estate.ground == g && ward.row == row
		}
		if !slices.ContainsFunc(w.wards, taken) {
			vacant = append(vacant, row)
		}
	}
	if err := g.board.Clear(vacant...); err != nil {
		w.log.Error("rows not cleared", "error", err)
	}
}

// spoolGift is the file of a core's row.
func (w *warden) spoolGift(core *ward) sockets.Gifts {
	if !core.isCore() || len(core.estate.ground.spools) == 0 {
		return nil
	}
	return sockets.Gifts{{Name: "spool", FD: core.estate.ground.spools[core.row]}}
}

// clearSpool gives back what a core has left behind, which is dead and writes no more.
func (w *warden) clearSpool(core *ward) {
	spools := core.estate.ground.spools
	if len(spools) == 0 {
		return
	}
	if err := spool.Clear(spools[core.row]); err != nil {
		w.log.Error("spool not cleared", "process", core.plan.Name, "error", err)
	}
}
