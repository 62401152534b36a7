package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file is how cores come to their root, and to what is not in it: boot starts the
// mason beside the wardens, the mason passes the root's folder to the main warden, whose
// stages enter it, and the main warden starts the dialer once the mason says that it takes
// one, or that there is no root.

// A rooms is what the main warden knows of it. The zero rooms is that of other wardens.
type rooms struct {
	news    *os.File      // link to the mason; nil: cores are given neither root nor dialer
	root    int           // the folder that cores enter; 0: there is none
	self    int           // this program, for the dialer
	wanted  chan struct{} // closed when the dialer is
	dialing bool          // there is one
}

// masonGrace is how long the mason may take to build the root, on a machine that is busy.
const masonGrace = 20 * time.Second

// startMason starts the mason, and returns what the main warden holds of it and for the
// dialer.
func (b *boot) startMason(self int, main *duty) (sockets.Gifts, error) {
	if jail.Off() {
		return nil, nil // what a core of such a build may do, it may do everywhere
	}
	gifts, err := b.packSockets()
	if err != nil {
		return nil, err
	}
	list, err := gifts.FD("sockets")
	if err != nil {
		return nil, err
	}
	hold, leash, err := sockets.Link()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := sockets.Link()
	if err != nil {
		return nil, err
	}
	mason := stage{
		Role: jail.Mason, Sandbox: b.Plan.Sandbox, Who: b.Plan.Users.Core, program: jail.Program{FD: self},
		gifts: sockets.Gifts{{Name: "sockets", FD: list}, {Name: "leash", FD: leash}, {Name: "news", FD: theirs}},
	}
	mason.program.Argv = []string{"sallyport", "mason", mason.gifts.Names(), string(b.Main.Means)}
	pid, err := mason.start()
	if err != nil {
		return nil, err
	}
	sockets.CloseAll([]int{leash, theirs})
	s := sibling{Name: "mason", PID: pid, Leash: "leash-mason", Time: 2 * hurryingTime, Mason: true}
	main.Siblings = append(main.Siblings, s)
	return append(gifts, sockets.Gifts{{Name: s.Leash, FD: hold}, {Name: "mason", FD: ours}}...), nil
}

// openClosed opens a folder that who could not come to, and may enter. It is -1 for others.
func openClosed(folder string, who conf.ID) int {
	enter := func(path string) (err error) {
		asErr := jail.As(who, func() { err = unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) })
		return errors.Join(asErr, err)
	}
	if !errors.Is(enter(folder), unix.EACCES) {
		return -1
	}
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1 // the app is not there yet: sallyport check names what is in the way
	}
	if enter(fmt.Sprintf("/proc/self/fd/%d", fd)) != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

// opensTo reports whether who may connect to a socket once boot has opened its folder.
func opensTo(socket string, who conf.ID) bool {
	fd := openClosed(filepath.Dir(socket), who)
	if fd < 0 {
		return false
	}
	defer unix.Close(fd)
	path := fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(socket))
	var err error
	asErr := jail.As(who, func() { err = unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) })
	return err == nil && asErr == nil
}

// waysTo are how cores will come to sockets, by what is there now.
func waysTo(paths []string, who conf.ID) (ways []string) {
	folders := foldersOf(paths)
	var views []view
	look := func() { views = surveyOf(folders) }
	if err := jail.As(who, look); err != nil {
		look() // as whoever asks
	}
	for _, path := range paths {
		for i, f := range folders {
			if f.path == filepath.Dir(path) {
				ways = append(ways, views[i].way.String())
			}
		}
	}
	return ways
}

