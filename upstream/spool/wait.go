package spool

import (
	"os"
	"time"
)

// This file has the order: which request is the oldest, and who gets what is freed.

// A line is spools in the order in which they joined.
type line struct{ first, last *place }

// A place is where a spool stands in a line; in no line when line is nil.
type place struct {
	spool          *Spool
	line           *line
	before, behind *place
}

func (l *line) join(p *place) {
	p.line, p.before, p.behind = l, l.last, nil
	if l.last != nil {
		l.last.behind = p
	} else {
		l.first = p
	}
	l.last = p
}

func (l *line) leave(p *place) {
	if p.before != nil {
		p.before.behind = p.behind
	} else {
		l.first = p.behind
	}
	if p.behind != nil {
		p.behind.before = p.before
	} else {
		l.last = p.before
	}
	p.line, p.before, p.behind = nil, nil, nil
}

// signal wakes who waits on a 1-slot channel, or who will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// waitsForAll reports whether somebody waits whose app has a share left: what the
// others leave is his.
func (a *Arena) waitsForAll() bool {
	if a.waiting == 0 {
		return false
	}
	for _, p := range a.apps {
		if w := p.waiting.first; w != nil && p.used+w.spool.need-w.spool.credit <= p.bytes {
			return true
		}
	}
	return false
}

// grant gives what is free to those who wait, in their order among those whose app
// has a share left. What is granted is charged at once, so that nobody can be quicker.
func (a *Arena) grant() {
	for a.waiting > 0 {
		var next *Spool
		for _, p := range a.apps {
			w := p.waiting.first
			if w == nil || p.used+w.spool.need-w.spool.credit > p.bytes {
				continue
			}
			if next == nil || w.spool.ticket < next.ticket {
				next = w.spool
			}
		}
		if next == nil || a.used+next.need-next.credit > a.bytes {
			return
		}
		a.charge(next.app, next.need-next.credit)
		next.credit, next.need = next.need, 0
		a.stopWaiting(next)
		signal(next.room)
	}
}

func (a *Arena) stopWaiting(s *Spool) {
	switch s.wait.line {
	case nil:
		return
	case &s.app.waiting:
		a.waiting--
	}
	s.wait.line.leave(&s.wait)
}

// Await waits, after a Write that was ErrFull, until it is worth another: room was
// granted, in the order in which spools began to wait; or the reader has taken
// everything; or this is a request that has become the oldest, and may Overflow.
// It fails with ErrLeft when the client has left (nil: it never does), after limit (none:
// 0) with os.ErrDeadlineExceeded, and with the reader's cause when that has gone.
func (s *Spool) Await(client Client, limit time.Duration) error {
	s.joinWaiting()
	defer s.endWaiting()
	begun := time.Now()
	defer s.stopLooking()
	for {
		if worth, err := s.worthAWrite(); worth {
			return err
		}
		select {
		case <-s.room:
			continue
		case <-s.nextLook(client, limit):
		}
		switch {
		case client != nil && client.Left():
			return ErrLeft
		case limit > 0 && time.Since(begun) >= limit:
			return os.ErrDeadlineExceeded
		}
	}
}

// A Client is whose body waits for room.
type Client interface {
	// Left reports whether the client has gone. It is asked once in a lookPause.
	Left() bool
}

// lookPause is for how long room may be kept for a client that has left.
const lookPause = 500 * time.Millisecond

// nextLook is when to look at the clock and the client; never if there is neither.
func (s *Spool) nextLook(client Client, limit time.Duration) <-chan time.Time {
	pause := limit
	if client != nil && (limit == 0 || limit > lookPause) {
		pause = lookPause
	}
	switch {
	case pause == 0:
		return nil
	case s.timer == nil:
		s.timer = time.NewTimer(pause)
	default:
		s.timer.Reset(pause)
	}
	return s.timer.C
}

func (s *Spool) stopLooking() {
	if s.timer != nil {
		s.timer.Stop()
	}
}

func (s *Spool) joinWaiting() {
	a := s.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case s.dry:
		a.dry.join(&s.wait)
	case s.need > 0:
		a.tickets++
		s.ticket = a.tickets
		s.app.waiting.join(&s.wait)
		a.waiting++
		a.grant()
	}
}

func (s *Spool) endWaiting() {
	a := s.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	s.dry = false
	a.stopWaiting(s)
	a.grant() // whoever stood behind may need less
}

func (s *Spool) worthAWrite() (bool, error) {
	s.mu.Lock()
	gone, caughtUp := s.gone, s.caughtUp()
	s.mu.Unlock()
	if gone != nil || caughtUp {
		return true, gone
	}
	s.arena.mu.Lock()
	defer s.arena.mu.Unlock()
	return s.need == 0 && !s.dry || s.isOldest(), nil
}

// isOldest is Oldest, with the arena's mu.
func (s *Spool) isOldest() bool { return s.app.incomplete.first == &s.age }

// Oldest reports whether s is the oldest of its app's requests whose end has not come.
func (s *Spool) Oldest() bool {
	s.arena.mu.Lock()
	defer s.arena.mu.Unlock()
	return s.isOldest()
}

// Overflow makes the oldest incomplete request of an app the one that is sent
// before it is complete, and reports whether s is that one. From then on nothing
// can be written: what is stored comes out and is freed, then io.EOF, and the rest
// is the client's own stream. Until it is closed no other request of the app can
// Overflow: a slow client has one of the app's slots then, and never two.
func (s *Spool) Overflow() bool {
	s.arena.mu.Lock()
	if !s.isOldest() {
		s.arena.mu.Unlock()
		return false
	}
	s.overflowing = true
	s.arena.mu.Unlock()
	s.Forget()
	s.end(nil)
	return true
}

// complete takes s out of the order of incomplete requests.
func (s *Spool) complete() {
	a := s.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.age.line == nil {
		return
	}
	wasOldest := s.isOldest()
	s.age.line.leave(&s.age)
	if next := s.app.incomplete.first; wasOldest && next != nil {
		signal(next.spool.room)
	}
}
