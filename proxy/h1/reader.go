package h1

import (
	"bytes"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// Sizes of the pooled buffers. A head fits the small one nearly always; a body
// that fills it moves to the large one, where a system call carries
// 64 KiB (more buys nothing: evidence of 2026-10, 0.52 against 0.54 s/GiB).
const (
	smallBytes = 4 << 10
	outBytes   = 16 << 10 // what is gathered of an answer before it is sent
	largeBytes = 64 << 10

	sealedBytes = largeBytes / loop.RecordBytes * (loop.RecordBytes + loop.RecordFrame)
)

// Buffers are the pools that all connections of a process share. The zero value
// is ready. What grew beyond largeBytes is not taken back.
type Buffers struct {
	small, out, large, sealed sync.Pool // of pointers to arrays of these sizes
}

func (b *Buffers) takeSmall() []byte { return message.Take[[smallBytes]byte](&b.small)[:] }

func (b *Buffers) takeLarge() []byte { return message.Take[[largeBytes]byte](&b.large)[:] }

func (b *Buffers) takeOut() []byte { return message.Take[[outBytes]byte](&b.out)[:0] }

// takeSealed is a buffer for what largeBytes become in a TLS session.
func (b *Buffers) takeSealed() []byte { return message.Take[[sealedBytes]byte](&b.sealed)[:] }

// give takes back a buffer of one of the sizes; nil and others are left to the
// collector.
func (b *Buffers) give(p []byte) {
	switch cap(p) {
	case smallBytes:
		b.small.Put((*[smallBytes]byte)(p[:smallBytes]))
	case outBytes:
		b.out.Put((*[outBytes]byte)(p[:outBytes]))
	case largeBytes:
		b.large.Put((*[largeBytes]byte)(p[:largeBytes]))
	case sealedBytes:
		b.sealed.Put((*[sealedBytes]byte)(p[:sealedBytes]))
	}
}

// A reader is the bytes that came from a peer and were not used yet.
type reader struct {
	wire
	buffers *Buffers
	buf     []byte // buf[from:to] is unused
	from    int
	to      int

	idle time.Duration // the longest wait of one fill; 0 leaves the deadline as it stands
	rate message.Rate  // how fast the peer has to be

	full    bool        // the last fill found no end of what was there
	stopped atomic.Bool // by stop, until resume
}

// stop makes the fill that goes on, and every later one, fail at once. It may be
// called while another goroutine fills.
func (r *reader) stop() {
	r.stopped.Store(true)
	r.limitRead(-1)
}

// resume ends a stop; nobody may be filling.
func (r *reader) resume() { r.stopped.Store(false) }

// pace gives every fill from now on a limit of its own, 0 is no limit, and the peer a
// rate to keep to.
func (r *reader) pace(idle time.Duration, rate message.Rate) {
	r.idle, r.rate = idle, rate
	if idle == 0 {
		r.limitRead(0)
	}
}

// limitAll gives the fills from now on one limit together; 0 is no limit.
func (r *reader) limitAll(wait time.Duration) {
	r.idle, r.rate = 0, message.Rate{}
	r.limitRead(wait)
}

func (r *reader) unused() []byte { return r.buf[r.from:r.to] }

// release gives the buffer back, if nothing unused is in it.
func (r *reader) release() {
	if r.from == r.to && r.buf != nil {
		r.buffers.give(r.buf)
		r.buf, r.from, r.to = nil, 0, 0
	}
}

// discard gives the buffer back, whatever is in it.
func (r *reader) discard() {
	r.from = r.to
	r.release()
}

// fill waits for more bytes and puts them behind the unused ones. It never
// returns nil without at least one.
func (r *reader) fill() error {
	if r.buf == nil {
		r.buf = r.buffers.takeSmall()
	}
	if r.from == r.to {
		r.from, r.to = 0, 0
	}
	if r.to == len(r.buf) {
		r.makeRoom()
	}
	var begun int64
	if r.rate.Asks() {
		begun = r.now() // before the limit is set: a wait up to it is not shorter than it
	}
	if wait := r.rate.Bound(r.idle); wait > 0 {
		r.limitRead(wait)
	}
	if r.stopped.Load() { // after limitRead, which may have undone the deadline of stop
		return os.ErrDeadlineExceeded
	}
	n, err := r.conn.Read(r.buf[r.to:])
	r.to += n
	r.full = r.to == len(r.buf)
	if r.rate.Asks() {
		r.rate.Account(time.Duration(r.now()-begun), n)
	}
	switch {
	case r.rate.Spent():
		return message.ErrBodyRate // also with bytes: the next wait would have no time at all
	case n > 0:
		return nil
	}
	return err
}

// drained reports whether a fill would find nothing. It is worth to know of a TLS session,
// which allocates to find out.
func (r *reader) drained() bool {
	return r.records != nil && !r.full && r.records.Drained() && !r.raw.Ready()
}

// makeRoom moves the unused bytes to the front, or doubles the buffer. Callers
// bound how much may be unused, so the buffer is bounded too.
func (r *reader) makeRoom() {
	if r.from > 0 {
		r.to = copy(r.buf, r.buf[r.from:r.to])
		r.from = 0
		return
	}
	larger := make([]byte, 2*len(r.buf))
	copy(larger, r.buf)
	r.buffers.give(r.buf)
	r.buf = larger
}

// widen moves to a large buffer, for a long body.
func (r *reader) widen() {
	if len(r.buf) >= largeBytes {
		return
	}
	large := r.buffers.takeLarge()
	r.to = copy(large, r.buf[r.from:r.to])
	r.from = 0
	if r.buf != nil {
		r.buffers.give(r.buf)
	}
	r.buf = large
}

// leave gives the buffer up to whoever holds a piece of it, and moves what is unused to
// another one.
func (r *reader) leave() {
	if r.buf == nil {
		return
	}
	other := r.buffers.takeLarge()
	if r.to-r.from > len(other) {
		other = make([]byte, len(r.buf))
	}
	r.to = copy(other, r.unused())
	r.from, r.buf = 0, other
}

// narrow gives back a buffer that a body or a head made large, when what is
// unused fits a small one.
func (r *reader) narrow() {
	if len(r.buf) <= smallBytes || r.to-r.from > smallBytes {
		return
	}
	small := r.buffers.takeSmall()
	r.to = copy(small, r.buf[r.from:r.to])
	r.from = 0
	r.buffers.give(r.buf)
	r.buf = small
}

// line waits for a line of at most max bytes and uses it up. It comes without
// its CRLF; one that ends otherwise is refused, and one that is longer is tooLong.
func (r *reader) line(max int, tooLong error) ([]byte, error) {
	for scanned := 0; ; {
		unused := r.unused()
		if i := bytes.IndexByte(unused[scanned:], '\n'); i >= 0 {
			end := scanned + i
			switch {
			case end == 0 || unused[end-1] != '\r':
				return nil, message.ErrLineEnd
			case end-1 > max:
				return nil, tooLong
			}
			r.from += end + 1
			return unused[:end-1], nil
		}
		scanned = len(unused)
		if scanned > max {
			return nil, tooLong
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}
