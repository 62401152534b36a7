package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// This file is how mason and dialer follow reloads. Each plan has its list of sockets, with
// the folders that boot, or the reload command, has opened for them: to the dialer a list
// is what a table of certificates is to the keeper, and takes the same way. The mason has
// all folders of plans that cores live of in the one root.

// findTargets lists the sockets of all apps, in the order in which their members are numbered, and
// their folders.
func (a *answer) findTargets() {
	for i := range a.Plan.Core.Apps {
		for _, path := range a.Plan.Core.Apps[i].Sockets {
			folder := filepath.Dir(path)
			at := slices.Index(a.Folders, folder)
			if at < 0 {
				at, a.Folders = len(a.Folders), append(a.Folders, folder)
			}
			a.Targets = append(a.Targets, dialTarget{Path: path, Folder: rowName("folder", at)})
		}
	}
	if !a.Plan.Users.Switch {
		a.Folders = nil // all ways are those of whoever asks
	}
}

// packSockets makes the list of a plan. Where the way to a folder is closed to the user of the
// cores, as to a home without x for others, and the folder itself is not, boot opens it: the
// socket's own mode still counts.
func (b *boot) packSockets() (gifts sockets.Gifts, err error) {
	for i, folder := range b.Folders {
		if fd := openClosed(folder, b.Plan.Users.Core); fd >= 0 {
			gifts = append(gifts, sockets.Gift{Name: rowName("folder", i), FD: fd})
		}
	}
	list, err := sealJSON("sockets", b.Targets)
	return append(gifts, sockets.Gift{Name: "sockets", FD: list}), err
}

// isOfList reports whether a gift belongs to the list of a plan.
func isOfList(gift sockets.Gift) bool {
	return gift.Name == "sockets" || strings.HasPrefix(gift.Name, "folder")
}

// readTargets reads the list among the gifts of a plan.
func readTargets(gifts sockets.Gifts) (targets []dialTarget, err error) {
	err = gifts.Decode("sockets", &targets)
	for i := range targets {
		t := &targets[i]
		if folder, err := gifts.FD(t.Folder); err == nil {
			t.Path = fmt.Sprintf("/proc/self/fd/%d%s", folder, t.Path[strings.LastIndexByte(t.Path, '/'):])
		}
	}
	return targets, err
}

// keepSockets keeps the list of a plan and tells mason and dialer of it.
func (w *warden) keepSockets(number int, list sockets.Gifts) error {
	if w.rooms.news == nil {
		list.Close()
		return nil
	}
	parcel, err := sockets.Pack(list)
	if err != nil {
		list.Close()
		return fmt.Errorf("sockets of the new plan: %w", err)
	}
	defer unix.Close(parcel)
	w.kept.tables[number] = list
	message := sockets.Keeping{Table: number}.Append(nil)
	w.passOn(message, parcel)
	fd, err := list.FD("sockets")
	if err == nil {
		err = w.tellMason(message, fd)
	}
	if err != nil {
		w.forgetSockets(number)
		return fmt.Errorf("sockets of the new plan: mason: %w", err)
	}
	return nil
}

// masonTellTime is how long the mason, which reads at once, may leave no room for a message.
const masonTellTime = time.Second

// tellMason sends the mason a message, if there is a root. One that stalls must not stall us.
func (w *warden) tellMason(message []byte, descriptors ...int) error {
	if w.rooms.root == 0 {
		return nil
	}
	if err := w.rooms.news.SetWriteDeadline(time.Now().Add(masonTellTime)); err != nil {
		return err
	}
	return sendOn(w.rooms.news, message, descriptors...)
}

// forgetSockets has both forget the list of a plan that no core lives of any more.
func (w *warden) forgetSockets(number int) {
	if w.rooms.news == nil {
		return
	}
	w.forget(number)
	message := sockets.Keeping{Table: number, Forget: true}.Append(nil)
	w.passOn(message)
	if err := w.tellMason(message); err != nil {
		w.log.Warn("folders not taken out of the root", "error", err)
	}
}

// A listing is news of the lists, as the mason hears them.
type listing struct {
	sockets.Keeping
	paths []string
}

// listLoop hears of lists until the main warden is gone.
func (m *mason) listLoop(heard chan<- listing) {
	buffer := make([]byte, sockets.AdoptionBytesMax)
	for {
		message, descriptors, err := receiveOn(m.news, buffer)
		if err != nil {
			return
		}
		l := listing{}
		if l.Keeping, err = sockets.ParseKeeping(message); err == nil && !l.Forget {
			l.paths, err = readPaths(descriptors)
		}
		sockets.CloseAll(descriptors)
		if err != nil {
			m.log.Error("folders not taken", "error", err)
			continue
		}
		heard <- l
	}
}

