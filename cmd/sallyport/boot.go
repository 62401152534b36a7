package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file is the privileged part: it makes every descriptor that the processes
// of the plan will need, tells the wardens their duties, and is gone.

// How long the ward of a sibling may take to end when it is told to. Nothing is in
// flight then: the cores are gone. An app may have work of its own.
const (
	keeperGrace = 2*time.Second + drainGrace
	appGrace    = 30 * time.Second
)

// A boot is what there is between a plan and its processes: descriptors.
type boot struct {
	answer // what is to be done; what it says of listeners and of the internal CA becomes what is
	log    *slog.Logger

	listeners sockets.Gifts // those that were made, each with its slots for QUIC
	files     sockets.Gifts // cert0, key0, cert1, ...
	registrar sockets.Gifts // the registrar's
	apps      []startable   // in the order of Plan.Managed
	spools    sockets.Gifts // one for each row of the board
	links     sockets.Gifts // of the main warden with others: control, notify, announce
	scribe    *scribeWard   // nil: stderr is the log
	opened    []listening   // what listeners are
}

// bind makes all listeners that are not there yet, and says of each that cannot be had why.
func (b *boot) bind(given *sockets.Given) (mistakes []conf.Mistake) {
	for i := range b.Main.Listeners {
		l := &b.Main.Listeners[i]
		if l.Address != "" {
			continue // a reload leaves it as it is
		}
		bound, err := sockets.Bind(b.Addresses[i], given)
		if err != nil {
			mistake := mistakeOf(b.Plan.Listeners[i].Where, err)
			if errors.Is(err, unix.EADDRINUSE) && b.InUse != "" {
				mistake.Hint = strings.TrimPrefix(mistake.Hint+"; or "+b.InUse, "; or ")
			}
			mistakes = append(mistakes, mistake)
			continue
		}
		l.Address, l.Given = bound.Address, bound.Given
		b.listeners = append(b.listeners, sockets.Gift{Name: l.Gift, FD: bound.FD})
		if err := b.bindSlots(l, b.Addresses[i], given); err != nil {
			mistakes = append(mistakes, mistakeOf(b.Plan.Listeners[i].Where, err))
		}
		b.opened = append(b.opened, *l)
	}
	if err := given.Stray(); err != nil && len(mistakes) == 0 && b.Plan.Core.H3 {
		mistakes = append(mistakes, mistakeOf(conf.Place{File: b.Plan.File, Key: "listen.https"}, err))
	}
	return mistakes
}

// openFiles opens the files of all certificates for the keeper.
func (b *boot) openFiles() []conf.Mistake {
	return openAll(b.Files, b.Plan.Users.Keeper.GID, &b.files)
}

// openAll opens files for somebody with a group, as gifts.
func openAll(files []keeperFile, group int, gifts *sockets.Gifts) (mistakes []conf.Mistake) {
	for _, file := range files {
		fd, err := file.open(group)
		if err != nil {
			mistakes = append(mistakes, mistakeOf(file.Where, err))
			continue
		}
		*gifts = append(*gifts, sockets.Gift{Name: file.Gift, FD: fd})
	}
	return mistakes
}

// openControl makes the control socket. Without it there are signals.
func (b *boot) openControl() {
	path := b.Plan.Control
	if path == "" {
		return // conf has noticed it
	}
	err := makeRuntimeFolder(filepath.Dir(path))
	fd := -1
	if err == nil {
		fd, err = sockets.BindPath(path, unix.SOCK_SEQPACKET, 0o600)
	}
	if err != nil {
		b.log.Warn("control socket not made", "path", path, "error", err, "hint", "sallyport stop will not work, signals will")
		return
	}
	b.links = append(b.links, sockets.Gift{Name: "control", FD: fd})
}

