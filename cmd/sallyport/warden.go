package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
	"sallyport/upstream/board"
)

// A warden keeps the processes of one uid alive. The main warden has besides
// them the listeners, the orders from outside, and its siblings on leashes.
//
//	starting -> serving -> draining -> parting -> gone
//
// It drains from any state, and parts when it has no ward left: then its
// siblings end.
type warden struct {
	duty  *duty
	log   *slog.Logger
	began time.Time

	state state
	ending
	reload reload
	rooms  rooms

	wards    []*ward
	estate   *estate         // in force; of a sibling, what it was started with
	estates  []*estate       // that one, and those of others that some core lives on
	plans    int             // the highest number of an estate so far
	counts   []appStatus     // what was counted on grounds that are gone
	shaken   board.TLSReport // likewise
	program  int             // of the wards; an app has another
	doors    []door          // none once closed
	healed   time.Time       // when they were last looked at
	unhealed int             // how often in a row one could not be healed
	leashed  bool            // a sibling of the main warden, which alone says when to end
	announce int             // of --ready-fd; -1 when there is none
	notifier notifier        // to the service manager
	scribe   *scribeWard     // nil when there is none
	showing  int             // what the keeper shows; 0 without one
	before   map[int]bool    // children that no ward has left: siblings, and what the starter had

	kept     kept     // of the keeper's warden
	renewals renewals // likewise
	suspect  bool     // a core has died, and the keeper does not know it yet

	deaths    chan os.Signal // SIGCHLD alone: one slot says that some child has died
	signals   chan os.Signal // the others, which no storm of deaths may push out
	news      chan readiness
	orders    chan order // closed when the leash is cut
	questions chan question
	adoptions chan adoption
	keepings  chan keeping
	petitions chan petition
}

// An ending is what a warden knows of its own.
type ending struct {
	hurried  bool      // everything has been killed: there is little to wait for
	deadline time.Time // of draining and parting; zero before
	code     int       // exit code
}

// A state is how far a warden is in its life.
type state int

const (
	starting state = iota // some ward has never been ready
	serving
	draining // wards finish
	parting  // the siblings finish
	gone
)

// wardenCommand is the whole life of a warden:
//
//	sallyport warden NAME GIFTS
func wardenCommand(args []string) int {
	// The parent-death signal of the wards is that of this thread.
	runtime.LockOSThread()
	lines := newPatientLog(os.Stderr)
	log := newLog(lines)
	w, err := newWarden(args, log)
	if err != nil {
		log.Error("warden failed", "error", err)
		lines.flush()
		return exitMistake
	}
	code := w.watch()
	lines.flush()
	w.endScribe()
	return code
}

// newWarden seals the jail and takes what boot has left.
func newWarden(args []string, log *slog.Logger) (*warden, error) {
	if err := jail.Seal(jail.Warden); err != nil {
		return nil, err
	}
	// Orphans of wards come to us, not to whoever started the service.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("warden: subreaper: %w", err)
	}
	// Who comes from selfPath is called exe by the kernel.
	name, err := unix.BytePtrFromString("sallyport")
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("warden: name: %w", err)
	}
	if len(args) != 2 {
		return nil, errors.New("warden: is started by sallyport run, not by hand")
	}
	gifts, err := sockets.TakeGifts(args[1])
	if err != nil {
		return nil, err
	}
	d, err := readDuty(gifts)
	if err != nil {
		return nil, err
	}
	if gifts, err = d.furnish(gifts); err != nil {
		return nil, err
	}
	d.say(log)
	w := &warden{
		duty: d, log: log, began: time.Now(), announce: -1, notifier: notifier{fd: -1}, before: map[int]bool{},
		deaths:    make(chan os.Signal, 1),
		signals:   make(chan os.Signal, 16),
		news:      make(chan readiness),
		orders:    make(chan order),
		questions: make(chan question),
		adoptions: make(chan adoption),
		keepings:  make(chan keeping),
		petitions: make(chan petition),
		reload:    reload{generation: 1, last: 1},
	}
	for _, pid := range ownChildren() {
		w.before[pid] = true
	}
	if err := w.inherit(gifts); err != nil {
		return nil, err
	}
	signal.Notify(w.deaths, unix.SIGCHLD)
	signal.Notify(w.signals, unix.SIGTERM, unix.SIGINT)
	for _, s := range passedSignals() {
		signal.Notify(w.signals, s)
	}
	return w, nil
}

// inherit sorts the gifts: what goes to wards, and what is for the warden itself.
func (w *warden) inherit(gifts sockets.Gifts) (err error) {
	if err := errors.Join(w.firstEstate(gifts), w.inheritScribe(gifts)); err != nil {
		return err
	}
	if err := w.addCores(w.estate, w.reload.generation, gifts); err != nil {
		return err
	}
	w.keepFirst(gifts)
	w.steer()
	for i := range w.duty.Siblings {
		s := &w.duty.Siblings[i]
		if s.hold, err = gifts.FD(s.Leash); err != nil {
			return err
		}
		if err = unix.SetNonblock(s.hold, true); err != nil { // a sibling that stalls must not stall us
			return err
		}
	}
	if fd, err := gifts.FD(giftShowing); err == nil {
		w.showing = fd
	}
	if err := w.openRooms(gifts); err != nil {
		return err
	}
	for _, gift := range gifts {
		switch gift.Name {
		case "empty":
			w.wards[0].source.Root = gift.FD // of a keeper, which is alone
		case "announce":
			w.announce = gift.FD
		case "notify":
			w.notifier.fd = gift.FD
		case "leash":
			w.leashed = true
			err = w.beginLeash(gift.FD)
		case "control":
			err = w.beginControl(gift.FD)
			if w.duty.File == "" { // where -c finds it otherwise
				w.log.Info("control socket made", "path", w.duty.Control)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// beginLeash lets the main warden's word count.
func (w *warden) beginLeash(fd int) error {
	leash, err := pollable(fd, "leash")
	if err != nil {
		return err
	}
	go leashLoop(leash, leashed{w.orders, w.adoptions, w.keepings})
	return nil
}

// beginControl lets the operator's word count.
func (w *warden) beginControl(fd int) error {
	socket, err := pollable(fd, "control")
	if err != nil {
		return err
	}
	c := &control{socket: socket, starter: w.duty.Starter, log: w.log, ask: w.questions, wish: w.petitions, along: w.showing}
	go c.loop(w.orders)
	return nil
}
