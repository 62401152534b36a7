package h2

import "slices"

// This file is how an engine ends, as h1's drain.go has it. GOAWAY is what Connection: close
// is there: a client that was told so goes elsewhere with what is new, and what it has sent
// by then is answered. "A server that is attempting to gracefully shut down a connection
// SHOULD send an initial GOAWAY frame with the last stream identifier set to 2^31-1 [...]
// After allowing time for any in-flight stream creation [...], the server MAY send another
// GOAWAY frame with an updated last stream identifier" RFC 9113, section 6.8. The time is
// that of a PING.

// Retire tells every client to go elsewhere with what is new. A connection ends when it
// had an exchange since, and has none; until then what comes on it is answered.
func (e *Engine) Retire() {
	e.retired.Store(true)
	e.each(func(c *ClientConn) int {
		c.retire()
		return 0
	})
}

// Drain is Retire, and closes idle connections, now and whenever one becomes idle. Exchanges
// that have begun go on.
func (e *Engine) Drain() {
	e.retired.Store(true)
	e.draining.Store(true)
	e.each(func(c *ClientConn) int {
		c.drain()
		return 0
	})
}

// CutExchanges ends all streams but tunnels, and the connections without any. The channel is
// closed when no tunnel is left; cut is how many connections and streams there were.
func (e *Engine) CutExchanges() (over <-chan struct{}, cut int) {
	e.mu.Lock()
	over = e.tunnels.Over()
	e.mu.Unlock()
	return over, e.each((*ClientConn).cutExchanges)
}

// CutTunnels ends all tunnels, and returns how many there were.
func (e *Engine) CutTunnels() int {
	return e.each(func(c *ClientConn) int { return c.cutStreams(true) })
}

// each calls do, which is a sum, with every connection that is not closed, whose lock is held.
func (e *Engine) each(do func(*ClientConn) int) (sum int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		c.mu.Lock()
		sum += do(c)
		c.kick()
		c.mu.Unlock()
	}
	return sum
}

// retire tells the client to go elsewhere, and asks it to say that it knows.
func (c *ClientConn) retire() {
	if c.ending.away || c.ending.fatal || !c.in.greeted {
		return
	}
	c.ending.away, c.ending.answered = true, c.owes()
	c.out.buf = appendGoAway(c.takeOut(), streamMost, codeNone)
	c.out.buf = append(appendHeader(c.out.buf, pingBytes, kindPing, 0, 0), lastPing...)
}

// crossing reports whether the client may not know yet that it is to go elsewhere: streams
// that it began before are on their way.
func (c *ClientConn) crossing() bool { return c.ending.away && !c.ending.crossed }

// knows is when the client's answer to lastPing is here, behind what crossed it.
func (c *ClientConn) knows() {
	c.ending.crossed = true
	if c.engine.draining.Load() || c.ending.answered {
		c.sayLast(c.last, codeNone)
	}
}

// emptied is when the last stream has ended.
func (c *ClientConn) emptied() {
	c.limit()
	switch {
	case c.crossing(): // until the client knows
	case c.engine.draining.Load():
		c.lookAgain()
	case c.ending.answered && c.ending.crossed:
		c.sayLast(c.last, codeNone)
	}
}

// owes reports whether a stream has still an answer to end. One that has none may be here a
// little longer, when its client has asked for the next thing.
func (c *ClientConn) owes() bool {
	return slices.ContainsFunc(c.streams, func(s *stream) bool { return !s.finished })
}

// drain has the client go, and the connection end if it is idle.
func (c *ClientConn) drain() {
	c.retire()
	if len(c.streams) == 0 {
		c.emptied()
	}
}

// lookAgain has the reader come, unless it is there, or no more comes.
func (c *ClientConn) lookAgain() {
	c.raw.Look()
	if c.raw.Claim() {
		c.raw.Run(c.resume)
	}
}

// cutExchanges ends all but tunnels.
func (c *ClientConn) cutExchanges() int {
	for _, s := range c.streams {
		if s.tunnel {
			cut := c.cutStreams(false)
			c.sayLast(c.last, codeNone)
			return cut
		}
	}
	c.fail(errCut)
	return 1
}

// cutStreams ends those streams that are tunnels, or those that are not.
func (c *ClientConn) cutStreams(tunnels bool) (cut int) {
	for _, s := range c.streams {
		if s.tunnel == tunnels && !s.gone {
			s.abort(codeCancel)
			cut++
		}
	}
	return cut
}
