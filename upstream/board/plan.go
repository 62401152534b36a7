package board

import (
	"fmt"

	"sallyport/conf"
)

// Limits of a Plan. They keep every sum and product below far from overflow.
const (
	RowsMax     = 1024    // 256 cores in 4 generations
	AppsMax     = 1 << 16 // a board of so many is refused by its size first, if they have limits
	MembersMax  = 64      // per app: sets of members are the bits of a word
	InFlightMax = 1 << 16 // per member
	QueueMax    = 1 << 20 // per app
	wordsMax    = 1 << 26 // 512 MiB, of which only what is used costs memory
)

// Generations is how many cores may have the same slot at a time: one that serves, and
// those that it and others have replaced, which drain.
const Generations = 4

// A Plan is what the board is for. All its users must have the same one.
type Plan struct {
	Rows int // core slots × generations: the processes that may use the board at a time
	Apps []App

	Addresses bool // clients are counted by their addresses
}

// An App is what the board knows of one.
type App struct {
	Members     int // sockets
	InFlightMax int // requests per member, over all rows; 0: no limit
	QueueLen    int // requests that may wait, over all rows; 0: none, there is no line
}

// PlanOf is the plan for the cores of a service; the apps keep their order.
func PlanOf(core *conf.Core) Plan {
	limits := &core.Limits
	plan := Plan{Rows: core.Workers * Generations, Addresses: limits.ConnectionsPerAddress+limits.Rate > 0}
	for _, app := range core.Apps {
		plan.Apps = append(plan.Apps, App{Members: len(app.Sockets), InFlightMax: app.InFlightMax, QueueLen: app.QueueLen})
	}
	return plan
}

// wordsPerLine is how many words share a cache line.
const wordsPerLine = 8

func padded(words int) int { return (words + wordsPerLine - 1) &^ (wordsPerLine - 1) }

// Offsets name the first word of each part of an app.
type offsets struct {
	next   int // the last ticket drawn
	heads  int // one word per row
	slots  int // padded(InFlightMax) words per member
	places int // QueueLen words
	health int // healthWords words per member, each kind together
	counts int // within the block of a row: queued, then in flight per member
	tally  int // within a block of tallies: those of the app, then of each member
}

// A layout is where the words of a Plan are.
type layout struct {
	apps   []offsets
	rows   int // first word of the first row's block
	stride int // words in the block of a row
	quic   int // within that: connections of QUIC
	words  int // all of them

	tallies     int // first word of the first row's block of tallies; behind the last row is what dead ones have left
	tallyStride int // words in such a block, which begins with those of handshakes

	addresses   int // first word of the key of addresses, and a line behind it their arrivals
	connections int // first word of what the first row counts of their connections
}

// layOut checks p and places its words.
func (p *Plan) layOut() (*layout, error) {
	if p.Rows < 1 || p.Rows > RowsMax {
		return nil, fmt.Errorf("board: plan: %d rows: must be 1 to %d", p.Rows, RowsMax)
	}
	if len(p.Apps) > AppsMax {
		return nil, fmt.Errorf("board: plan: %d apps: must be at most %d", len(p.Apps), AppsMax)
	}
	l := &layout{apps: make([]offsets, len(p.Apps)), tallies: wordsPerLine, tallyStride: TLSTallies}
	for i, app := range p.Apps {
		if err := app.check(i); err != nil {
			return nil, err
		}
		l.apps[i].tally = l.tallyStride
		l.tallyStride += Tallies + app.Members*MemberTallies
	}
	l.tallyStride = padded(l.tallyStride)
	l.rows = l.tallies + (p.Rows+1)*l.tallyStride
	for i, app := range p.Apps {
		o := &l.apps[i]
		o.health = l.rows
		o.next = o.health + padded(healthWords*app.Members)
		o.heads = o.next + wordsPerLine
		o.slots = o.heads + padded(p.Rows)
		o.places = o.slots + app.Members*padded(app.InFlightMax)
		o.counts = l.stride
		l.rows = o.places + padded(app.QueueLen)
		l.stride += 1 + app.Members
		if l.rows > wordsMax {
			break
		}
	}
	l.quic = l.stride
	l.stride = padded(l.stride + 1)
	l.words = l.rows + p.Rows*l.stride
	if p.Addresses {
		l.addresses = l.words
		l.connections = l.addresses + wordsPerLine + tables*cells
		l.words = l.connections + p.Rows*tables*cells
	}
	if l.words > wordsMax {
		return nil, fmt.Errorf("board: plan: more than %d bytes: lower max_inflight or queue.len", wordsMax*8)
	}
	return l, nil
}

func (a *App) check(index int) error {
	switch {
	case a.Members < 1 || a.Members > MembersMax:
		return fmt.Errorf("board: plan: app %d: %d members: must be 1 to %d", index, a.Members, MembersMax)
	case a.InFlightMax < 0 || a.InFlightMax > InFlightMax:
		return fmt.Errorf("board: plan: app %d: %d in flight: must be 0 to %d", index, a.InFlightMax, InFlightMax)
	case a.QueueLen < 0 || a.QueueLen > QueueMax:
		return fmt.Errorf("board: plan: app %d: a queue of %d: must be 0 to %d", index, a.QueueLen, QueueMax)
	}
	return nil
}
