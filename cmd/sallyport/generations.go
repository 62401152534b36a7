package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
	"sallyport/upstream/board"
)

// This file is how cores are replaced while they serve. A generation is the cores that
// began together:
//
//	incoming ── all ready ──► in force ── the next is ready ──► retired -> gone
//	    └─ one died, or late ──► gone
//
// The new ones accept before the old ones stop: both have the same listeners, so
// that there is no moment without somebody who accepts, and what waits in a backlog is
// taken by whoever is left.

const (
	// generationsMax is how many generations may live at once. A reload that would make
	// one more has the oldest cut its tunnels, and waits until that one is gone.
	generationsMax = board.Generations
	// reloadTime is for new cores to be ready.
	reloadTime = 20 * time.Second
	// petitionsMax is the reload under way, and one that waits for its end.
	petitionsMax = 2
)

// endsAlready is why there is no reload any more.
const endsAlready = "the service ends"

// What a reload says of the configuration: a signal brings nothing along, and who gets it
// can open no file.
const (
	isRead  = "read again by the command"
	notRead = "not read again: the plan stays as it was. Certificates and keys that were written in place are new, " +
		"those that have another file now are not. sallyport reload reads and opens all"
)

// A reload is what a warden knows of its generations.
type reload struct {
	generation int        // the number of the one in force
	last       int        // the highest number so far
	petitions  []petition // the first is under way
	deadline   time.Time  // for the incoming generation; zero while there is none
	incoming   *estate    // of that one, where it is another than the one in force; nil otherwise
}

// A petition is somebody who wants a reload.
type petition struct {
	caller *os.File // nil: a signal
	parcel int      // what the cores of another plan are given; -1 since taken; 0: the plan in force is to stay
	asks   bool     // only what the plan in force is

	outdated bool // another plan has come into force since that one was compared
}

// A reloadAnswer is what became of a petition. The names of its JSON are a contract.
type reloadAnswer struct {
	Error      string `json:"error,omitempty"`
	Generation int    `json:"generation"`         // the one in force
	Cores      []int  `json:"cores"`              // its pids
	Draining   []int  `json:"draining"`           // numbers of the generations that live on
	Outdated   bool   `json:"outdated,omitempty"` // another plan came into force since this one was compared

	opened []listening // what the command has to add
	closed []string
}

// A planAnswer says which plan is in force. The plan itself comes along.
type planAnswer struct {
	Error  string `json:"error,omitempty"` // why there is none
	Number int    `json:"number"`
}

// isCore reports whether the ward is one that is replaced by reloads.
func (w *ward) isCore() bool { return w.plan.Role == jail.Core }

// isRetired reports whether the ward is to end while others serve.
func (w *ward) isRetired() bool { return !w.retired.IsZero() }

// incoming are the cores of the generation that is to be in force.
func (w *warden) incoming() (wards []*ward) {
	for _, ward := range w.wards {
		if w.isIncoming(ward) {
			wards = append(wards, ward)
		}
	}
	return wards
}

func (w *warden) isIncoming(ward *ward) bool {
	return ward.isCore() && !ward.isRetired() && ward.generation > w.reload.generation
}

// inForce are the cores that serve, or are started again to do so.
func (w *warden) inForce() (wards []*ward) {
	for _, ward := range w.wards {
		if ward.isCore() && !ward.isRetired() && ward.generation == w.reload.generation {
			wards = append(wards, ward)
		}
	}
	return wards
}

