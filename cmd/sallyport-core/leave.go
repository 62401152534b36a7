package main

import (
	"os"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// This file is how a core ends. Its warden says how, by a signal:
//
//	TERM  the service ends: idle connections are closed, exchanges and tunnels end
//	      within drain.requests
//	USR1  another core has this one's place: each idle connection may have one more
//	      answer, with Connection: close (GOAWAY); those still idle when drain.requests is over
//	      are closed, exchanges still in flight are cut, and tunnels go on until they end
//	      or drain.upgrades is over
//	USR2  after USR1: tunnels are cut now
//
// Nobody else sends USR1 or USR2 to all processes of a service, as supervisors do with
// TERM, which is why the gentle way has the strange signal.
const (
	signalStop   = syscall.SIGTERM
	signalRetire = syscall.SIGUSR1
	signalCut    = syscall.SIGUSR2
)

const (
	// lastAnswers is for the requests that came as their idle connections were to be
	// closed. It comes on top of drain.requests; the warden's own limit is beyond it.
	lastAnswers = 2 * time.Second
	// unlinkedTime is for exchanges, where the link to the keeper is lost: new clients
	// wait for a successor, who will have a link of its own.
	unlinkedTime = time.Second
)

// A leaving is a core that ends.
type leaving struct {
	front *front
	log   zerolog.Logger
}

// stop ends the service of this core: when the last exchange is over, or after limit.
func (l leaving) stop(limit time.Duration) {
	l.log.Debug().Int64("connections", l.front.count.Load()).Msg("core draining")
	l.await(l.front.drained(l.front.drain), limit)
}

// await waits for over, for at most limit.
func (l leaving) await(over <-chan struct{}, limit time.Duration) {
	select {
	case <-over:
	case <-time.After(limit):
		l.log.Warn().Dur("limit", limit).Int64("connections", l.front.count.Load()).Msg("core ended with exchanges in flight")
	}
}

// retire ends this core beside the one that has its place: see above.
func (l leaving) retire(requests, upgrades time.Duration, signals <-chan os.Signal) {
	l.log.Debug().Int64("connections", l.front.count.Load()).Msg("core retired")
	over := l.front.drained(l.front.engines.retire)
	var last <-chan time.Time   // when the last answers are over
	var tunnels <-chan struct{} // closed when the last tunnel is over; nil while there may be exchanges
	idle, upgraded := time.After(requests), time.After(upgrades)
	cut := false // tunnels are
	for {
		select {
		case <-over:
			return
		case <-tunnels:
			return
		case <-idle:
			l.front.drain()
			last = time.After(lastAnswers)
		case <-last:
			tunnels = l.cutExchanges(requests)
		case <-upgraded:
			cut = true
			l.cutTunnels("drain.upgrades is over")
		case s := <-signals:
			switch s {
			case signalStop:
				l.front.drain()
				l.await(over, requests)
				return
			case signalCut:
				cut = true
				l.cutTunnels("an older core than this is not kept")
			}
		}
		if cut && tunnels != nil {
			return
		}
	}
}

// cutExchanges ends what is no tunnel, and returns what is closed when no tunnel is left.
func (l leaving) cutExchanges(limit time.Duration) <-chan struct{} {
	tunnels, cut := l.front.engines.cutExchanges()
	if cut > 0 {
		l.log.Warn().Dur("limit", limit).Int("connections", cut).Msg("exchanges cut")
	}
	return tunnels
}

// cutTunnels ends the tunnels.
func (l leaving) cutTunnels(reason string) {
	if cut := l.front.engines.cutTunnels(); cut > 0 {
		l.log.Warn().Str("reason", reason).Int("connections", cut).Msg("upgraded connections cut")
	}
}
