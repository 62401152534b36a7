package main

import (
	"strings"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// This file is what the main warden and boot do for QUIC. Boot binds the slots of every address,
// generationsMax for each worker. The main warden holds them until it ends, for their order is
// what the kernel knows them by; each start of a core is given one, that of its link's number.
// New connections go to the cores that are in force; those of retired cores find theirs by the
// ids of their packets, until their cores are gone. A successor of a core that has died reads
// its slot, knows none of its connections, and says so to their clients in a way that they
// believe (RFC 9000, section 10.3): all cores have the same key for that, from the keeper.
//
// A socket that a supervisor has passed is alone. Of each generation one core has it, and of these
// the one that has claimed it reads it; a core that is replaced lets go of it when its last
// connection is over, and new clients stay with TCP until then.

// slotName is the gift that is a slot of a listener.
func slotName(gift string, slot int) string { return rowName(sockets.SlotGift(gift)+"-", slot) }

// bindSlots binds the slots that a listener is to have, beside what was bound of it, unless one
// socket was passed for it.
func (b *boot) bindSlots(l *listening, where sockets.Address, given *sockets.Given) error {
	if l.Slots == 0 {
		return nil
	}
	slots, err := sockets.TakeLone(where, l.Address, given)
	switch {
	case err != nil || slots != nil:
	case !l.Given:
		slots, err = sockets.BindSlots(where, l.Address, l.Slots)
	case !strings.HasPrefix(l.Address, "unix:"):
		b.log.Warn("no HTTP/3 at a listener that was passed", "listener", l.Address, "hint",
			"pass a UDP socket of its address too (ListenDatagram=), or write h3 = false in [listen]")
	}
	l.Slots = len(slots)
	for slot, fd := range slots {
		b.listeners = append(b.listeners, sockets.Gift{Name: slotName(l.Gift, slot), FD: fd})
	}
	return err
}

// takeSlots finds what bindSlots has left.
func takeSlots(l listening, gifts sockets.Gifts) (slots sockets.Slots, err error) {
	for slot := range l.Slots {
		fd, err := gifts.FD(slotName(l.Gift, slot))
		if err != nil {
			return nil, err
		}
		slots = append(slots, fd)
	}
	return slots, nil
}

// slotsOf are the slots of one start of a core, as its gifts.
func (w *warden) slotsOf(ward *ward) (gifts sockets.Gifts) {
	if ward.plan.Role != jail.Core || !ward.plan.QUIC {
		return nil
	}
	for _, d := range w.doorsOf(ward.estate) {
		switch {
		case !d.Secure: // it was https, and may be again
		case d.slots.Lone() && ward.plan.Lone:
			gifts = append(gifts, sockets.Gift{Name: sockets.LoneGift(d.Gift), FD: d.slots[0]})
		case !d.slots.Lone() && ward.link < len(d.slots):
			gifts = append(gifts, sockets.Gift{Name: sockets.SlotGift(d.Gift), FD: d.slots[ward.link]})
		}
	}
	return gifts
}

// steer has new connections go to the cores in force, and so packets of cores that are gone, which they
// answer as successors do.
func (w *warden) steer() {
	for _, d := range w.doorsOf(w.estate) {
		if d.slots.Lone() {
			continue
		}
		links := func(wards []*ward) (links []int) {
			for _, ward := range wards {
				if ward.isCore() && ward.link < len(d.slots) {
					links = append(links, ward.link)
				}
			}
			return links
		}
		current := links(w.inForce())
		if len(current) == 0 {
			continue
		}
		if err := d.slots.Steer(links(w.wards), current); err != nil {
			w.log.Error("packets not steered", "listener", d.Address, "error", err)
		}
	}
}