// retired are the numbers of the generations that are to end, oldest first.
func (w *warden) retired() (numbers []int) {
	for _, ward := range w.wards {
		if ward.isRetired() && !slices.Contains(numbers, ward.generation) {
			numbers = append(numbers, ward.generation)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// petition takes the wish for a reload, or says why not.
func (w *warden) petition(p petition) {
	switch {
	case w.state >= draining:
		w.answer(p, endsAlready)
	case w.state != serving:
		w.answer(p, "the service is not ready yet")
	case p.asks:
		w.tellPlan(p.caller)
	case len(w.reload.petitions) >= petitionsMax:
		w.answer(p, "a reload is under way, and another one waits for its end")
	default:
		w.reload.petitions = append(w.reload.petitions, p)
	}
}

// answer tells who asked, and the log, what became of the wish; failure is "" when all went well.
func (w *warden) answer(p petition, failure string) {
	read := notRead
	if p.parcel != 0 {
		read = isRead
	}
	if p.parcel > 0 {
		unix.Close(p.parcel) // it was not taken
	}
	a := reloadAnswer{Error: failure, Outdated: p.outdated, Generation: w.reload.generation, Cores: []int{}, Draining: w.retired()}
	for _, ward := range w.inForce() {
		a.Cores = append(a.Cores, ward.pid)
	}
	if failure != "" {
		w.log.Error("not reloaded", "reason", failure, "generation", a.Generation)
	} else {
		w.log.Info("reloaded", "generation", a.Generation, "cores", a.Cores, "draining", a.Draining, "configuration", read)
	}
	if p.caller == nil {
		return
	}
	defer p.caller.Close()
	text, err := json.Marshal(a)
	if err == nil {
		err = sendTo(p.caller, text)
	}
	if err != nil {
		w.log.Warn("reload not answered", "error", err)
	}
}

// tellPlan tells a caller which plan is in force, and what was bound for it.
func (w *warden) tellPlan(caller *os.File) {
	defer caller.Close()
	text, err := json.Marshal(planAnswer{Number: w.estate.number})
	if err == nil {
		err = sendTo(caller, text, w.estate.running)
	}
	if err != nil {
		w.log.Warn("plan not told", "error", err)
	}
}

// sendTo sends a caller a message, for which there is room: it is the first but one.
func sendTo(caller *os.File, message []byte, descriptors ...int) error {
	raw, err := caller.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = sockets.Send(int(fd), message, descriptors...) })
	return errors.Join(err, sent)
}

// tendReload takes the reload that is under way a step further.
func (w *warden) tendReload(now time.Time) {
	switch {
	case len(w.reload.petitions) == 0:
	case w.reload.deadline.IsZero():
		w.beginGeneration(now)
	case !now.Before(w.reload.deadline):
		w.failReload(now, fmt.Sprintf("the new cores were not ready within %v", reloadTime))
	}
}

// beginGeneration makes the cores of a new generation, which are started next; or
// sees to it that there will be room for them.
func (w *warden) beginGeneration(now time.Time) {
	if numbers := w.retired(); len(numbers)+1 >= generationsMax {
		w.cutGeneration(numbers[0], now)
		return
	}
	e, p := w.estate, &w.reload.petitions[0]
	w.reload.last++
	w.reload.deadline = now.Add(reloadTime)
	var err error
	if p.parcel != 0 {
		e, err = w.takeEstate(p.parcel)
		p.parcel, p.outdated = -1, errors.Is(err, errOutdated)
	} else if w.keeperLeash() >= 0 {
		e, err = w.sameEstate()
	}
	if err != nil {
		w.endReload(err.Error())
		return
	}
	if e != w.estate {
		w.reload.incoming = e
	}
	if err := w.addCores(e, w.reload.last, w.lends(e)); err != nil {
		w.failReload(now, err.Error())
	}
}

// addCores makes the wards of an estate, which are started next, of what they are lent.
func (w *warden) addCores(e *estate, generation int, lent sockets.Gifts) error {
	for _, plan := range e.duty.Wards {
		core, err := newWard(plan, lent)
		if err != nil {
			return err
		}
		core.estate, core.generation = e, generation
		if core.isCore() {
			core.source.Root = w.rooms.root
			core.row = w.lowest(func(other *ward) (int, bool) { return other.row, other.estate.ground == e.ground })
			core.link = w.lowest(func(other *ward) (int, bool) { return other.link, true })
		}
		w.wards = append(w.wards, core)
	}
	return nil
}

// coreArgs is what a core is told; others are told nothing.
func (w *warden) coreArgs(ward *ward) []string {
	if !ward.isCore() {
		return nil
	}
	return []string{"--row", strconv.Itoa(ward.row), "--slot", strconv.Itoa(ward.link), "--apps", w.waysOf()}
}

// lowest is the first number that no core has, of those that count. It is free again when
// its core was reaped; there is always one below what all generations may have.
func (w *warden) lowest(number func(*ward) (n int, counts bool)) int {
	for free := 0; ; free++ {
		has := func(ward *ward) bool {
			if !ward.isCore() {
				return false
			}
			n, counts := number(ward)
			return counts && n == free
		}
		if !slices.ContainsFunc(w.wards, has) {
			return free
		}
	}
}

// cutGeneration has the oldest generation cut its tunnels, once.
func (w *warden) cutGeneration(number int, now time.Time) {
	for _, ward := range w.wards {
		if ward.generation != number || !ward.isRetired() || ward.cut {
			continue
		}
		w.log.Warn("generation told to end", "generation", number, "pid", ward.pid,
			"reason", fmt.Sprintf("no more than %d are kept: its upgraded connections are cut", generationsMax))
		ward.cut = true
		last := ward.estate.duty.Drain // as at the end of the service, from its retirement on
		if end := ward.retired.Add(last); end.Before(ward.end) {
			ward.end = later(end, now.Add(drainGrace))
		}
		w.kill(ward, unix.SIGUSR2)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// retire tells a core that another one has its place. One that does not run is gone; one
// that has just begun may miss it, and is told again when it is ready (greet).
func (w *warden) retire(ward *ward, now time.Time) {
	ward.retired, ward.end = now, now.Add(max(ward.estate.duty.Drain, ward.estate.duty.Upgrades))
	w.kill(ward, unix.SIGUSR1)
	if ward.pid == 0 {
		w.remove(ward)
	}
}

// remove forgets a ward that is gone. Who goes through the wards may go on.
func (w *warden) remove(gone *ward) {
	w.wards = slices.DeleteFunc(slices.Clone(w.wards), func(ward *ward) bool { return ward == gone })
	if gone.isCore() {
		w.steer()
	}
	w.settle()
}

// endLate kills retired cores that did not end in time.
func (w *warden) endLate(now time.Time) {
	for _, ward := range w.wards {
		if ward.isRetired() && !now.Before(ward.end) {
			w.log.Warn("time to end exceeded", "running", ward.plan.Name, "pid", ward.pid, "generation", ward.generation)
			ward.end = now.Add(hurryingTime) // for the next try
			w.kill(ward, unix.SIGKILL)
		}
	}
}

// promote puts the incoming generation in force, if all of it is ready.
func (w *warden) promote(now time.Time) {
	incoming := w.incoming()
	for _, ward := range incoming {
		if !ward.proved {
			return
		}
	}
	old := w.inForce()
	w.reload.generation = w.reload.last
	if w.reload.incoming != nil {
		w.enforce(w.reload.incoming)
	}
	w.steer()
	for _, ward := range old {
		w.retire(ward, now)
	}
	w.endReload("")
}

// failReload gives the incoming generation up. Those of it that have begun to accept
// finish what they have begun; the one in force serves on.
func (w *warden) failReload(now time.Time, reason string) {
	for _, ward := range w.incoming() {
		w.retire(ward, now)
		if !ward.proved {
			w.kill(ward, unix.SIGKILL)
		}
	}
	w.endReload(reason)
}

// endReload answers the petition that was under way. The next one is begun by tend.
func (w *warden) endReload(failure string) {
	w.reload.deadline = time.Time{}
	if w.reload.incoming != nil {
		w.keepDoors(w.estate)
	}
	w.reload.incoming = nil
	w.settle()
	p := w.reload.petitions[0]
	w.reload.petitions = w.reload.petitions[1:]
	w.answer(p, failure)
}

// endReloads answers all petitions: the service ends.
func (w *warden) endReloads() {
	for len(w.reload.petitions) > 0 {
		w.endReload(endsAlready)
	}
}

// reloadNext is when tendReload or endLate has something to do, if nothing happens
// before and it is sooner than next.
func (w *warden) reloadNext(next time.Time) time.Time {
	if end := w.reload.deadline; !end.IsZero() && end.Before(next) {
		next = end
	}
	for _, ward := range w.wards {
		if ward.isRetired() && ward.end.Before(next) {
			next = ward.end
		}
	}
	return next
}

// coreDied notes the end of a core that is not in force, and reports whether it was one.
func (w *warden) coreDied(ward *ward, status unix.WaitStatus, facts []any, now time.Time) bool {
	switch {
	case ward.isRetired():
		w.remove(ward)
		if ward.unasked(status) || status.Exited() && status.ExitStatus() != exitFine {
			w.log.Warn("process died", append(facts, "generation", ward.generation)...)
		}
	case w.isIncoming(ward):
		w.remove(ward)
		w.log.Error("process died", append(facts, "generation", ward.generation)...)
		w.failReload(now, fmt.Sprintf("a new core, pid %v, has ended before it was in force: %s", facts[len(facts)-1], fateText(status)))
	default:
		return false
	}
	return true
}

// fateText is how a process ended, in words.
func fateText(status unix.WaitStatus) string {
	return strings.TrimSpace(fmt.Sprintln(fate(status)...))
}
