package message

import "time"

// A Rate is the least that a peer has to send, kept as an account of time: waiting
// for the peer spends it, bytes refill it, and it never holds more than its window. So
// a peer that is slow for a moment is as good as any, and one that is slower than least
// over a window runs out. Only waiting counts: what the app or we ourselves take time
// for is not the peer's. The idea is that of MinRate in Apache's mod_reqtimeout, which
// lets what was sent once count for ever. The zero Rate asks for nothing.
type Rate struct {
	least  int64 // bytes in a second; 0: no rate, and the rest means nothing
	window time.Duration
	left   time.Duration // of the account
}

// plainWindow is the window where nobody may be too silent either.
const plainWindow = time.Minute

// NewRate is the rate of a body that begins now, with a full account: least bytes in a
// second, over twice idle, the longest silence; over a minute without that.
func NewRate(least int64, idle time.Duration) Rate {
	window := 2 * idle
	if window == 0 {
		window = plainWindow
	}
	return Rate{least: least, window: window, left: window}
}

// Asks reports whether there is a rate to keep to.
func (r *Rate) Asks() bool { return r.least > 0 }

// Bound is how long the next wait may be, where idle is the longest one; 0 is no limit.
func (r *Rate) Bound(idle time.Duration) time.Duration {
	if r.least == 0 || idle > 0 && idle < r.left {
		return idle
	}
	return r.left
}

// Account takes note of a read that waited, and brought n bytes.
func (r *Rate) Account(waited time.Duration, n int) {
	worth := min(float64(n)/float64(r.least)*float64(time.Second), float64(r.window))
	r.left = min(r.left-max(waited, 0)+time.Duration(worth), r.window)
}

// Spent reports whether nothing is left of the account.
func (r *Rate) Spent() bool { return r.least > 0 && r.left <= 0 }
