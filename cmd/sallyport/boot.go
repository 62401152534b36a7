package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/board"
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
	plan    *conf.Plan
	readyFD int // of --ready-fd; -1 without
	log     *slog.Logger

	listeners []sockets.Listener // in the order of the plan
	files     sockets.Gifts      // cert0, key0, cert1, ...
	apps      []startable        // in the order of plan.Managed
	spools    sockets.Gifts      // one for each row of the board
	control   int                // listening; -1 when there is none
}

// bind makes all listeners, and says of each that cannot be had why.
func (b *boot) bind(given *sockets.Given) []conf.Mistake {
	var mistakes []conf.Mistake
	for _, wanted := range b.plan.Listeners {
		listener, err := sockets.Bind(wanted.Address, given)
		if err != nil {
			mistakes = append(mistakes, bindMistake(wanted.Where, err))
			continue
		}
		b.listeners = append(b.listeners, listener)
	}
	return mistakes
}

// openFiles opens the files of all certificates for the keeper.
func (b *boot) openFiles() []conf.Mistake {
	var mistakes []conf.Mistake
	for _, file := range keeperFiles(b.plan) {
		fd, err := file.open(b.plan.Users.Keeper.GID)
		if err != nil {
			mistakes = append(mistakes, file.mistake(err))
			continue
		}
		b.files = append(b.files, sockets.Gift{Name: file.gift, FD: fd})
	}
	return mistakes
}

// openControl makes the control socket. Without it there are signals.
func (b *boot) openControl() {
	b.control = -1
	path := b.plan.Control
	if path == "" {
		return // conf has noticed it
	}
	err := makeRuntimeFolder(filepath.Dir(path))
	if err == nil {
		b.control, err = sockets.BindPath(path, unix.SOCK_SEQPACKET, 0o600)
	}
	if err != nil {
		b.log.Warn("control socket not made", "path", path, "error", err, "hint", "sallyport stop will not work, signals will")
		return
	}
	if b.plan.File == "" { // where -c finds it otherwise
		b.log.Info("control socket made", "path", path)
	}
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
	main := duty{
		Who:      b.plan.Users.Core,
		Sandbox:  b.plan.Sandbox,
		Drain:    b.plan.Core.DrainRequests + drainGrace,
		Upgrades: b.plan.Core.DrainUpgrades + drainGrace,
		Starter:  os.Getuid(),
		Control:  b.plan.Control,
		Shared:   len(b.plan.Keeper.Certificates) > 0 && b.plan.Users.Core.UID == b.plan.Users.Keeper.UID,
		Trust:    trustHint(b.plan),
	}
	gifts, err := b.coreGifts(&main)
	if err != nil {
		return err
	}
	if len(b.plan.Keeper.Certificates) > 0 {
		leash, err := b.startKeeper(self, &main)
		if err != nil {
			return err
		}
		gifts = append(gifts, leash)
	}
	for _, app := range b.apps {
		leash, err := b.startApp(app, &main)
		if err != nil {
			return err
		}
		gifts = append(gifts, leash)
	}
	masonry, err := b.startMason(self, &main)
	if err != nil {
		return err
	}
	gifts, err = main.seal(append(gifts, masonry...))
	if err != nil {
		return err
	}
	return jail.Become(jail.Warden, main.Sandbox, main.Who, jail.Program{FD: self, Argv: wardenArgs("main", gifts)}, gifts)
}

// coreGifts makes what the main warden needs beside the keeper: the cores'
// program and part of the plan, the listeners, and its own inputs and outputs.
// It writes the cores into the duty.
func (b *boot) coreGifts(main *duty) (sockets.Gifts, error) {
	program, err := findProgram("sallyport-core")
	if err != nil {
		return nil, err
	}
	b.fillAdvertisePort()
	part, err := sealJSON("core", b.plan.Core)
	if err != nil {
		return nil, err
	}
	gifts := sockets.Gifts{{Name: "program", FD: program}, {Name: "part", FD: part}}
	core := wardPlan{Name: "core", Role: jail.Core, Gifts: []passing{{"plan", "part"}}}
	shared, err := b.makeBoard(main)
	if err != nil {
		return nil, err
	}
	for _, gift := range shared {
		gifts = append(gifts, gift)
		core.Gifts = append(core.Gifts, passing{gift.Name, gift.Name})
	}
	gifts = append(gifts, b.spools...)
	main.Spools = len(b.spools)
	for i, wanted := range b.plan.Listeners {
		bound := b.listeners[i]
		gifts = append(gifts, sockets.Gift{Name: wanted.Gift, FD: bound.FD})
		core.Gifts = append(core.Gifts, passing{wanted.Gift, wanted.Gift})
		main.Listeners = append(main.Listeners,
			listening{Gift: wanted.Gift, Address: bound.Address, Secure: wanted.Secure, Given: bound.Given})
	}
	for i := range b.plan.Workers {
		main.Wards = append(main.Wards, core)
		if b.plan.Workers > 1 {
			main.Wards[i].Name += strconv.Itoa(i)
		}
	}
	if b.control >= 0 {
		gifts = append(gifts, sockets.Gift{Name: "control", FD: b.control})
	}
	if b.readyFD >= 0 {
		gifts = append(gifts, sockets.Gift{Name: "announce", FD: b.readyFD})
	}
	return gifts, nil
}

