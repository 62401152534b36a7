package h1

import (
	"time"

	"sallyport/conf"
)

// A rate is the least that a peer has to send, kept as an account of time: waiting
// for the peer spends it, bytes refill it, and it never holds more than its window. So
// a peer that is slow for a moment is as good as any, and one that is slower than least
// over a window runs out. Only waiting counts: what the app or we ourselves take time
// for is not the peer's. The idea is that of MinRate in Apache's mod_reqtimeout, which
// lets what was sent once count for ever.
type rate struct {
	least  int64 // bytes in a second; 0: no rate, and the rest means nothing
	window time.Duration
	left   time.Duration // of the account
}

// plainWindow is the window where nobody may be too silent either.
const plainWindow = time.Minute

// rateOf is the rate of a body that begins now, with a full account.
func rateOf(limits *conf.Limits) rate {
	window := 2 * limits.BodyIdle
	if window == 0 {
		window = plainWindow
	}
	return rate{least: limits.BodyRate, window: window, left: window}
}

// bound is how long the next wait may be, where idle is the longest one; 0 is no limit.
func (r *rate) bound(idle time.Duration) time.Duration {
	if r.least == 0 || idle > 0 && idle < r.left {
		return idle
	}
	return r.left
}

// account takes note of a read that waited, and brought n bytes.
func (r *rate) account(waited time.Duration, n int) {
	worth := min(float64(n)/float64(r.least)*float64(time.Second), float64(r.window))
	r.left = min(r.left-max(waited, 0)+time.Duration(worth), r.window)
}

// spent reports whether nothing is left of the account.
func (r *rate) spent() bool { return r.least > 0 && r.left <= 0 }
