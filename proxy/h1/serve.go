package h1

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// An Engine serves client connections that speak HTTP/1. Its fields are set
// before the first Serve and not changed after.
type Engine struct {
	Handler message.Handler
	Limits  conf.Limits
	Buffers *Buffers

	// Refused is told of every request that never reached the Handler.
	Refused func(*message.Exchange, *message.Refusal)

	// Ended is told of the end of every connection that was started; nil if nobody asks.
	Ended func(message.Peer)

	date     message.Clock
	turns    sync.Pool   // of *turn
	retired  atomic.Bool // answers say Connection: close
	draining atomic.Bool // and idle connections are closed

	mu      sync.Mutex
	conns   map[*ClientConn]struct{} // those that are served, and not closed
	tunnels message.Tunnels          // among them
}

// Start speaks HTTP/1 on conn, whose bytes come from raw, and returns at once: the
// connection lives in raw's loop until it ends, and has a goroutine only while there is
// something to do.
func (e *Engine) Start(conn net.Conn, raw *loop.Conn, peer message.Peer) {
	c := e.open(wire{conn: conn, raw: raw}, peer)
	c.resume = c.serve
	if conn != net.Conn(raw) {
		raw.Run(c.resume) // conn may hold bytes already that raw knows nothing of
		return
	}
	c.setIdle(e.Limits.HeadTime)
	raw.Idle(c.resume)
}

// StartSecure is Start for a TLS session that runs on records.
func (e *Engine) StartSecure(session net.Conn, records *loop.Records, peer message.Peer) {
	c := e.open(wire{session, records.Raw(), records}, peer)
	c.resume = c.serve
	records.Renew(e.Limits.WriteIdle)
	c.in.raw.Run(c.resume) // the session may hold bytes already
}

// Serve speaks HTTP/1 on conn, which waits by itself, until the connection ends.
func (e *Engine) Serve(conn net.Conn, peer message.Peer) {
	e.open(wire{conn: conn}, peer).serve()
}

// open begins the books on a connection, which may be cut from then on.
func (e *Engine) open(w wire, peer message.Peer) *ClientConn {
	c := &ClientConn{engine: e, peer: peer}
	c.in.wire, c.in.buffers = w, e.Buffers
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conns == nil {
		e.conns = make(map[*ClientConn]struct{})
	}
	e.conns[c] = struct{}{}
	return c
}

// end closes c, which nobody serves any more.
func (e *Engine) end(c *ClientConn) {
	e.forget(c)
	c.in.discard()
	c.in.conn.Close()
	c.giveTurn()
	if e.Ended != nil {
		e.Ended(c.peer)
	}
}

// setIdle begins to wait for a request, for at most wait.
func (c *ClientConn) setIdle(wait time.Duration) {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	c.in.limitAll(wait)
	c.idle = true
}

func (c *ClientConn) endIdling() {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	c.idle = false
}

// A ClientConn is a connection of a client. It is the Stream of its exchanges,
// one after the other:
//
//	idle -> head -> serving -> idle      as long as both sides keep the connection
//	         \         \-----> closed    no keep-alive, tunnel over, aborted
//	          \-> refused ---> closed
type ClientConn struct {
	engine *Engine
	peer   message.Peer
	resume func() // serve, made once; nil for a connection that waits by itself
	in     reader
	served int // exchanges
	*turn      // nil while idle in a loop

	idleMu sync.Mutex // orders the deadline that Drain sets before those of a request
	idle   bool       // waiting for a request; guarded by idleMu

	tunnels bool // counted in engine.tunnels; guarded by engine.mu

	// received is true once the whole request body was handed out; the one thing
	// that a writer must know of a reader.
	received atomic.Bool

	mu     sync.Mutex // orders a 100 Continue, which a reader sends, before the answer
	expect bool       // a 100 Continue is still owed; guarded by mu
}

