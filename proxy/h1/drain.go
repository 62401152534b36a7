package h1

// This file is how an engine ends: which of its connections may go on, and how long.
// The limits are its owner's.
//
//	serving ── Retire ──► retired ── Drain ──► draining
//	   └──────────────────── Drain ───────────────▲
//
// Retire is for an engine whose place another one has taken: nobody is in a hurry,
// and no client may meet a closed connection that it had reason to believe open. The close
// option is the signal "that the sender will close this connection after completion of
// the response" (RFC 9112, section 9.6), so an idle connection stays until it has had a
// response with it. Drain is for the end of the service, and for those that stayed idle: they are
// closed, at the boundary of a request. One that arrives at that moment is answered if
// its first byte is there; what crosses the end on its way, the client has to send again,
// as after any idle limit.

// Retire lets every connection have one more answer, with Connection: close.
func (e *Engine) Retire() { e.retired.Store(true) }

// Drain closes idle connections, now and whenever one becomes idle. Exchanges
// that have begun go on, and their answers say Connection: close.
func (e *Engine) Drain() {
	e.retired.Store(true)
	e.draining.Store(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		c.endIdle()
	}
}

// CutExchanges ends all connections but tunnels, whatever they are at, and those that
// become tunnels later. The channel is closed when no tunnel is left; cut is how many
// connections there were.
func (e *Engine) CutExchanges() (over <-chan struct{}, cut int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tunnels.Over(), e.cutWhere(false)
}

// CutTunnels ends all tunnels, and returns how many there were.
func (e *Engine) CutTunnels() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cutWhere(true)
}

// cutWhere cuts tunnels or all others; e.mu is held, and keeps them from being closed.
func (e *Engine) cutWhere(tunnels bool) (cut int) {
	for c := range e.conns {
		if c.tunnels == tunnels {
			c.in.cut()
			cut++
		}
	}
	return cut
}

// enter counts c as a tunnel, unless it was cut.
func (e *Engine) enter(c *ClientConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.tunnels = e.tunnels.Enter()
}

// forget takes c off the books, before it is closed: nobody else touches it then.
func (e *Engine) forget(c *ClientConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	if c.tunnels {
		c.tunnels = false
		e.tunnels.Leave()
	}
}

// endIdle closes c if it is idle.
func (c *ClientConn) endIdle() {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	if c.idle {
		c.in.limitRead(-1)
	}
}

// readyLook readies c for the last read of an idle connection, which does not wait and
// asks the kernel, whatever the loop has heard. Without a loop there is no such read.
func (c *ClientConn) readyLook() bool {
	c.endIdling() // before the limit, which endIdle must not undo
	if c.in.raw == nil {
		return false
	}
	c.in.limitRead(0)
	c.in.raw.Look()
	return true
}