// makeRuntimeFolder makes a folder that processes of several users look into,
// whatever the umask; one that is there stays as it is.
func makeRuntimeFolder(path string) error {
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// launch starts the other wardens beside this process and turns this process
// into the main warden. It returns only if it failed.
func (b *boot) launch() error {
	self, err := openProgram(selfPath)
	if err != nil {
		return err
	}
	program, err := findProgram("sallyport-core")
	if err != nil {
		return err
	}
	main := &b.Main
	gifts := slices.Concat(sockets.Gifts{{Name: "program", FD: program}}, b.spools, b.listeners, b.links, b.scribeGifts(main))
	if len(b.Plan.Keeper.Certificates) > 0 {
		showing, err := sockets.Sealable(giftShowing)
		if err != nil {
			return err
		}
		b.files = append(b.files, sockets.Gift{Name: giftShowing, FD: showing})
		leash, err := b.startKeeper(self, main)
		if err != nil {
			return err
		}
		gifts = append(gifts, leash, sockets.Gift{Name: giftShowing, FD: showing})
	}
	if b.Plan.Registrar != nil {
		leash, err := b.startRegistrar(self, main)
		if err != nil {
			return err
		}
		gifts = append(gifts, leash)
	}
	for _, app := range b.apps {
		leash, err := b.startApp(app, main)
		if err != nil {
			return err
		}
		gifts = append(gifts, leash)
	}
	masonry, err := b.startMason(self, main)
	if err != nil {
		return err
	}
	if gifts, err = b.seal(append(gifts, masonry...)); err != nil {
		return err
	}
	return jail.Become(jail.Warden, main.Sandbox, main.Who, jail.Program{FD: self, Argv: wardenArgs("main", gifts)}, gifts)
}

// seal adds to the gifts of the main warden its duty, and the plan for the next reload.
func (b *boot) seal(gifts sockets.Gifts) (sockets.Gifts, error) {
	b.Main.Core = &b.Plan.Core
	running, err := sealJSON("running", runningPlan{Version: b.Version, Plan: b.Plan, Bound: b.Main.Listeners, Keeper: b.Keeper})
	if err != nil {
		return nil, err
	}
	return b.Main.seal(append(gifts, sockets.Gift{Name: "running", FD: running}))
}

// startKeeper starts the warden of the keeper under the keeper's uid, and
// returns what the main warden holds of it: the leash, by which every core gets a link
// when it is started.
func (b *boot) startKeeper(self int, main *duty) (sockets.Gift, error) {
	program, err := findProgram("sallyport-keeper")
	if err != nil {
		return sockets.Gift{}, err
	}
	gifts := append(sockets.Gifts{{Name: "program", FD: program}}, b.files...)
	// Without it the keeper still has no file. Who is uid 0 has no other name in a namespace.
	if empty, err := emptyFolder(); err == nil && !jail.Off() && b.Plan.Users.Keeper.UID != 0 {
		gifts = append(gifts, sockets.Gift{Name: "empty", FD: empty})
	}
	theirs := duty{Name: "keeper", Who: b.Plan.Users.Keeper, Sandbox: b.Plan.Sandbox, Keeper: &b.Plan.Keeper, Empty: []string{"part"}, Drain: keeperGrace}
	return theirs.start(stage{Role: jail.Warden, program: jail.Program{FD: self}, gifts: gifts}, main)
}

// start starts the warden of the duty, by a stage that lacks what the duty knows,
// and adds it to the siblings of the main warden. It returns the gift of that one:
// its end of the leash.
func (d *duty) start(warden stage, main *duty) (sockets.Gift, error) {
	hold, leash, err := sockets.Link()
	if err != nil {
		return sockets.Gift{}, err
	}
	if warden.gifts, err = d.seal(append(warden.gifts, sockets.Gift{Name: "leash", FD: leash})); err != nil {
		return sockets.Gift{}, err
	}
	warden.Who, warden.Sandbox, warden.program.Argv = d.Who, d.Sandbox, wardenArgs(d.Name, warden.gifts)
	pid, err := warden.start()
	if err != nil {
		return sockets.Gift{}, err
	}
	s := sibling{Name: d.Name, PID: pid, Leash: "leash-" + d.Name, Time: d.Drain + 2*hurryingTime, App: d.Keeper == nil && d.Registrar == nil}
	main.Siblings = append(main.Siblings, s)
	return sockets.Gift{Name: s.Leash, FD: hold}, nil
}

// sealJSON makes sealed memory of a part of the plan.
func sealJSON(name string, part any) (int, error) {
	text, err := json.Marshal(part)
	if err != nil {
		return -1, fmt.Errorf("boot: plan of %s: %w", name, err)
	}
	return sockets.Seal(name, text)
}

// findProgram opens another program of ours, which is beside this one or in
// ../libexec. PATH and environment have no say.
func findProgram(name string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return -1, fmt.Errorf("boot: find this program: %w", err)
	}
	folder := filepath.Dir(self)
	for _, path := range []string{filepath.Join(folder, name), filepath.Join(folder, "../libexec", name)} {
		fd, err := openProgram(path)
		if !errors.Is(err, unix.ENOENT) {
			return fd, err
		}
	}
	return -1, fmt.Errorf("boot: %s is neither in %s nor in ../libexec", name, folder)
}

// openProgram opens a file for execveat alone. Whoever executes it needs no
// right to its folder.
func openProgram(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("boot: open program %s: %w", path, err)
	}
	return fd, nil
}