// A turn is what a connection has only while it has exchanges: ten thousand idle
// ones share the few that are needed at a time.
type turn struct {
	exchange message.Exchange
	body     body // of the request
	reply    reply
	lower    []byte // the Authority, where the client wrote capitals

	source message.Drainable // of the answer's body; nil if it is none
	behind func()            // its Behind, made once
}

// takeTurn readies c for exchanges.
func (c *ClientConn) takeTurn() {
	if c.turn != nil {
		return
	}
	t, ok := c.engine.turns.Get().(*turn)
	if !ok {
		t = new(turn)
		t.behind = func() { t.source.Behind() }
	}
	t.body = body{in: &c.in, limits: &c.engine.Limits, trailer: &t.exchange.Request.Trailer}
	t.exchange.Peer, t.exchange.Stream = c.peer, c
	c.turn = t
}

// giveTurn gives back what takeTurn took, if anything.
func (c *ClientConn) giveTurn() {
	if t := c.turn; t != nil {
		t.exchange.Stream, t.body, t.reply, t.source = nil, body{}, reply{}, nil
		c.turn = nil
		c.engine.turns.Put(t)
	}
}

// serve serves requests until the connection ends, or is idle in its loop, which
// calls serve again.
func (c *ClientConn) serve() {
	for {
		switch c.awaitRequest() {
		case parked:
			return
		case over:
			c.engine.end(c)
			return
		}
		if !c.serveRequest() {
			c.engine.end(c)
			return
		}
	}
}

// serveRequest serves one request, and reports whether the connection goes on.
func (c *ClientConn) serveRequest() bool {
	refusal := c.readHead()
	switch {
	case refusal == nil:
		c.engine.Handler.Serve(&c.exchange)
	case refusal == errClosed:
		return false
	default:
		c.refuse(refusal)
	}
	return c.endExchange()
}

// errClosed stands for a connection that ended inside a head: nobody is left to
// tell.
var errClosed = &message.Refusal{Cause: "connection closed inside a head"}

// An arrival is how waiting for a request ended.
type arrival uint8

const (
	arrived arrival = iota // bytes of it are there
	parked                 // the loop has the connection: hands off
	over                   // none will come
)

// awaitRequest waits until the first bytes of a request are there, or parks.
func (c *ClientConn) awaitRequest() arrival {
	if len(c.in.unused()) == 0 {
		c.in.narrow()
		if !c.idle { // else its limit goes on: bytes that are no request do not extend it
			wait := c.engine.Limits.KeepaliveIdle
			if c.served == 0 {
				wait = c.engine.Limits.HeadTime
			}
			// Drain sets draining before it looks for idle connections, and we say that we
			// are idle before we look at draining: one of us sees the other.
			c.setIdle(wait)
		}
		last := c.engine.draining.Load()
		if last && !c.readyLook() {
			return over
		}
		switch err := c.tryFill(); {
		case err == loop.ErrWouldBlock && last:
			return over
		case err == loop.ErrWouldBlock:
			c.in.release()
			c.giveTurn()
			c.in.raw.Idle(c.resume)
			return parked
		case !last && errors.Is(err, os.ErrDeadlineExceeded) && c.engine.draining.Load():
			return c.awaitRequest() // Drain ended the limit under this read: the last look is still due
		case err != nil:
			return over
		}
		c.endIdling()
	}
	c.takeTurn()
	c.exchange.Begun = time.Now()
	return arrived
}

// tryFill fills with what is there, and waits only where nobody else can.
func (c *ClientConn) tryFill() error {
	switch {
	case c.in.raw == nil:
		return c.in.fill()
	case c.in.drained():
		return loop.ErrWouldBlock
	}
	c.in.raw.Try(true)
	defer c.in.raw.Try(false)
	return c.in.fill()
}