// makeBoard makes the memory in which cores count together, and a wake-up for each
// row. It writes into the duty what they are for.
func (b *boot) makeBoard(main *duty) (sockets.Gifts, error) {
	main.Board = board.PlanOf(b.plan.Core.Apps, b.plan.Workers)
	main.Apps = appDuties(b.plan.Core.Apps)
	memory, wakes, err := board.Create(main.Board)
	if err != nil {
		return nil, fmt.Errorf("boot: %w", err)
	}
	gifts := sockets.Gifts{{Name: "board", FD: memory}}
	for row, fd := range wakes {
		gifts = append(gifts, sockets.Gift{Name: rowName("wake", row), FD: fd})
	}
	return gifts, nil
}

// rowName is the gift of some kind that is for a row of the board.
func rowName(kind string, row int) string { return kind + strconv.Itoa(row) }

// fillAdvertisePort puts the port that was bound where the plan had to say 0.
func (b *boot) fillAdvertisePort() {
	for i, wanted := range b.plan.Listeners {
		if b.plan.Core.AdvertisePort != 0 || !wanted.Secure {
			continue
		}
		bound := b.listeners[i].Address
		// An address without a port is that of a unix socket, and the port stays 0.
		b.plan.Core.AdvertisePort, _ = strconv.Atoi(bound[strings.LastIndexByte(bound, ':')+1:])
	}
}

// startKeeper starts the warden of the keeper under the keeper's uid, and
// returns what the main warden holds of it: the leash, by which every core gets a link
// when it is started.
func (b *boot) startKeeper(self int, main *duty) (sockets.Gift, error) {
	program, err := findProgram("sallyport-keeper")
	if err != nil {
		return sockets.Gift{}, err
	}
	part, err := sealJSON("keeper", b.plan.Keeper)
	if err != nil {
		return sockets.Gift{}, err
	}
	gifts := sockets.Gifts{{Name: "program", FD: program}, {Name: "part", FD: part}}
	if empty, err := emptyFolder(); err == nil && !jail.Off() { // without it the keeper still has no file
		gifts = append(gifts, sockets.Gift{Name: "empty", FD: empty})
	}
	keeper := wardPlan{Name: "keeper", Role: jail.Keeper, Gifts: []passing{{"plan", "part"}}}
	for i := range main.Wards {
		main.Wards[i].Linked = true
	}
	for _, file := range b.files {
		gifts = append(gifts, file)
		keeper.Gifts = append(keeper.Gifts, passing{file.Name, file.Name})
	}
	theirs := duty{Who: b.plan.Users.Keeper, Sandbox: b.plan.Sandbox, Drain: keeperGrace, Wards: []wardPlan{keeper}}
	return theirs.start(stage{role: jail.Warden, program: jail.Program{FD: self}, gifts: gifts}, main)
}

// start starts the warden of the duty, by a stage that lacks what the duty knows,
// and adds it to the siblings of the main warden. It returns the gift of that one:
// its end of the leash.
func (d *duty) start(warden stage, main *duty) (sockets.Gift, error) {
	name := d.Wards[0].Name
	hold, leash, err := sockets.Link()
	if err != nil {
		return sockets.Gift{}, err
	}
	if warden.gifts, err = d.seal(append(warden.gifts, sockets.Gift{Name: "leash", FD: leash})); err != nil {
		return sockets.Gift{}, err
	}
	warden.who, warden.sandbox, warden.program.Argv = d.Who, d.Sandbox, wardenArgs(name, warden.gifts)
	pid, err := warden.start()
	if err != nil {
		return sockets.Gift{}, err
	}
	s := sibling{Name: name, PID: pid, Leash: "leash-" + name, Time: d.Drain + 2*hurryingTime, App: d.Wards[0].App != nil}
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
