package keeper

import (
	"runtime/debug"
	"time"
)

// When a keeper gives memory back. An ECDSA signature leaves 6 KiB of garbage, and Go
// collects none of it before it is 4 MiB: nearly as much as everything else in here.
const (
	restWait  = 100 * time.Millisecond // without a request
	restLeast = 256                    // signatures, or it is not worth it
	restEvery = time.Minute            // a collection takes the time of 20 signatures or more
)

// A rest is the time after many signatures: garbage is collected then, and the memory
// given back.
type rest struct {
	signed int       // since the last
	forgot bool      // a table, since the last
	last   time.Time // that one was taken
}

// within shortens a wait, so that a rest that is due comes in time.
func (r *rest) within(limit time.Duration, now time.Time) time.Duration {
	if r.signed < restLeast && !r.forgot {
		return limit
	}
	return min(limit, max(restWait, restEvery-now.Sub(r.last)))
}

// take takes a rest, if it is due: nobody has asked for anything during a wait.
func (r *rest) take(now time.Time) {
	if r.signed < restLeast && !r.forgot || now.Sub(r.last) < restEvery {
		return
	}
	r.signed, r.forgot, r.last = 0, false, now
	debug.FreeOSMemory()
}
