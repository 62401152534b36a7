package keeper

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/sockets"
)

// This file is when certificates are obtained:
//
//	due ── a place is free ──► ordered ── issued ──► due when a third of its life is left,
//	 ▲                            │                  or when the CA wants it renewed
//	 └── back-off, with jitter ───┘ refused
//
// A certificate that is there is served until it is followed, whatever happens here.

const (
	// ordersMax bounds the orders that are under way at the same time. One takes some
	// seconds, and a CA takes 300 in three hours.
	ordersMax = 4
	// orderTime is for one order; the registrar gives up before.
	orderTime = 6 * time.Minute
	// askTime is for a question, likewise.
	askTime = 90 * time.Second
)

// An Issuance is all that a keeper needs to obtain certificates.
type Issuance struct {
	Plan      conf.ACME
	Folder    *sockets.Folder // nil: what is obtained is in memory
	Registrar int             // descriptor of the link
}

// A schedule has the names whose certificates come from the CA.
type schedule struct {
	keeper   *Keeper
	obtainer *obtainer
	errands  *errands
	ledger   *ledger
	log      zerolog.Logger
	folder   *sockets.Folder // nil: all is in memory
	ca       string
	began    chan struct{} // closed when the first core serves
	names    []*named
	ended    chan outcome
	wanted   chan []string // the names that there are, when they have changed
}

// A named is a name with what is known of its certificate. It belongs to scheduleLoop;
// whoever has an order of it under way has it meanwhile.
type named struct {
	name     string
	dropped  bool              // no table has it any more
	leaf     *x509.Certificate // nil: there is none
	attempts int               // that have failed since the last certificate
	due      time.Time         // of the next order
	ask      time.Time         // when the CA is asked for its wishes
	busy     bool
}

// An outcome is the end of an order, or of a question.
type outcome struct {
	of     *named
	pair   pair // of an order that has brought one
	asked  bool // it was a question
	due    time.Time
	ask    time.Time
	err    error
	took   time.Duration
	before *x509.Certificate // that an order was to follow; nil for none
}

// Obtain has certificates obtained from a CA, once a core serves. It loads those that are
// there; it is called before Serve, and after Keep. Which names there are, the tables say.
func (k *Keeper) Obtain(ctx context.Context, with Issuance) error {
	var err error
	if k.changes, err = newChanges(); err != nil {
		return err
	}
	k.wanted = make(chan []string, 1)
	s := &schedule{
		wanted: k.wanted,
		keeper: k, log: k.log, ca: with.Plan.CA, folder: with.Folder,
		ledger: newLedger(with.Folder, with.Plan.CA),
		began:  make(chan struct{}), ended: make(chan outcome, ordersMax),
	}
	if s.errands, err = newErrands(with.Registrar, k, k.log); err != nil {
		return err
	}
	s.obtainer = newObtainer(with.Plan, with.Folder, s.errands)
	k.kept = s.obtainer.load
	names := k.names()
	for i, found := range s.loadAll(names) {
		s.take(names[i], found, func(change func()) { change() })
	}
	k.rest.forgot = true // what has been read is garbage
	k.served = func() { close(s.began) }
	go s.errands.loop()
	go s.scheduleLoop(ctx)
	return nil
}

// A found is what is kept for a name, or why there is nothing.
type found struct {
	pair pair
	err  error
}

// loadAll finds what is kept for names, on all processors: at a start nobody else needs them.
func (s *schedule) loadAll(names []string) []found {
	all := make([]found, len(names))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU()))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range runtime.NumCPU() {
		readers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(names)); i = next.Add(1) - 1 {
				all[i].pair, all[i].err = s.obtainer.load(names[i])
			}
		})
	}
	readers.Wait()
	return all
}

