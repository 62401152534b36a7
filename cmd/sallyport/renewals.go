package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file is certificates that another program renews, as the warden of the keeper sees
// them. It has the keeper's user, and looks at the paths by stat(2). What has changed, and is
// the same at the next look, it opens, where that user may, and has a keeper check it that does
// nothing else:
//
//	as it was ── other file, or written ──► changing ── the same again ──► checked ── fits ──► taken
//	   ▲                                                                     └── does not ──┐
//	   └────────────────────────── the old one is served on ◄───────────────────────────────┘
//
// Nothing of a file is read here. What the user may not open is for sallyport reload, which is
// said once for each change.

const (
	// lookEvery is how often the paths are looked at, and lookMore what is added for each.
	lookEvery = time.Second
	lookMore  = time.Millisecond
	// checkTime is for a keeper to check. A file on a disk that does not answer could keep it for ever,
	// and with it all others.
	checkTime = 30 * time.Second
)

// renewals is what the keeper's warden knows of the files that it holds.
type renewals struct {
	plans  map[int]conf.Keeper // of the tables
	marks  map[watched]string  // what is served, or was refused
	news   map[watched]string  // what has changed since the last look
	looked time.Time

	pid   int           // of the keeper that checks; 0: none does
	until time.Time     // when it is killed
	table int           // whose files it checks
	paths []string      // of these
	fresh sockets.Gifts // by the names that they have in the table
}

// A watched file is one of a table: cores of two plans may have it, one from before.
type watched struct {
	table int
	path  string
}

// A mark changes with a file: when it is another one, and when it is written.
func markOf(stat *unix.Stat_t) string {
	return fmt.Sprint(stat.Dev, stat.Ino, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano())
}

// follow takes a table on, as it was given.
func (r *renewals) follow(table int, gifts sockets.Gifts) error {
	var plan conf.Keeper
	if err := gifts.Decode("plan", &plan); err != nil {
		return err
	}
	if r.plans == nil {
		r.plans, r.marks, r.news = map[int]conf.Keeper{}, map[watched]string{}, map[watched]string{}
	}
	r.plans[table] = plan
	for _, file := range filesOf(plan) {
		var stat unix.Stat_t
		fd, err := gifts.FD(file.Gift)
		if err == nil {
			err = unix.Fstat(fd, &stat)
		}
		if err != nil {
			return err
		}
		r.marks[watched{table, file.Path}] = markOf(&stat)
	}
	return nil
}

// watchFiles has the files of a table that is kept watched.
func (w *warden) watchFiles(table int) {
	if err := w.renewals.follow(table, w.kept.tables[table]); err != nil {
		w.log.Error("certificates not watched", "error", err, "hint", "sallyport reload after each renewal")
	}
}

// forget drops a table.
func (r *renewals) forget(table int) {
	delete(r.plans, table)
	for file := range r.marks {
		if file.table == table {
			delete(r.marks, file)
			delete(r.news, file)
		}
	}
}

// next is when the paths are looked at again, or a check has taken too long.
func (r *renewals) next() time.Time {
	if r.pid != 0 {
		return r.until
	}
	return r.looked.Add(lookEvery + time.Duration(len(r.marks))*lookMore)
}

// tendRenewals looks at the paths when it is time.
func (w *warden) tendRenewals(now time.Time) {
	r := &w.renewals
	if len(r.marks) == 0 && r.pid == 0 || now.Before(r.next()) {
		return
	}
	if r.pid != 0 {
		w.log.Error("check of certificates takes too long", "pid", r.pid, "limit", checkTime, "files", r.paths)
		_ = unix.Kill(r.pid, unix.SIGKILL) // it may have ended: checked hears of it in either case
		r.until = now.Add(checkTime)
		return
	}
	r.looked = now
	ready := r.look()
	for table := range r.plans {
		if w.renew(table, ready) {
			return // the others at the next look
		}
	}
}

// look returns the files that have changed and are as they were at the look before.
func (r *renewals) look() map[watched]bool {
	ready := map[watched]bool{}
	for file, mark := range r.marks {
		var stat unix.Stat_t
		if unix.Fstatat(unix.AT_FDCWD, file.path, &stat, 0) != nil { // it is about to be replaced, or cannot be seen
			delete(r.news, file)
			continue
		}
		found := markOf(&stat)
		switch {
		case found == mark:
			delete(r.news, file)
		case r.news[file] == found:
			ready[file] = true
		default:
			r.news[file] = found
		}
	}
	return ready
}