// openRooms takes the mason's first news: where cores are to live.
func (w *warden) openRooms(gifts sockets.Gifts) error {
	link, err := gifts.FD("mason")
	if err != nil {
		return nil // there is none: another warden, or a build without a jail
	}
	w.rooms.wanted = make(chan struct{})
	if w.rooms.self, err = openProgram(selfPath); err != nil {
		return err
	}
	w.kept = kept{tables: map[int]sockets.Gifts{}, links: map[int]adoption{}}
	for _, gift := range gifts {
		if isOfList(gift) {
			w.kept.tables[sockets.FirstTable] = append(w.kept.tables[sockets.FirstTable], gift)
		}
	}
	if w.rooms.news, err = pollable(link, "mason"); err != nil {
		return err
	}
	if err := w.rooms.news.SetReadDeadline(time.Now().Add(masonGrace)); err != nil {
		return err
	}
	news, descriptors, err := receiveOn(w.rooms.news, make([]byte, orderBytesMax))
	switch {
	case err != nil:
		return fmt.Errorf("mason: %w", err)
	case string(news) == newsNone && len(descriptors) == 0:
		w.startDialer()
		return nil
	case string(news) != newsRoot || len(descriptors) != 1:
		sockets.CloseAll(descriptors)
		return fmt.Errorf("mason: said %q with %d descriptors", news, len(descriptors))
	}
	w.rooms.root = descriptors[0]
	for _, ward := range w.wards {
		if ward.isCore() {
			ward.source.Root = w.rooms.root
		}
	}
	if w.waysOf() == "dialer" {
		w.startDialer()
	}
	go masonLoop(w.rooms.news, w.rooms.wanted)
	return w.rooms.news.SetReadDeadline(time.Time{})
}

// masonLoop waits for the news that the dialer is needed. It ends with that, or with the
// mason, which is noticed elsewhere.
func masonLoop(link *os.File, wanted chan<- struct{}) {
	news, descriptors, err := receiveOn(link, make([]byte, orderBytesMax))
	sockets.CloseAll(descriptors)
	if err == nil && string(news) == newsDial {
		close(wanted)
	}
}

// startDialer adds the dialer to the wards, which starts it. It gets the links of the cores that live.
func (w *warden) startDialer() {
	plan := wardPlan{Name: "dialer", Role: jail.Dialer}
	dialer := &ward{plan: plan, source: jail.Program{FD: w.rooms.self}}
	w.rooms.dialing = true
	w.wards = append(w.wards, dialer)
}

// wantDialer is startDialer when the mason asks for it; the question is answered once.
func (w *warden) wantDialer() {
	w.rooms.wanted = nil // a closed channel would be news for ever
	if !w.rooms.dialing && w.state < draining {
		w.startDialer()
	}
}

// wayGifts are what a core is given to come to its apps; release closes what is its alone.
func (w *warden) wayGifts(ward *ward) (gifts sockets.Gifts, release func(), err error) {
	if !ward.isCore() || w.rooms.news == nil {
		return nil, func() {}, nil
	}
	core, dialer, err := sockets.Link()
	if err != nil {
		return nil, nil, err
	}
	w.adopt(adoption{sockets.Adoption{Row: ward.link, Table: ward.estate.number}, dialer})
	return sockets.Gifts{{Name: "dialer", FD: core}}, func() { unix.Close(core) }, nil
}

// waysOf is what a core is told of it.
func (w *warden) waysOf() string {
	switch {
	case w.rooms.news == nil:
		return "paths"
	case w.rooms.root != 0 && jail.KeepsConnect():
		return "root"
	}
	return "dialer"
}

// emptyFolder opens one that was removed: in it there is nothing, and nothing can be made.
func emptyFolder() (int, error) {
	path, err := os.MkdirTemp("", "sallyport-empty-")
	if err != nil {
		return -1, err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, errors.Join(err, os.Chmod(path, 0o555), os.Remove(path))
}

// masonLeft reports whether the end of a sibling is that of a mason that had nothing to
// build: the dialer is in its place.
func (w *warden) masonLeft(s *sibling, status unix.WaitStatus) bool {
	return s.Mason && w.rooms.root == 0 && status.Exited() && status.ExitStatus() == exitFine
}