// take takes a name on, with what was found for it. do is how what is the Keeper's is
// changed. What cannot be used is said, and obtained anew.
func (s *schedule) take(name string, f found, do func(func())) {
	n := &named{name: name}
	s.names = append(s.names, n)
	p, err := f.pair, f.err
	now := time.Now()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, sockets.ErrForeign):
		s.log.Error().Str("host", name).Err(err).Msg("certificate not used")
	case err != nil:
		s.log.Error().Str("host", name).Err(err).Msg("certificate not used")
		if err := s.obtainer.discard(name); err != nil {
			s.log.Error().Str("host", name).Err(err).Msg("certificate not removed")
		}
	default:
		do(func() { s.keeper.publish(name, p) })
		n.leaf = p.leaf
		n.due = renewalOf(p.leaf)
		n.ask = now.Add(rand.N(min(time.Hour, lifeOf(p.leaf)/10) + 1))
		if s.folder != nil && !s.folder.Has(sockets.FileName(standingPrefix+name)) { // a keeper was killed in between
			s.note(n, nil)
		}
	}
}

// follow takes on the names, sorted, that a reload has brought, and drops those that no table has any
// more. An order that is under way comes to its end, and is remembered until then.
func (s *schedule) follow(names []string) {
	known := map[string]bool{}
	for _, n := range s.names {
		_, found := slices.BinarySearch(names, n.name)
		dropped := !found
		if dropped && !n.dropped {
			s.forget(n)
		}
		if n.dropped = dropped; !dropped || n.busy {
			known[n.name] = true
		}
	}
	s.names = slices.DeleteFunc(s.names, func(n *named) bool { return n.dropped && !n.busy })
	for _, name := range names {
		if !known[name] {
			var f found
			f.pair, f.err = s.obtainer.load(name)
			s.take(name, f, s.keeper.changes.do)
		}
	}
}

// lifeOf is how long a certificate is valid from its first to its last second.
func lifeOf(leaf *x509.Certificate) time.Duration { return leaf.NotAfter.Sub(leaf.NotBefore) }

// renewalOf is when a certificate is followed unless its CA says otherwise: when a third of
// its life is left, and a little earlier for some, so that what began together does not stay so.
func renewalOf(leaf *x509.Certificate) time.Time {
	life := lifeOf(leaf)
	return leaf.NotAfter.Add(-life/3 - rand.N(life/30+1))
}

