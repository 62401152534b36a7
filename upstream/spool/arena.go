package spool

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// This file has the arena: its file, its memory, and who has how much of both.
// Who waits for more is in wait.go.

// Sizes that nobody configures.
const (
	smallBytes = 16 << 10 // the memory of a body that is no longer
	largeBytes = 64 << 10 // the memory of any other; what is longer is in the file, too

	// runBlocksMax bounds what a body takes from the file at once, 1 MiB.
	runBlocksMax = 16

	// warmBytesMax bounds what nobody uses and the system has not back. A burst is
	// over when it is over; what the next second needs is here.
	warmBytesMax = 8 << 20

	// idleSpoolsMax bounds the structs that wait for a body, half a KiB each.
	idleSpoolsMax = 1024
)

// An Arena is where the bodies of one core wait: a file without a name, and pieces
// of memory. Both count against its size and against the share of the app.
type Arena struct {
	fd     int
	folder string // "" for memory
	bytes  int64
	full   *FullError
	apps   []*App

	mu        sync.Mutex
	used      int64 // what the apps have, and lost
	lost      int64 // blocks that nobody has and that could not be punched
	blocks    blocks
	small     [][]byte // pieces that nobody has
	large     [][]byte
	spare     int64 // their bytes
	idle      []*Spool
	waiting   int // spools in the lines of apps
	tickets   int64
	dry       line // who waits for room on the disk
	spoolings int  // spools that are not closed
}

// An App is an app's share of an Arena. What it counts is guarded by the arena's mu.
type App struct {
	arena *Arena
	name  string
	bytes int64
	full  *FullError

	used       int64
	stored     int64 // blocks, of used
	refused    int64
	incomplete line // requests whose end has not come, oldest first
	waiting    line // who waits for room, in order
}

// Open makes an arena on a file that Create made, for apps of these names. What
// the file holds is given up.
func Open(fd int, plan conf.Spool, apps ...string) (*Arena, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("spool: open: fstat: %w", err)
	}
	n := blocksOf(plan.Bytes)
	if stat.Size < n<<blockShift {
		return nil, fmt.Errorf("spool: open: the file has %d bytes, and the plan %d", stat.Size, plan.Bytes)
	}
	if err := Clear(fd); err != nil {
		return nil, err
	}
	a := &Arena{fd: fd, folder: plan.Folder, bytes: plan.Bytes, full: &FullError{Bytes: plan.Bytes}}
	a.blocks.n = n
	for _, name := range apps {
		a.apps = append(a.apps, &App{
			arena: a, name: name, bytes: plan.AppBytes,
			full: &FullError{App: name, Bytes: plan.AppBytes},
		})
	}
	return a, nil
}

// Close closes the file. No spool is open any more.
func (a *Arena) Close() error { return unix.Close(a.fd) }

// App is the app with this index in what Open was given.
func (a *Arena) App(i int) *App { return a.apps[i] }

// Request opens a spool that keeps what is read until it is closed or told to
// Forget, so that a request can be sent once more.
func (p *App) Request() *Spool {
	s := p.arena.open(p)
	s.kept, s.request = true, true
	p.arena.mu.Lock()
	p.incomplete.join(&s.age)
	p.arena.mu.Unlock()
	return s
}

// Reply opens a spool that frees what is read.
func (p *App) Reply() *Spool { return p.arena.open(p) }

func (a *Arena) open(p *App) *Spool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spoolings++
	if last := len(a.idle) - 1; last >= 0 {
		s := a.idle[last]
		a.idle = a.idle[:last]
		s.app = p
		return s
	}
	s := &Spool{app: p, arena: a, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	s.age.spool, s.wait.spool = s, s
	return s
}

// admit gives s n bytes of its app's share, or says whose are used up. It is called
// with mu. Nobody passes those who wait: what is free is theirs first (wait.go).
func (a *Arena) admit(s *Spool, n int64) error {
	need, p := n-s.credit, s.app
	if need > 0 {
		s.need = n
		switch {
		case p.used+need > p.bytes:
			p.refused++
			return p.full
		case a.used+need > a.bytes || a.waitsForAll():
			p.refused++
			return a.full
		case p.waiting.first != nil:
			p.refused++
			return p.full
		}
		a.charge(p, need)
	}
	s.credit = max(0, -need)
	s.need = 0
	return nil
}

func (a *Arena) charge(p *App, n int64) {
	p.used += n
	a.used += n
	for a.used+a.warmBytes() > a.bytes && a.cool() {
	}
}

// release gives back what an app was charged, to whoever waits for it.
func (a *Arena) release(p *App, n int64) {
	p.used -= n
	a.used -= n
	a.grant()
}

