package keeper

import (
	"crypto/rand"
	"time"
)

// ticketLife is how long a ticket key is in force. Clients keep tickets for the
// length of a visit; whoever gets hold of a key can read what was resumed with it
// in TLS 1.2, so it should not live for days.
const ticketLife = 8 * time.Hour

// ticketKeys seal session tickets: current, previous, next. The first seals; all
// open. A core knows the next one up to 8 hours before it seals.
type ticketKeys struct {
	keys [3][32]byte
	due  time.Time // of the next rotation
}

func newTicketKeys(now time.Time) ticketKeys {
	t := ticketKeys{due: now.Add(ticketLife)}
	for i := range t.keys {
		rand.Read(t.keys[i][:]) // never fails, says its documentation
	}
	return t
}

// rotate moves the keys on when it is time.
func (t *ticketKeys) rotate(now time.Time) {
	if now.Before(t.due) {
		return
	}
	t.keys[0], t.keys[1] = t.keys[2], t.keys[0]
	rand.Read(t.keys[2][:])
	t.due = now.Add(ticketLife)
}
