package keeper

import (
	"time"

	"github.com/rs/zerolog"

	"sallyport/tlsload/keywire"
)

// refusals count what was refused, and log it once per second at most: a core
// that wants to fill the log shall not.
type refusals struct {
	counts [keywire.ReasonEnd]uint64
	total  uint64
	logged time.Time
}

// note counts one refusal on a link.
func (r *refusals) note(link int, reason keywire.Reason, log zerolog.Logger) {
	r.counts[reason]++
	r.total++
	now := time.Now()
	if now.Sub(r.logged) < time.Second {
		return
	}
	r.logged = now
	log.Warn().Int("link", link).Stringer("cause", reason).
		Uint64("count", r.counts[reason]).Uint64("total", r.total).Msg("message refused")
}
