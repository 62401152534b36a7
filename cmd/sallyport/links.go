package main

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// This file is how a core and the keeper meet. The main warden makes a link for every
// start of a core and passes one end over the leash; the keeper's warden keeps that
// end, for the successors of the keeper too, and passes it on to the one that runs:
//
//	main warden ──── leash ────► keeper's warden ──── adopt ────► keeper
//	     └─ link, to the core          └─ link0, link4, ... to each start
//
// So a link has one core at its end, ever. The row of the link says which one is of
// no use any more. Tables of certificates, one for each plan, take the same way.

// An adoption is a link that has come over the leash.
type adoption struct {
	sockets.Adoption
	link int
}

// A keeping is a table that has come over the leash, or is to be forgotten.
type keeping struct {
	sockets.Keeping
	parcel int
}

// What a keeper's warden holds for each start of the keeper.
type kept struct {
	tables map[int]sockets.Gifts // key files and certificates, by the number of their plan
	links  map[int]adoption      // by row
}

// startGifts makes what one start of a ward is given besides what every start gets.
// release closes what is the ward's alone.
func (w *warden) startGifts(ward *ward) (gifts sockets.Gifts, release func(), err error) {
	switch {
	case ward.plan.Linked:
		return w.linkGift(ward)
	case ward.plan.Role == jail.Keeper, ward.plan.Role == jail.Dialer:
		return w.keeperGifts(ward)
	}
	return nil, func() {}, nil
}

// linkGift makes the link of a core, and sends its other end on its way.
func (w *warden) linkGift(ward *ward) (gifts sockets.Gifts, release func(), err error) {
	core, keeper, err := sockets.Link()
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(keeper)
	message := sockets.Adoption{Row: ward.link, Table: ward.estate.number, Suspect: w.suspect}.Append(nil)
	if err := sockets.Send(w.keeperLeash(), message, keeper); err != nil {
		unix.Close(core)
		return nil, nil, fmt.Errorf("link to the keeper: %w", err)
	}
	w.suspect = false
	return sockets.Gifts{{Name: "link", FD: core}}, func() { unix.Close(core) }, nil
}

// keeperLeash is the leash of the keeper's warden; -1 when it is cut, or there is none.
func (w *warden) keeperLeash() int {
	for _, s := range w.duty.Siblings {
		if s.Name == "keeper" {
			return s.hold
		}
	}
	return -1
}

// keepFirst takes the files of the first table out of what each keeper is given, since
// they may be forgotten one day.
func (w *warden) keepFirst(gifts sockets.Gifts) {
	for _, ward := range w.wards {
		if ward.plan.Role != jail.Keeper {
			continue
		}
		w.kept = kept{tables: map[int]sockets.Gifts{}, links: map[int]adoption{}}
		ward.gifts = w.kept.take(sockets.FirstTable, ward.gifts)
		w.watchFiles(sockets.FirstTable)
	}
}

// take keeps a table, and returns what among its gifts is of all tables: the internal CA, and
// what certificates from another one take.
func (k *kept) take(table int, gifts sockets.Gifts) (shared sockets.Gifts) {
	for _, gift := range gifts {
		switch gift.Name {
		case "secret", "root", "state", "registrar", giftShowing:
			shared = append(shared, gift)
		default:
			k.tables[table] = append(k.tables[table], gift)
		}
	}
	return shared
}

