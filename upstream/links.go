package upstream

import (
	"errors"
	"slices"
	"sync"
	"time"

	"sallyport/proxy/h2"
	"sallyport/proxy/message"
	"sallyport/upstream/board"
)

// This file is how a lease comes to a call on an app that speaks HTTP/2. Slots, the line in
// front of them and what a member does that is absent are as for all apps.

// links are the connections to a member that speaks HTTP/2. The first with room has the
// next call, so that the others become idle, and end.
type links struct {
	dialing sync.Mutex // one looks for room and makes a connection at a time; taken before mu

	mu     sync.Mutex // taken before what a connection locks
	all    []*h2.AppConn
	most   int // calls at a time, that one has said it takes; 0: none has
	closed bool
}

// take keeps room for a call on one of the connections; nil if none has any.
func (s *links) take() *h2.AppConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.all {
		if c.Reserve() {
			return c
		}
		if most := c.Most(); most > 0 {
			s.most = most
		}
	}
	return nil
}

// expected is how many calls a new connection is likely to take.
func (s *links) expected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

func (s *links) add(c *h2.AppConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, c)
	if s.closed {
		c.Retire()
	}
}

func (s *links) remove(c *h2.AppConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.all, c); i >= 0 {
		s.all = slices.Delete(s.all, i, i+1)
	}
}

// close ends all connections with the last of their calls, and those that come later.
func (s *links) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.all {
		c.Retire()
	}
}

// sendCall is App.Send for an app that speaks HTTP/2.
func (l *Lease) sendCall(req *message.Request, body message.Source) error {
	l.call.Client, _ = l.client.(message.Resetter)
	err := l.enter()
	if err == nil {
		err = l.join()
	}
	if err == nil {
		err = l.send(req, body)
	}
	for err != nil && l.repeatableCall(req, err) {
		if err = l.rejoin(); err == nil {
			err = l.resendCall(req, body)
		}
	}
	if err != nil {
		l.count(err)
	}
	return err
}

// join reserves a call on a connection to the member, or to another one that is given to
// the lease.
func (l *Lease) join() error {
	for {
		c, fresh, err := l.link()
		if err == nil {
			l.call.Open(c, l.app.plan.Idle)
			l.reused, l.Connected = !fresh, time.Now()
			l.arrived()
			return nil
		}
		if err := l.elsewhere(err); err != nil {
			return err
		}
	}
}

// link is a connection to the member with room for a call, which is kept.
func (l *Lease) link() (c *h2.AppConn, fresh bool, err error) {
	s := &l.member.links
	if c := s.take(); c != nil {
		return c, false, nil
	}
	s.dialing.Lock()
	defer s.dialing.Unlock()
	if c := s.take(); c != nil {
		return c, false, nil
	}
	c, err = l.newLink()
	return c, true, err
}

// newLink is a connection of the member that is new, with room for a call, which is kept.
func (l *Lease) newLink() (*h2.AppConn, error) {
	s, c := &l.member.links, new(h2.AppConn)
	if err := l.connect(&c.Raw); err != nil {
		return nil, err
	}
	c.Start(l.app.shared, &replyLimits, l.app.plan.Idle, s.expected(), func() { s.remove(c) })
	s.add(c)
	return c, nil
}

// rejoin gives l another connection instead of one that has not carried the request, as
// renew does for HTTP/1. It costs a try, unless the connection was there before, once.
func (l *Lease) rejoin() error {
	l.app.queue.Count(board.Retried)
	if !l.isSpared() {
		last := l.member
		if err := l.move(); err != nil {
			return err
		}
		if l.member == last {
			time.Sleep(l.app.again)
		}
	}
	l.spared = true
	return l.join()
}

// isSpared reports whether the failure of the call costs no try.
func (l *Lease) isSpared() bool { return !l.spared && (l.reused || !l.call.Begun()) }

// resendCall sends the request once more, and what is left of its body.
func (l *Lease) resendCall(req *message.Request, body message.Source) error {
	complete, err := l.call.Resend(req)
	l.complete = complete && err == nil
	if !complete && err == nil {
		l.startUpload(req, body)
	}
	return l.hear(err)
}

// repeatableCall reports whether req may be sent once more: while there are tries left, and
// nothing of a reply has come, and the app has either done nothing of it, by its own word
// or because it cannot have read it, or is asked for nothing to be done; see repeatable. A
// body that is still under way, or longer than what was kept of it, is not sent again.
func (l *Lease) repeatableCall(req *message.Request, err error) bool {
	fault, ok := errors.AsType[*Error](err)
	if !ok || fault.Op == Connect || fault.Op == Queue || l.call.Replied() {
		return false
	}
	if !l.isSpared() && l.tries == l.app.plan.Retries {
		return false
	}
	if !l.call.Unread() && !(hungUp(err) && req.Length == 0 && isSafe(req.Method)) {
		return false
	}
	return l.uploadOver() && l.call.Resendable()
}

// uploadOver reports whether no upload is under way any more.
func (l *Lease) uploadOver() bool {
	if !l.uploading {
		return true
	}
	select {
	case <-l.uploaded:
		l.uploading = false
		return true
	default:
		return false
	}
}

// releaseCall ends the call.
func (l *Lease) releaseCall() {
	if l.call.Replied() {
		l.app.queue.CountMember(l.member.index, board.Served)
	}
	l.call.End()
}

// askCall makes one check on a connection of its own.
func (a *App) askCall(c *h2.AppConn, limit time.Duration) board.Trouble {
	c.Start(a.shared, &replyLimits, 2*checkTimeMax, 0, func() {})
	call := new(h2.Call)
	call.Open(c, 2*checkTimeMax)
	status, err := a.askWithin(call, limit)
	call.End()
	c.Retire()
	return verdictOf(status, err)
}
