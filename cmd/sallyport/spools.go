package main

import (
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/board"
	"sallyport/upstream/spool"
)

// This file is about the files in which bodies wait, one for each row of cores. Boot
// makes them; the main warden keeps them, lends each to the core that has its row, and
// empties it when that one is dead. A core that drains beside its successor has its own:
// for that time there is one spool for each generation that lives.

// openSpools makes the files, where the plan has a folder for them. It may be one that only
// root writes; memory is made by the warden.
func (b *boot) openSpools() []conf.Mistake {
	plan := b.plan.Core.Spool
	for row := 0; plan.Folder != "" && row < b.plan.Workers*board.Generations; row++ {
		fd, err := spool.Create(plan)
		if err != nil {
			return []conf.Mistake{mistakeOf(plan.Where, err)}
		}
		b.spools = append(b.spools, sockets.Gift{Name: rowName("spool", row), FD: fd})
	}
	return nil
}

// openSpools finds the files among what the warden holds; there are none but in the
// main warden.
func (w *warden) openSpools(gifts sockets.Gifts) error {
	for row := range w.duty.Spools {
		fd, err := gifts.FD(rowName("spool", row))
		if err != nil {
			return err
		}
		w.spools = append(w.spools, fd)
	}
	return nil
}

// spoolGift is the file of a core's row.
func (w *warden) spoolGift(core *ward) sockets.Gifts {
	if !core.isCore() || len(w.spools) == 0 {
		return nil
	}
	return sockets.Gifts{{Name: "spool", FD: w.spools[w.row(core)]}}
}

// clearSpool gives back what a core has left behind, which is dead and writes no more.
func (w *warden) clearSpool(core *ward) {
	if len(w.spools) == 0 {
		return
	}
	if err := spool.Clear(w.spools[w.row(core)]); err != nil {
		w.log.Error("spool not cleared", "process", core.plan.Name, "error", err)
	}
}
