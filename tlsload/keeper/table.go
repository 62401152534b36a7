package keeper

import (
	"fmt"
	"maps"
	"slices"
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
func (k *Keeper) Keep(table int, store *Store) {
	store.proving = k.proving
	store.ordered = map[string]int{}
	for handle := range store.pairs {
		if name := store.pairs[handle].orderedFor; name != "" {
			store.ordered[name] = handle
		}
	}
	k.tables[table] = store
	k.showing.stale = true
}

// Link gives a row the link of a core, which knows its certificates by a table that was
// kept. It is called before Serve.
func (k *Keeper) Link(row, table, link int) { k.place(row, table, link) }

// keep takes a table, or what has become of the files of one that there is. One that cannot be loaded is none: its cores find their links
// ended, are no cores without certificates, and the reload that wanted them fails.
func (k *Keeper) keep(table, parcel int) error {
	gifts, err := sockets.Unpack(parcel)
	if err != nil {
		return err
	}
	defer gifts.Close()
	began := time.Now()
	before := k.tables[table]
	if before == nil {
		before = k.anyStore()
	}
	store, err := k.load(gifts, before)
	if err != nil {
		return fmt.Errorf("keeper: table %d: %w", table, err)
	}
	if k.tables[table] != nil {
		return k.replace(table, store)
	}
	k.fill(store)
	k.Keep(table, store)
	k.follow()
	k.log.Info().Int("table", table).Int("certificates", len(store.pairs)).Dur("took", time.Since(began)).Msg("certificates loaded")
	return nil
}

// replace gives a table what is new in its files, and tells the cores that know it.
// Handshakes that have begun go on with the old ones, as in publish.
func (k *Keeper) replace(table int, with *Store) error {
	store := k.tables[table]
	if len(with.pairs) != len(store.pairs) {
		return fmt.Errorf("keeper: table %d: %d certificates in the place of %d", table, len(with.pairs), len(store.pairs))
	}
	for handle, p := range with.pairs {
		old := store.pairs[handle]
		if p.content == old.content { // also where there are no files
			continue
		}
		store.pairs[handle] = p.following(old)
		k.showing.stale = true
		k.freshen(store, handle)
		k.log.Info().Int("table", table).Stringer("subject", p.leaf.Subject).Strs("hosts", p.leaf.DNSNames).
			Str("serial", p.leaf.SerialNumber.Text(16)).Time("until", p.leaf.NotAfter.UTC()).Msg("certificate renewed")
	}
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
	k.showing.stale = true
	k.follow()
	for i := range k.sessions {
		if s := &k.sessions[i]; s.store == store && s.state != ended {
			s.end(nil)
		}
	}
	k.rest.forgot = true // keys among what is garbage now
}

// fill gives a table what there is for the names whose certificates come from a CA: what
// another table has, and, for a name that was gone and comes back, what the folder has, so
// that no client is refused until the schedule has looked.
func (k *Keeper) fill(store *Store) {
	obtained := map[string]pair{}
	for _, other := range k.tables {
		for _, p := range other.pairs {
			if p.orderedFor != "" && p.leaf != nil {
				obtained[p.orderedFor] = p
			}
		}
	}
	for i := range store.pairs {
		name := store.pairs[i].orderedFor
		if name == "" {
			continue
		}
		p, found := obtained[name]
		if !found && k.kept != nil {
			p, _ = k.kept(name) // what is wrong with it, the schedule says when it looks
		}
		p.orderedFor = name
		store.pairs[i] = p
	}
}

// names are those whose certificates come from a CA, by any table.
func (k *Keeper) names() []string {
	found := map[string]bool{}
	for _, store := range k.tables {
		for _, p := range store.pairs {
			if p.orderedFor != "" {
				found[p.orderedFor] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// follow tells the schedule which names there are now. Only the thread of Serve calls it,
// so that there is room when what was not read yet is taken back.
func (k *Keeper) follow() {
	if k.wanted == nil {
		return
	}
	select {
	case <-k.wanted:
	default:
	}
	k.wanted <- k.names()
}
