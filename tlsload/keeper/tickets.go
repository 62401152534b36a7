package keeper

import (
	"crypto/rand"
	"time"

	"sallyport/tlsload/keywire"
)

const (
	// How long a ticket key is in force. Clients keep tickets for the length of a visit;
	// whoever gets hold of a key can read what was resumed with it in TLS 1.2, so it
	// should not live for days.
	ticketLife = 8 * time.Hour
	// How soon spoilt keys may follow others. A core that names one epoch after the
	// other would have every client make full handshakes.
	ticketLifeLeast = time.Minute
)

// ticketKeys seal session tickets: current, previous, next. The first seals; all
// open. A core knows the next one up to 8 hours before it seals.
//
// Those of QUIC are read once by a core, when it starts. That of resets stays as long as
// the keeper: the successor of a core that has died resets its connections by it. What
// somebody who has read it there can do is end connections whose packets he sees, and
// he could as well drop those.
type ticketKeys struct {
	keys    [3][32]byte
	reset   [32]byte
	token   [32]byte
	due     time.Time // of the next rotation
	drawn   time.Time // when all of them were
	spoiled bool      // all are to be drawn anew, when it is due
}

func newTicketKeys(now time.Time) ticketKeys {
	var t ticketKeys
	rand.Read(t.reset[:]) // never fails, says its documentation
	t.draw(now)
	return t
}

// draw makes all keys new, but for that of resets.
func (t *ticketKeys) draw(now time.Time) {
	rand.Read(t.token[:]) // as above
	for i := range t.keys {
		rand.Read(t.keys[i][:])
	}
	t.due, t.drawn, t.spoiled = now.Add(ticketLife), now, false
}

// spoil says that somebody may know all keys. None of them is used for longer than
// ticketLifeLeast then.
func (t *ticketKeys) spoil(now time.Time) {
	t.spoiled = true
	t.due = t.drawn.Add(ticketLifeLeast)
}

// message is what a core is sent of them.
func (t *ticketKeys) message(epoch uint64) keywire.Tickets {
	return keywire.Tickets{Epoch: epoch, Reset: t.reset, Token: t.token, Keys: t.keys[:]}
}

// rotate moves the keys on when it is time, and reports whether it was.
func (t *ticketKeys) rotate(now time.Time) bool {
	switch {
	case now.Before(t.due):
		return false
	case t.spoiled:
		t.draw(now)
	default:
		t.keys[0], t.keys[1] = t.keys[2], t.keys[0]
		rand.Read(t.keys[2][:])
		t.due = now.Add(ticketLife)
	}
	return true
}