// readHead reads a head and readies c for the exchange.
func (c *ClientConn) readHead() *message.Refusal {
	req := &c.exchange.Request
	req.Reset()
	c.served++
	c.reply = reply{minor: 1}
	c.body.toClose() // until the head tells
	c.received.Store(false)
	c.expect = false
	c.in.limitAll(c.engine.Limits.HeadTime)
	if err := c.skipEmptyLine(); err != nil {
		return refusalOf(err)
	}
	head, err := c.in.head(&c.engine.Limits)
	switch {
	case err != nil && len(c.in.unused()) == 0:
		return errClosed // an empty line behind a body began no request
	case err != nil:
		return refusalOf(err)
	}
	req.Secure = c.in.records != nil
	how, minor, err := parseRequest(head, req, &c.lower, &c.engine.Limits)
	c.reply.minor = minor
	if err != nil {
		return refusalOf(err)
	}
	c.exchange.Protocol = [...]string{"HTTP/1.0", "HTTP/1.1"}[minor]
	c.begin(how)
	return nil
}

// skipEmptyLine obeys "a server that is expecting to receive and parse a
// request-line SHOULD ignore at least one empty line (CRLF) received prior to the
// request-line" RFC 9112, section 2.2.
func (c *ClientConn) skipEmptyLine() error {
	if c.in.unused()[0] != '\r' {
		return nil
	}
	line, err := c.in.line(1, message.ErrRequestLine)
	if err == nil && len(line) > 0 {
		err = message.ErrRequestLine
	}
	return err
}

// begin readies c for the body and the answer of a request that was accepted.
func (c *ClientConn) begin(how message.Framing) {
	limits := &c.engine.Limits
	req := &c.exchange.Request
	c.reply.head = string(req.Method) == "HEAD"
	c.reply.keep = !how.Close && (c.reply.minor == 1 || how.Keep) &&
		(limits.RequestsPerConnection == 0 || c.served < limits.RequestsPerConnection)
	c.in.pace(limits.BodyIdle, message.NewRate(limits.BodyRate, limits.BodyIdle))
	if how.Chunked {
		c.body.inChunks()
	} else {
		c.body.sized(req.Length)
	}
	c.received.Store(c.body.done())
	// "A server that receives a 100-continue expectation in an HTTP/1.0 request
	// MUST ignore that expectation" RFC 9110, section 10.1.1
	c.reply.continues = how.Continue && c.reply.minor == 1
	c.expect = c.reply.continues && !c.body.done()
}

// refusalOf is err as what the client is told.
func refusalOf(err error) *message.Refusal {
	var refusal *message.Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, os.ErrDeadlineExceeded):
		return message.ErrHeadTime
	}
	return errClosed
}

// refuse answers a request that breaks a rule. Its connection ends with it.
func (c *ClientConn) refuse(refusal *message.Refusal) {
	c.engine.Refused(&c.exchange, refusal)
	c.reply.keep = false
	c.received.Store(false)
	page := message.Page{Status: refusal.Status, Text: refusal.Cause}
	_ = page.Send(c) // the connection ends either way
}

// endExchange reports whether the connection can carry another one.
func (c *ClientConn) endExchange() bool {
	switch {
	case !c.reply.finished:
		c.engine.forget(c)
		c.in.reset()
		return false
	case !c.received.Load():
		c.linger()
		return false
	}
	if c.body.settle(); !c.reply.keep && len(c.in.unused()) > 0 {
		c.linger() // more requests, which will not be answered
	}
	return c.reply.keep
}

// Bounds of linger: a client that still sends after this much gets its reset. A
// client that looks for an answer only when it has sent a whole file needs both.
const (
	lingerBytes = 32 << 20
	lingerTime  = 5 * time.Second
)

// linger closes for writing, and reads for a moment what the client still sends:
// closing with unread bytes resets the connection, and the reset may overtake the
// answer ("the server [...] lingering close" RFC 9112, section 9.6).
func (c *ClientConn) linger() {
	if c.in.closeWrite() != nil {
		return
	}
	c.in.discard()
	c.in.resume()
	c.in.widen()
	c.in.limitAll(lingerTime)
	for read := 0; read < lingerBytes; {
		if c.in.fill() != nil {
			return
		}
		read += len(c.in.unused())
		c.in.from = c.in.to
	}
}