// like is another table of the files of one, as they are now: some are written in place.
func (k *kept) like(table int) (again sockets.Gifts, err error) {
	for _, gift := range k.tables[table] {
		fd, err := unix.FcntlInt(uintptr(gift.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return again, err
		}
		again = append(again, sockets.Gift{Name: gift.Name, FD: fd})
	}
	return again, nil
}

// gifts are all tables and links, under the names by which the keeper knows them.
func (k *kept) gifts() (gifts sockets.Gifts) {
	for table, files := range k.tables {
		prefix := ""
		if table != sockets.FirstTable {
			prefix = fmt.Sprintf("table%d-", table)
		}
		for _, file := range files {
			gifts = append(gifts, sockets.Gift{Name: prefix + file.Name, FD: file.FD})
		}
	}
	for row, a := range k.links {
		name := "link" + strconv.Itoa(row)
		if a.Table != sockets.FirstTable {
			name += "-" + strconv.Itoa(a.Table)
		}
		gifts = append(gifts, sockets.Gift{Name: name, FD: a.link})
	}
	return gifts
}

// keeperGifts are the tables and links that there are, and the way by which others will
// come.
func (w *warden) keeperGifts(ward *ward) (gifts sockets.Gifts, release func(), err error) {
	ours, theirs, err := sockets.Link()
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(ours, true); err != nil { // a keeper that stalls is no reason to stall
		sockets.CloseAll([]int{ours, theirs})
		return nil, nil, err
	}
	w.closeAdopt(ward)
	ward.adopt = ours
	gifts = append(sockets.Gifts{{Name: "adopt", FD: theirs}}, w.kept.gifts()...)
	return gifts, func() { unix.Close(theirs) }, nil
}

func (w *warden) closeAdopt(ward *ward) {
	if ward.adopt != 0 {
		unix.Close(ward.adopt)
		ward.adopt = 0
	}
}

// adopt keeps a link and passes it on to the keeper, or in the main warden to the dialer, if
// that one runs; a successor is given it. A keeper that takes nothing any more leaves a core without certificates,
// which ends and is started again.
func (w *warden) adopt(a adoption) {
	if old, known := w.kept.links[a.Row]; known {
		unix.Close(old.link)
		delete(w.kept.links, a.Row)
	}
	if w.kept.tables[a.Table] == nil { // it was not taken: the core is to see that at once
		unix.Close(a.link)
		return
	}
	w.kept.links[a.Row] = a
	w.passOn(a.Append(nil), a.link)
}

// passOn sends the keeper something, if it runs.
func (w *warden) passOn(message []byte, descriptors ...int) {
	for _, ward := range w.wards {
		if ward.pid == 0 || ward.adopt == 0 {
			continue
		}
		if err := sockets.Send(ward.adopt, message, descriptors...); err != nil {
			w.log.Warn("not passed on", "process", ward.plan.Name, "order", string(message), "error", err)
		}
	}
}

// keep keeps a table and passes it on likewise, or forgets one. Cores of a table that is
// not taken have no link: they end, and with them the reload.
func (w *warden) keep(k keeping) {
	if k.Forget {
		w.forget(k.Table)
		w.passOn(k.Append(nil))
		return
	}
	var gifts sockets.Gifts
	var err error
	if k.Like != 0 {
		gifts, err = w.kept.like(k.Like)
	} else {
		gifts, err = sockets.Unpack(k.parcel)
	}
	if err == nil {
		err = w.roomFor(gifts)
	}
	var again int
	if err == nil {
		again, err = sockets.Pack(gifts)
	}
	if err != nil {
		gifts.Close()
		w.log.Error("certificates not taken", "error", err)
		return
	}
	defer unix.Close(again)
	shared := w.kept.take(k.Table, gifts)
	w.watchFiles(k.Table)
	for _, ward := range w.wards { // the keeper alone
		ward.gifts = append(ward.gifts, shared...)
	}
	w.passOn(sockets.Keeping{Table: k.Table}.Append(nil), again)
}

// roomFor refuses what a successor of the keeper could not be given besides all that
// there is: see checkDescriptors.
func (w *warden) roomFor(more sockets.Gifts) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit); err != nil { // getrlimit(2) is another call
		return fmt.Errorf("limit of open files: %w", err)
	}
	all := w.kept.gifts()
	names := len(all.Names()) + len(more.Names()) + len(more)*len("table1000-") + descriptorsSpare
	if need := uint64(2*(len(all)+len(more)) + descriptorsSpare); need > limit.Max || names >= argumentMax {
		return errors.New("old cores still have theirs, and there is no room for more: try again when they are gone")
	}
	return nil
}

// forget closes the files of a table, and the links of cores that had it.
func (w *warden) forget(table int) {
	w.renewals.forget(table)
	w.kept.tables[table].Close()
	delete(w.kept.tables, table)
	for row, a := range w.kept.links {
		if a.Table == table {
			unix.Close(a.link)
			delete(w.kept.links, row)
		}
	}
}