// scheduleLoop orders what is due. It ends with ctx; the orders that are under way end with
// the process, or with ctx.
func (s *schedule) scheduleLoop(ctx context.Context) {
	defer s.obtainer.close()
	if !s.awaitAll(ctx) {
		return
	}
	running := 0
	for {
		next := s.start(ctx, &running)
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case o := <-s.ended:
			running--
			s.end(o)
		case names := <-s.wanted:
			s.follow(names)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// registrarTime is for a registrar to begin. One that began before this keeper says nothing.
const registrarTime = 2 * time.Second

// awaitAll waits until a core would answer a CA, and the registrar is there; not if ctx is
// done before.
func (s *schedule) awaitAll(ctx context.Context) bool {
	select {
	case <-s.began:
	case <-ctx.Done():
		return false
	}
	limit := time.NewTimer(registrarTime)
	defer limit.Stop()
	select {
	case <-s.errands.heard:
	case <-limit.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// farAway is when scheduleLoop looks again if nothing happens.
const farAway = time.Hour

// start begins what is due, as far as there is room, and returns when something will be.
func (s *schedule) start(ctx context.Context, running *int) (next time.Time) {
	now := time.Now()
	next = now.Add(farAway)
	for _, n := range s.names {
		at := n.due
		asks := n.leaf != nil && n.ask.Before(n.due)
		if asks {
			at = n.ask
		}
		switch {
		case n.busy || n.dropped:
		case at.After(now):
			if at.Before(next) {
				next = at
			}
		case *running < ordersMax:
			n.busy = true
			*running++
			if asks {
				go s.ask(ctx, n)
			} else {
				go s.order(ctx, n)
			}
		}
	}
	return next
}

// order is one attempt, and ends within orderTime.
func (s *schedule) order(ctx context.Context, n *named) {
	began := time.Now()
	o := outcome{of: n, before: n.leaf}
	if wait := s.ledger.wait(n.name, began); wait.After(began) {
		o.due, o.err = wait, errLimit
		s.ended <- o
		return
	}
	ctx, done := context.WithTimeout(ctx, orderTime)
	defer done()
	o.pair, o.err = s.obtainer.obtain(ctx, n.name, n.attempts, n.leaf)
	o.took = time.Since(began)
	if err := s.ledger.note(n.name, began, o.err); err != nil {
		s.log.Warn().Err(err).Msg("ledger not written")
	}
	s.ended <- o
}

// ask asks the CA when it wants a certificate renewed, and ends within askTime.
func (s *schedule) ask(ctx context.Context, n *named) {
	ctx, done := context.WithTimeout(ctx, askTime)
	defer done()
	o := outcome{of: n, asked: true, due: n.due}
	w, err := s.errands.ask(ctx, n.leaf.Raw)
	o.err = err
	now, life := time.Now(), lifeOf(n.leaf)
	o.ask = now.Add(askEvery)
	if err == nil {
		start, end := time.Unix(w.Start, 0), time.Unix(w.End, 0)
		if end.After(start) {
			// "select a uniform random time within the suggested window" RFC 9773, section 4.2.
			o.due = start.Add(rand.N(end.Sub(start)))
		}
		if last := n.leaf.NotAfter.Add(-life / 10); o.due.After(last) {
			o.due = last
		}
		if again := time.Unix(w.Again, 0); again.After(now.Add(askLeast)) && again.Before(now.Add(askMost)) {
			o.ask = again
		}
	}
	s.ended <- o
}

// How often a CA is asked for one certificate: as it says, within bounds. "Clients MUST set
// reasonable limits on their checking interval" RFC 9773, section 4.3.2.
const (
	askEvery = 6 * time.Hour
	askLeast = time.Minute
	askMost  = 24 * time.Hour
)

// end takes what an order or a question has brought.
func (s *schedule) end(o outcome) {
	n := o.of
	n.busy = false
	if o.asked {
		n.ask = o.ask
		if !n.due.Equal(o.due) {
			n.due = o.due
			s.note(n, nil)
		}
		return
	}
	if o.err != nil {
		s.failed(o)
		return
	}
	name, p := n.name, o.pair
	s.keeper.changes.do(func() { s.keeper.publish(name, p) })
	n.leaf, n.attempts = p.leaf, 0
	n.due = renewalOf(p.leaf)
	n.ask = time.Now() // what the CA says of it
	s.note(n, nil)
	s.log.Info().Str("host", n.name).Str("ca", s.ca).Str("serial", p.leaf.SerialNumber.Text(16)).
		Time("until", p.leaf.NotAfter.UTC()).Time("next", n.due.UTC()).Bool("renewed", o.before != nil).
		Dur("ms", o.took).Msg("certificate obtained")
}

// failed says why there is no certificate, and when the next try is.
func (s *schedule) failed(o outcome) {
	n, now := o.of, time.Now()
	var r *refusal
	isRefusal := errors.As(o.err, &r)
	switch {
	case errors.Is(o.err, errLost):
		n.due = now.Add(jitter(lostPause))
	case errors.Is(o.err, errLimit):
		n.due = o.due
	default:
		n.attempts++
		n.due = now.Add(backOff(n.attempts, r, now))
	}
	s.note(n, o.err)
	line := s.log.Error().Str("host", n.name)
	if errors.Is(o.err, errLost) || errors.Is(o.err, errLimit) {
		line = s.log.Warn().Str("host", n.name)
	}
	if isRefusal {
		line = line.Str("ca", r.ca).Int("status", r.status).Str("problem", r.problem).Str("challenge", r.challenge).Str("cause", r.text)
	} else {
		line = line.Str("ca", s.ca).Str("cause", o.err.Error())
	}
	if n.leaf != nil {
		line = line.Time("serving_until", n.leaf.NotAfter.UTC())
	}
	line.Int("attempts", n.attempts).Time("next", n.due.UTC()).Str("hint", hintOf(r)).Dur("ms", o.took).Msg("certificate not obtained")
}
