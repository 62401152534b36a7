package h3

// This file is how an engine ends, as h2's drain.go has it. GOAWAY is what it is there. A
// connection that is to end stays for lingerTime: a request that was under way when its client
// was told is answered too.

// Retire tells every client to go elsewhere with what is new. A connection ends when it had an
// exchange since, and has none; until then what comes on it is answered. One of a socket that is awaited
// ends as soon as it has none.
func (e *Engine) Retire() {
	e.retired.Store(true)
	e.each(func(c *ClientConn) int {
		if c.retire(); c.awaited && !c.busy() {
			c.endSoon()
		}
		return 0
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.listeners {
		l.checkLast()
	}
}

// Drain is Retire, and closes idle connections, now and whenever one becomes idle. Exchanges
// that have begun go on.
func (e *Engine) Drain() {
	e.retired.Store(true)
	e.draining.Store(true) // who begins a handshake is told that nobody is there
	e.each(func(c *ClientConn) int {
		if c.retire(); !c.busy() {
			c.endSoon()
		}
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
		c.mu.Unlock()
	}
	return sum
}

// cutExchanges ends all but tunnels.
func (c *ClientConn) cutExchanges() int {
	for s := range c.streams {
		if s.tunnel.Load() {
			c.sayLast()
			return c.cutStreams(false)
		}
	}
	c.cut()
	return 1
}

// cutStreams ends those streams that are tunnels, or those that are not. Their goroutines see it
// and end.
func (c *ClientConn) cutStreams(tunnels bool) (cut int) {
	for s := range c.streams {
		if s.tunnel.Load() == tunnels && !s.aborted.Load() {
			s.aborted.Store(true)
			s.qs.CancelWrite(streamCode(codeCancelled))
			s.qs.CancelRead(streamCode(codeCancelled))
			cut++
		}
	}
	return cut
}