// warmBytes are those that nobody has and the system has not back.
func (a *Arena) warmBytes() int64 { return a.blocks.warmCount<<blockShift + a.spare }

// cool gives some of what is warm back to the system; false when it cannot.
func (a *Arena) cool() bool {
	for _, pieces := range []*[][]byte{&a.large, &a.small} {
		if last := len(*pieces) - 1; last >= 0 {
			a.spare -= int64(len((*pieces)[last]))
			(*pieces)[last] = nil
			*pieces = (*pieces)[:last]
			return true
		}
	}
	r := a.blocks.takeWarm(runBlocksMax)
	if r.n == 0 {
		return false
	}
	err := punch(a.fd, r.first<<blockShift, r.n<<blockShift)
	a.blocks.free(r, err != nil)
	return err == nil
}

// piece takes memory of smallBytes or largeBytes, which admit has granted.
func (a *Arena) piece(bytes int) []byte {
	pieces := &a.small
	if bytes == largeBytes {
		pieces = &a.large
	}
	last := len(*pieces) - 1
	if last < 0 {
		return make([]byte, bytes)
	}
	piece := (*pieces)[last]
	*pieces = (*pieces)[:last]
	a.spare -= int64(bytes)
	return piece
}

// freePiece takes memory back, to keep it or to leave it to the collector.
func (a *Arena) freePiece(piece []byte) {
	n := int64(len(piece))
	if a.warmBytes()+n > warmBytesMax || a.used+a.warmBytes() > a.bytes {
		return
	}
	a.spare += n
	if n == largeBytes {
		a.large = append(a.large, piece)
		return
	}
	a.small = append(a.small, piece)
}

// blocksFor takes up to most blocks of the file for s, and fewer when there are
// not so many; an error when there is none.
func (a *Arena) blocksFor(s *Spool, most int64) (run, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := s.credit
	if a.waiting == 0 || s.app.waiting.first == nil && !a.waitsForAll() {
		n += max(0, min(s.app.bytes-s.app.used, a.bytes-a.used))
	}
	n = max(1, min(most, n>>blockShift))
	r := a.blocks.take(n)
	if r.n == 0 { // there is always one, unless some are being punched
		s.app.refused++
		s.need = blockBytes
		return run{}, a.full
	}
	if err := a.admit(s, r.n<<blockShift); err != nil {
		a.blocks.free(r, false)
		return run{}, err
	}
	s.app.stored += r.n << blockShift
	return r, nil
}

// freeBlocks takes blocks back from s. They stay warm while there is a place for
// them, unless the kernel may still be sending their pages: those it keeps, and
// the file gets others, once they are punched.
func (a *Arena) freeBlocks(s *Spool, r run, sent bool) {
	n := r.n << blockShift
	a.mu.Lock()
	defer a.mu.Unlock()
	warm := !sent && a.dry.first == nil && a.warmBytes()+n <= warmBytesMax
	if !warm {
		a.mu.Unlock()
		err := punch(a.fd, r.first<<blockShift, n) // still charged: nobody has the blocks meanwhile
		a.mu.Lock()
		if err != nil && sent { // nobody may ever write there again
			s.app.stored -= n
			s.app.used -= n
			a.lost += n
			a.grant()
			return
		}
		warm = err != nil
	}
	a.blocks.free(r, warm)
	s.app.stored -= n
	a.release(s.app, n)
	if first := a.dry.first; first != nil && !warm {
		first.spool.dry = false
		a.dry.leave(first)
		signal(first.spool.room)
	}
}

// Stats are the numbers of an arena at one moment.
type Stats struct {
	Bytes  int64 // its size
	Used   int64 // what is counted against it: never more
	Warm   int64 // what nobody has and the system has not back
	Lost   int64 // of Used: what could not be given back
	Spools int
	Apps   []AppStats
}

// AppStats are the numbers of one app.
type AppStats struct {
	App     string
	Memory  int64 // pieces of memory, and what is promised to who waits
	Stored  int64 // in the file
	Waiting int   // spools that wait for room
	Refused int64 // writes that found none, since the start
}

// Stats counts. It allocates.
func (a *Arena) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := Stats{Bytes: a.bytes, Used: a.used, Warm: a.warmBytes(), Lost: a.lost, Spools: a.spoolings}
	for _, p := range a.apps {
		waiting := 0
		for w := p.waiting.first; w != nil; w = w.behind {
			waiting++
		}
		st.Apps = append(st.Apps, AppStats{p.name, p.used - p.stored, p.stored, waiting, p.refused})
	}
	return st
}
