package keeper

import (
	"fmt"
	"time"

	"sallyport/sockets"
)

// This file is how certificates change while cores serve. Each plan has a table of its
// own, a Store, and the link of a core says by which one it knows its certificates: the
// cores of an older plan go on with the keys that they have told their clients of, until
// the last of them is gone and the table is forgotten. Tables come the way that links do,
// each as a parcel of files which the keeper's warden keeps for a successor of this one.
//
// Tickets are the same for all tables: a client resumes with the new cores what the old
// ones have begun.

// A Loader makes the Store of a plan from what came with it; before is another one, whose
// internal CA is the same. The gifts stay the caller's.
type Loader func(gifts sockets.Gifts, before *Store) (*Store, error)

// Keep gives cores that are to know their certificates by this table the Store of it.
// It is called before Serve, for what a keeper before this one was sent.
func (k *Keeper) Keep(table int, store *Store) { k.tables[table] = store }

// Link gives a row the link of a core, which knows its certificates by a table that was
// kept. It is called before Serve.
func (k *Keeper) Link(row, table, link int) { k.place(row, table, link) }

// keep takes a table. One that cannot be loaded is none: its cores find their links
// ended, are no cores without certificates, and the reload that wanted them fails.
func (k *Keeper) keep(table, parcel int) error {
	gifts, err := sockets.Unpack(parcel)
	if err != nil {
		return err
	}
	defer gifts.Close()
	began := time.Now()
	store, err := k.load(gifts, k.anyStore())
	if err != nil {
		return fmt.Errorf("keeper: table %d: %w", table, err)
	}
	k.tables[table] = store
	k.log.Info().Int("table", table).Int("certificates", len(store.pairs)).Dur("took", time.Since(began)).Msg("certificates loaded")
	return nil
}

// anyStore is one that has the internal CA, if any has.
func (k *Keeper) anyStore() (found *Store) {
	for _, store := range k.tables {
		if found == nil || found.authority == nil {
			found = store
		}
	}
	return found
}

// forget drops a table, and the links of who still knows it: nobody, the warden says.
func (k *Keeper) forget(table int) {
	store := k.tables[table]
	delete(k.tables, table)
	for i := range k.sessions {
		if s := &k.sessions[i]; s.store == store && s.state != ended {
			s.end(nil)
		}
	}
	k.rest.forgot = true // keys among what is garbage now
}
