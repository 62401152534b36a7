package main

import (
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/spool"
)

// This file is about the files in which bodies wait, one for each row of cores. Boot
// makes them; the main warden (estates.go) keeps them, lends each to the core that has its row, and
// empties it when that one is dead. A core that drains beside its successor has its own:
// for that time there is one spool for each generation that lives.

// openSpools makes the files, where the plan has a folder for them. It may be one that only
// root writes; memory is made by the warden.
func (b *boot) openSpools() []conf.Mistake {
	plan := b.Plan.Core.Spool
	for row := range b.Spools {
		fd, err := spool.Create(plan)
		if err != nil {
			return []conf.Mistake{mistakeOf(plan.Where, err)}
		}
		b.spools = append(b.spools, sockets.Gift{Name: rowName("spool", row), FD: fd})
	}
	return nil
}
