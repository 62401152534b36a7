package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/board"
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

// bindSlots binds the slots of a listener that was bound.
func (b *boot) bindSlots(wanted conf.Listener, bound sockets.Listener) (sockets.Slots, error) {
	if !b.plan.Core.H3 || !wanted.TakesQUIC() {
		return nil, nil
	}
	if bound.Given {
		b.log.Warn("no HTTP/3 at a listener that was passed", "listener", bound.Address, "hint",
			"let sallyport bind the address, or write h3 = false in [listen]")
		return nil, nil
	}
	return sockets.BindSlots(wanted.Address, bound.Address, min(b.plan.Workers*board.Generations, sockets.SlotsMax))
}

// keptSlots are n that the service has already.
func keptSlots(n int) sockets.Slots {
	slots := make(sockets.Slots, n)
	for slot := range slots {
		slots[slot] = -1
	}
	return slots
}

func closeSlots(slots sockets.Slots) {
	for _, fd := range slots {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// slotGifts are the slots of a listener, as gifts of the main warden.
func slotGifts(gift string, slots sockets.Slots) (gifts sockets.Gifts) {
	for slot, fd := range slots {
		gifts = append(gifts, sockets.Gift{Name: slotName(gift, slot), FD: fd})
	}
	return gifts
}

// takeSlots finds what slotGifts has given.
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

// lastingSlots are the changes of QUIC that no reload can make: its sockets are bound at the start.
func (o *offer) lastingSlots(refuse func(key, what, hint string)) {
	was, plan := o.was.Plan, o.plan
	if was.Core.H3 != plan.Core.H3 {
		refuse("listen.h3", fmt.Sprintf("is %t, and the service was started with %t", plan.Core.H3, was.Core.H3), "")
	}
	if plan.Core.H3 && plan.Workers > was.Workers {
		refuse("workers", fmt.Sprintf("is %d, and the service has UDP sockets for %d", plan.Workers, was.Workers), "")
	}
}
