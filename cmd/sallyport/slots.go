package main

import (
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

// slotName is the gift that is a slot of a listener.
func slotName(gift string, slot int) string { return rowName(sockets.SlotGift(gift)+"-", slot) }

// bindSlots binds the slots that a listener is to have, beside what was bound of it.
func (b *boot) bindSlots(l *listening, where sockets.Address) error {
	if l.Given && l.Slots > 0 {
		b.log.Warn("no HTTP/3 at a listener that was passed", "listener", l.Address, "hint",
			"let sallyport bind the address, or write h3 = false in [listen]")
		l.Slots = 0
	}
	slots, err := sockets.BindSlots(where, l.Address, l.Slots)
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
		if ward.link < len(d.slots) {
			gifts = append(gifts, sockets.Gift{Name: sockets.SlotGift(d.Gift), FD: d.slots[ward.link]})
		}
	}
	return gifts
}

// steer has new connections go to the cores in force.
func (w *warden) steer() {
	for _, d := range w.doorsOf(w.estate) {
		var current []int
		for _, ward := range w.inForce() {
			if ward.link < len(d.slots) {
				current = append(current, ward.link)
			}
		}
		if len(current) == 0 {
			continue
		}
		if err := d.slots.Steer(current); err != nil {
			w.log.Error("packets not steered", "listener", d.Address, "error", err)
		}
	}
}
