package upstream

import (
	"sync"
	"time"

	"sallyport/sockets/loop"
)

// idleMax is how long a connection stays idle. Servers end theirs after 2 s (gunicorn),
// 5 s (uvicorn) or 65 s (puma); who is always earlier does not send into a connection
// that is being closed, and a unix socket that was closed too early costs one connect.
const idleMax = time.Second

// A conn is a connection to a member: in a lease, or idle in the pool of its member.
//
//	          Rest, room           Claim
//	leased ────────────────► idle ───────► leased
//	   │                      │ bytes, end or idleMax; close
//	   └──────────────────────┴───────► closed
//
// While it is idle it has neither goroutine nor buffer: the loop watches it.
type conn struct {
	raw    loop.Conn
	pool   *pool
	resume func() // woken, bound once

	older, newer *conn // both guarded by pool.mu, as idle is
	idle         bool

	probe [1]byte
}

// A pool is the idle connections of a member, at most keep of them.
type pool struct {
	keep  int
	spare *sync.Pool // of *conn that are closed

	mu     sync.Mutex // taken before what the loop locks
	newest *conn
	count  int
	closed bool
}

// fresh is a conn that is not connected yet.
func (p *pool) fresh() *conn {
	c, ok := p.spare.Get().(*conn)
	if !ok {
		c = new(conn)
		c.resume = c.woken
	}
	c.pool = p
	return c
}

// drop closes c, which is nobody else's. A second close of raw is no harm.
func (c *conn) drop() {
	c.raw.Close()
	c.pool.spare.Put(c)
}

// take is the connection that was used last, or nil. It is the caller's: a conn whose
// end the loop has seen is not taken but left to woken.
func (p *pool) take() *conn {
	if p.keep == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := p.newest; c != nil; c = p.newest {
		p.unlink(c)
		switch {
		case !c.raw.Claim(): // under mu: woken takes it first, so that c is not another one by now
		case c.raw.Ended():
			c.drop()
		default:
			return c
		}
	}
	return nil
}

// put makes c idle, or closes it where there is no room.
func (p *pool) put(c *conn) {
	c.raw.LimitRead(idleMax)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.count >= p.keep {
		c.drop()
		return
	}
	c.older, c.newer, c.idle = p.newest, nil, true
	if c.older != nil {
		c.older.newer = c
	}
	p.newest = c
	p.count++
	c.raw.Idle(c.resume) // which may be called before this returns, and waits for mu
}

// unlink takes c out of the list; mu is held.
func (p *pool) unlink(c *conn) {
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		p.newest = c.older
	}
	if c.older != nil {
		c.older.newer = c.newer
	}
	c.older, c.newer, c.idle = nil, nil, false
	p.count--
}

// woken closes an idle connection: bytes that nobody asked for, its end, or idleMax has
// passed. An edge that belongs to a reply that was read already is none of these.
func (c *conn) woken() {
	p := c.pool
	p.mu.Lock()
	if c.idle {
		p.unlink(c)
	}
	p.mu.Unlock()
	c.raw.Try(true)
	_, err := c.raw.Read(c.probe[:])
	c.raw.Try(false)
	if err == loop.ErrWouldBlock {
		p.put(c)
		return
	}
	c.drop()
}

// close closes all that are idle, and those that would be later.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := p.newest; c != nil; c = p.newest {
		p.unlink(c)
		if c.raw.Claim() {
			c.drop()
		}
	}
}