// renew has what is ready of a table checked, and reports whether there is anything. A pair waits
// until both of its files are, or are as they were.
func (w *warden) renew(table int, ready map[watched]bool) bool {
	r := &w.renewals
	var handles []string
	var fresh sockets.Gifts
	var paths []string
	for i, c := range r.plans[table].Certificates {
		all := c.Files()
		isReady := func(f conf.CertificateFile) bool { return ready[watched{table, f.Path}] }
		isChanging := func(f conf.CertificateFile) bool { return !isReady(f) && r.news[watched{table, f.Path}] != "" }
		if !slices.ContainsFunc(all, isReady) || slices.ContainsFunc(all, isChanging) {
			continue
		}
		opened, err := w.openPair(c)
		if err != nil {
			for _, f := range all {
				r.settle(watched{table, f.Path})
			}
			continue
		}
		handle := strconv.Itoa(i)
		handles = append(handles, handle)
		for k, f := range all {
			fresh = append(fresh, sockets.Gift{Name: f.Kind + handle, FD: opened[k]})
			paths = append(paths, f.Path)
		}
	}
	if len(fresh) == 0 {
		return false
	}
	r.table, r.paths, r.fresh = table, paths, fresh
	var err error
	r.until = r.looked.Add(checkTime)
	if r.pid, err = w.startCheck(handles); err != nil {
		w.log.Error("certificates not checked", "error", err)
		fresh.Close()
	}
	return true
}

// settle has a file looked at no more as it is now.
func (r *renewals) settle(file watched) {
	if mark, changed := r.news[file]; changed {
		r.marks[file] = mark
		delete(r.news, file)
	}
}

// openPair opens the files of a certificate anew, and says why where it cannot.
func (w *warden) openPair(c conf.Certificate) (opened []int, err error) {
	for _, f := range c.Files() {
		file := keeperFile{Path: f.Path, Key: f.Secret}
		fd, err := file.open(w.duty.Who.GID)
		if err != nil {
			sockets.CloseAll(opened)
			hint := "sallyport reload, as root, opens it; the old one is served on"
			var wrong *fileError
			if errors.As(err, &wrong) && wrong.hint != "" {
				hint = wrong.hint + "; the old one is served on"
			}
			line := w.log.Error
			if errors.Is(err, fs.ErrPermission) {
				line = w.log.Warn
			}
			line("certificate not renewed", "key", f.Key, "hosts", c.Hosts, "error", err, "hint", hint)
			return nil, err
		}
		opened = append(opened, fd)
	}
	return opened, nil
}

// startCheck starts a keeper that checks the fresh files of some handles and ends, in the jail of
// keepers.
func (w *warden) startCheck(handles []string) (pid int, err error) {
	r := &w.renewals
	part, err := w.kept.tables[r.table].FD("plan")
	if err != nil {
		return 0, err
	}
	gifts := append(sockets.Gifts{{Name: "plan", FD: part}}, r.fresh...)
	argv := []string{"sallyport-keeper", "--check", "--only", strings.Join(handles, ","), "--gifts", gifts.Names()}
	s := stage{
		Role: jail.Keeper, Sandbox: w.duty.Sandbox, Who: w.duty.Who, gifts: gifts, dies: true,
		program: jail.Program{FD: w.wards[0].source.FD, Argv: argv},
	}
	return s.start()
}

// checked takes what was checked, if it is the keeper that did so which has ended.
func (w *warden) checked(pid int, status unix.WaitStatus) {
	r := &w.renewals
	if pid != r.pid || pid == 0 {
		return
	}
	r.pid = 0
	for _, path := range r.paths {
		r.settle(watched{r.table, path})
	}
	fine := status.Exited() && status.ExitStatus() == exitFine
	if fine {
		w.replace()
	} else {
		w.log.Error("certificate not renewed", append(fate(status), "files", r.paths,
			"reason", "see above", "hint", "the old one is served on until they are written again")...)
		r.fresh.Close()
	}
	r.paths, r.fresh = nil, nil
}

// replace puts what was checked in the place of what a table had, and tells the keeper; a
// successor of it is given the same.
func (w *warden) replace() {
	r := &w.renewals
	held := w.kept.tables[r.table]
	for _, gift := range r.fresh {
		i := slices.IndexFunc(held, func(old sockets.Gift) bool { return old.Name == gift.Name })
		if i < 0 { // the table is gone
			unix.Close(gift.FD)
			continue
		}
		unix.Close(held[i].FD)
		held[i].FD = gift.FD
	}
	if len(held) == 0 {
		return
	}
	again, err := sockets.Pack(held)
	if err != nil {
		w.log.Error("certificates not passed on", "error", err)
		return
	}
	defer unix.Close(again)
	w.passOn(sockets.Keeping{Table: r.table}.Append(nil), again)
}

// filesOf are the files of all certificates of a keeper.
func filesOf(plan conf.Keeper) []keeperFile { return keeperFiles(&conf.Plan{Keeper: plan}) }