// readPaths reads the paths of a list.
func readPaths(descriptors []int) (paths []string, err error) {
	if len(descriptors) != 1 {
		return nil, errors.New("a list that is none")
	}
	var targets []dialTarget
	if err := (sockets.Gifts{{Name: "sockets", FD: descriptors[0]}}).Decode("sockets", &targets); err != nil {
		return nil, err
	}
	for _, target := range targets {
		paths = append(paths, target.Path)
	}
	return paths, nil
}

// follow has the root be for the folders of all lists.
func (m *mason) follow(l listing) {
	if l.Forget {
		delete(m.lists, l.Table)
	} else {
		m.lists[l.Table] = l.paths
	}
	var all []string
	for _, paths := range m.lists {
		all = append(all, paths...)
	}
	slices.Sort(all)
	wanted := foldersOf(slices.Compact(all))
	for i, f := range wanted {
		at := slices.IndexFunc(m.folders, func(old *folder) bool { return old.path == f.path })
		if at >= 0 {
			names := f.names
			wanted[i] = m.folders[at]
			wanted[i].names = names
		}
	}
	for _, old := range m.folders {
		if old.mounted == (fileID{}) || slices.Contains(wanted, old) {
			continue
		}
		if err := m.unmount(old.path); err != nil {
			m.log.Error("folder not taken out of the root", "folder", old.path, "error", err)
		}
	}
	m.folders = wanted
	m.addPoints()
	m.lively = time.Now().Add(masonTime)
}

// addPoints makes the folders of the root that are not there yet. One that cannot be made,
// as it is in a folder that is mounted, is the dialer's.
func (m *mason) addPoints() {
	isMissing := func(path string) bool {
		var stat unix.Stat_t
		return errors.Is(unix.Fstatat(m.root, "."+path, &stat, 0), unix.ENOENT)
	}
	for _, path := range m.points() {
		if !isMissing(path) {
			continue
		}
		e := m.inside()
		e.Do("open the root", unix.SYS_MOUNT, 0, e.Text(rootAt), 0, unix.MS_BIND|unix.MS_REMOUNT|mountBare, 0)
		e.Do("mkdir "+path, unix.SYS_MKDIRAT, 0, e.Text(rootAt+path), 0o555)
		_, err := e.Run(0)
		shut := m.inside()
		shut.Do("restrict the root", unix.SYS_MOUNT, 0, shut.Text(rootAt), 0, mountBind, 0)
		if _, shutErr := shut.Run(0); err != nil || shutErr != nil {
			m.log.Error("folder not added to the root", "folder", path, "error", errors.Join(err, shutErr))
		}
	}
}

// lists are those that a dialer knows the sockets of plans by.
type lists struct {
	mu      sync.Mutex
	targets map[int][]dialTarget
	folders map[int]sockets.Gifts // that are open for them
}

// takeAll takes the lists that a dialer is started with.
func (l *lists) takeAll(gifts sockets.Gifts) error {
	byTable := map[int]sockets.Gifts{}
	for _, gift := range gifts {
		table, name := sockets.FirstTable, gift.Name
		if rest, found := strings.CutPrefix(gift.Name, "table"); found {
			digits, last, _ := strings.Cut(rest, "-")
			number, err := strconv.Atoi(digits)
			if err != nil {
				return fmt.Errorf("gift %q is of no list", gift.Name)
			}
			table, name = number, last
		}
		if gift.Name = name; isOfList(gift) {
			byTable[table] = append(byTable[table], gift)
		}
	}
	for table, list := range byTable {
		if err := l.take(table, list); err != nil {
			return err
		}
	}
	return nil
}

// take takes one.
func (l *lists) take(table int, list sockets.Gifts) error {
	targets, err := readTargets(list)
	if err != nil {
		list.Close()
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.targets == nil {
		l.targets, l.folders = map[int][]dialTarget{}, map[int]sockets.Gifts{}
	}
	l.targets[table], l.folders[table] = targets, list
	return nil
}

// keep does what the warden says of a list.
func (l *lists) keep(message []byte, descriptors []int) error {
	k, err := sockets.ParseKeeping(message)
	switch {
	case err == nil && k.Forget:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.folders[k.Table].Close() // no core has this list any more
		delete(l.folders, k.Table)
		delete(l.targets, k.Table)
		return nil
	case err != nil || len(descriptors) != 1:
		sockets.CloseAll(descriptors)
		return errors.Join(err, errors.New("a list that is none"))
	}
	list, err := sockets.Unpack(descriptors[0])
	if err != nil {
		return err
	}
	return l.take(k.Table, list)
}

// of is a list; that which is not known is empty.
func (l *lists) of(table int) []dialTarget {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.targets[table]
}
