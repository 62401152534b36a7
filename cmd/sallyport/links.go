package main

import (
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
// So a link has one core at its end, ever. The row of the core says which link is of
// no use any more.

// An adoption is a link that has come over the leash.
type adoption struct {
	sockets.Adoption
	link int
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
	message := sockets.Adoption{Row: w.row(ward), Suspect: w.suspect}.Append(nil)
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
		if !s.App && !s.Mason {
			return s.hold
		}
	}
	return -1
}

// keeperGifts are the links that there are, and the way by which others will come.
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
	gifts = sockets.Gifts{{Name: "adopt", FD: theirs}}
	for row, link := range w.links {
		gifts = append(gifts, sockets.Gift{Name: "link" + strconv.Itoa(row), FD: link})
	}
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
	if w.links == nil {
		w.links = map[int]int{}
	}
	if old, known := w.links[a.Row]; known {
		unix.Close(old)
	}
	w.links[a.Row] = a.link
	for _, ward := range w.wards {
		if ward.pid == 0 || ward.adopt == 0 {
			continue
		}
		if err := sockets.Send(ward.adopt, a.Append(nil), a.link); err != nil {
			w.log.Warn("link not passed on", "process", ward.plan.Name, "row", a.Row, "error", err)
		}
	}
}
