package board

import "sync/atomic"

// A Tally is what is counted of an app, since the service began.
type Tally int

// What is counted of an app.
const (
	Full       Tally = iota // requests refused because the queue was full
	Late                    // requests refused because queue.time was over
	Held                    // requests that waited for an absent app
	Retried                 // times a request was sent, or its connection tried, once more
	Failed                  // requests that got no answer from the app: 502 and 504
	Drained                 // replies whose client fell behind, and that waited for it without a slot
	Clogged                 // likewise, but with their slot, as the spool had no room
	Overflowed              // requests that had a slot before they were complete, as the spool had no room
	Unspooled               // requests refused because the spool had no room
	Tallies    = 9
)

// A MemberTally is what is counted of a member, likewise.
type MemberTally int

// What is counted of a member.
const (
	Served        MemberTally = iota // requests that it began to answer
	TimesLost                        // times it became lost; see Queue.Lose
	Checks                           // health checks
	ChecksFailed                     // of these
	MemberTallies = 4
)

// A TLSTally is what is counted of the handshakes of all clients, likewise.
type TLSTally int

// What is counted of handshakes.
const (
	Handshakes     TLSTally = iota // that went well
	Resumed                        // of these: without a signature, by a ticket of whichever core
	HandshakesLost                 // that came to nothing
	TLSTallies     = 3
)

// tallyMax bounds what one row may add to a sum of at most RowsMax of them, which its
// process may have written over.
const tallyMax = 1 << 48

// tallyBlock is the block of a row, or behind the last one that of what dead ones have left.
func (m *Memory) tallyBlock(row int) []atomic.Uint64 {
	return m.all[m.tallies+row*m.tallyStride:][:m.tallyStride]
}

// Count adds one. It is an addition to memory that other processes only read.
func (q *Queue) Count(what Tally) { q.tally[what].Add(1) }

// CountTLS adds one, of this row.
func (b *Board) CountTLS(what TLSTally) { b.memory.tallyBlock(b.row)[what].Add(1) }

// CountMember adds one.
func (q *Queue) CountMember(member int, what MemberTally) {
	q.tally[Tallies+member*MemberTallies+int(what)].Add(1)
}

// A TLSReport is what was counted of handshakes.
type TLSReport [TLSTallies]uint64

// Add adds another one.
func (r *TLSReport) Add(o TLSReport) {
	for i := range r {
		r[i] += o[i]
	}
}

// ReportTLS reads that of all rows, bounded as in Report.
func (m *Memory) ReportTLS() (sum TLSReport) {
	for row := range m.plan.Rows + 1 {
		sum.Add(m.reportRow(row))
	}
	return sum
}

// ReportRow reads what a row has counted since it was cleared; nothing where there is no such row.
func (m *Memory) ReportRow(row int) (r TLSReport) {
	if row < 0 || row >= m.plan.Rows {
		return r
	}
	return m.reportRow(row)
}

func (m *Memory) reportRow(row int) (r TLSReport) {
	block := m.tallyBlock(row)
	for i := range r {
		r[i] = min(block[i].Load(), m.tallyMost(row))
	}
	return r
}

// tallyMost bounds what a row, or what the dead have left, may say of itself.
func (m *Memory) tallyMost(row int) uint64 {
	if row == m.plan.Rows {
		return tallyMax * RowsMax
	}
	return tallyMax
}

// An AppReport is how an app is, over all rows: for people, as Stats is.
type AppReport struct {
	InFlight int // requests that are with its members
	Queued   int // requests that have a place in the line
	Counts   [Tallies]uint64
	Members  []MemberReport
}

// A MemberReport is how a member is.
type MemberReport struct {
	InFlight int
	Counts   [MemberTallies]uint64
	Lost     Trouble // why no connection was to be had; 0 when one was
	Check    Trouble // why the last check failed; 0 when it did not, or there was none
}

// Report is that of the app.
func (q *Queue) Report() AppReport { return q.board.memory.Report(q.app) }

// Report reads how an app is. What it finds may be anything that a core wrote: nothing of
// it is used as an index, and every number is bounded.
func (m *Memory) Report(app int) AppReport {
	members := m.plan.Apps[app].Members
	words, health := m.shared(app, 0), m.health(app)
	r := AppReport{Queued: words.sum(0), Members: make([]MemberReport, members)}
	for row := range m.plan.Rows + 1 {
		most := m.tallyMost(row)
		block := m.tallyBlock(row)[m.apps[app].tally:]
		for i := range r.Counts {
			r.Counts[i] += min(block[i].Load(), most)
		}
		for member := range r.Members {
			for i := range r.Members[member].Counts {
				r.Members[member].Counts[i] += min(block[Tallies+member*MemberTallies+i].Load(), most)
			}
		}
	}
	for i := range r.Members {
		member := &r.Members[i]
		member.InFlight = words.sum(1 + i)
		member.Lost, member.Check = Trouble(health.lost[i].Load()), Trouble(health.verdicts[i].Load())
		r.InFlight += member.InFlight
	}
	return r
}
