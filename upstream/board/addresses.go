package board

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
)

// Clients by address are counted in cells, of which each address has one in either of two
// tables: a count-min sketch (Cormode and Muthukrishnan, 2005). Who shares one cell with
// somebody is told apart by the other, and to share both takes 2^26 addresses, or a key
// that nobody outside knows. So what it takes is the same for one client and for a million.
const (
	cells  = 1 << 13 // of each table
	tables = 2
)

// rateBurst is for how long an address may have saved up requests that it did not make.
const rateBurst = time.Second

// Addresses bounds what the clients of one address have and ask, over all cores.
// An IPv6 address stands for its /64, which is the least that a customer is given
// (RFC 6177, section 2).
type Addresses struct {
	memory  *Memory
	row     int
	key     [16]byte
	peers   int           // connections per address; 0: no limit
	spacing time.Duration // between two requests of an address, on average; 0: no limit
}

// A spot is the cells of one address.
type spot [tables]int

// Addresses is nil when the plan has none.
func (b *Board) Addresses(connections, rate int) *Addresses {
	m := b.memory
	if !m.plan.Addresses {
		return nil
	}
	a := &Addresses{memory: m, row: b.row, peers: connections}
	if rate > 0 {
		a.spacing = time.Second / time.Duration(rate)
	}
	for i := range tables {
		binary.NativeEndian.PutUint64(a.key[8*i:], m.all[m.addresses+i].Load())
	}
	return a
}

// Enter counts a connection of addr, for which Leave must be called once, unless there are
// too many already. An address that is not valid, as of a unix socket, has no limit.
func (a *Addresses) Enter(addr netip.Addr) bool {
	if a == nil || a.peers == 0 || !addr.IsValid() {
		return true
	}
	at := a.spot(addr)
	for i := range at {
		a.connections(a.row, at[i]).Add(1)
	}
	if a.count(at) <= uint64(a.peers) {
		return true
	}
	a.leave(at)
	return false
}

// Leave undoes one Enter that was true.
func (a *Addresses) Leave(addr netip.Addr) {
	if a != nil && a.peers > 0 && addr.IsValid() {
		a.leave(a.spot(addr))
	}
}

func (a *Addresses) leave(at spot) {
	for i := range at {
		a.connections(a.row, at[i]).Add(^uint64(0))
	}
}

// count is how many connections the address has at most, over all rows. What a row says
// of itself is bounded, as its process may have written anything there.
func (a *Addresses) count(at spot) uint64 {
	least := ^uint64(0)
	for i := range at {
		sum := uint64(0)
		for row := range a.memory.plan.Rows {
			sum += min(a.connections(row, at[i]).Load(), tallyMax)
		}
		least = min(least, sum)
	}
	return least
}

// Ask reports whether addr may make a request now, and counts it if so. It is the generic
// cell rate algorithm (ITU-T I.371) on the later of what the cells allow.
func (a *Addresses) Ask(addr netip.Addr, now time.Time) bool {
	if a == nil || a.spacing == 0 || !addr.IsValid() {
		return true
	}
	at, t := a.spot(addr), now.UnixNano()
	most := t + int64(rateBurst)
	due := most // when all that was asked for will have been due
	for i := range at {
		due = min(due, max(t, arrivalBefore(a.arrival(at[i]), most)))
	}
	if due += int64(a.spacing); due > most {
		return false
	}
	for i := range at {
		raise(a.arrival(at[i]), due)
	}
	return true
}

// arrivalBefore is what stands in cell. What is beyond most comes of a clock that was set
// back, or of a core that is not ours any more, and is put right.
func arrivalBefore(cell *atomic.Uint64, most int64) int64 {
	was := cell.Load()
	if int64(was) <= most {
		return int64(was)
	}
	cell.CompareAndSwap(was, uint64(most))
	return most
}

// raise makes cell at least due.
func raise(cell *atomic.Uint64, due int64) {
	for was := cell.Load(); int64(was) < due && !cell.CompareAndSwap(was, uint64(due)); {
		was = cell.Load()
	}
}

// spot finds the cells of addr.
func (a *Addresses) spot(addr netip.Addr) (at spot) {
	var text [len(a.key) + 16]byte
	copy(text[:], a.key[:])
	whole := addr.As16()
	if !addr.Is4() && !addr.Is4In6() {
		clear(whole[8:])
	}
	copy(text[len(a.key):], whole[:])
	sum := sha256.Sum256(text[:])
	for i := range at {
		at[i] = i*cells + int(binary.LittleEndian.Uint32(sum[4*i:])%cells)
	}
	return at
}

// connections is a cell that row counts in.
func (a *Addresses) connections(row, cell int) *atomic.Uint64 {
	m := a.memory
	return &m.all[m.connections+row*tables*cells+cell]
}

// arrival is a cell that all rows count in.
func (a *Addresses) arrival(cell int) *atomic.Uint64 {
	m := a.memory
	return &m.all[m.addresses+wordsPerLine+cell]
}
