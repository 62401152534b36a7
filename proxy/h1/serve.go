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
)

// An Engine serves client connections that speak HTTP/1. Its fields are set
// before the first Serve and not changed after.
type Engine struct {
	Handler message.Handler
	Limits  conf.Limits
	Buffers *Buffers

	// Refused is told of every request that never reached the Handler.
	Refused func(*message.Exchange, *message.Refusal)

	date     clock
	draining atomic.Bool

	mu    sync.Mutex
	conns map[*ClientConn]struct{} // those that Serve is serving
}

// Serve speaks HTTP/1 on conn until the connection ends, and closes it.
func (e *Engine) Serve(conn net.Conn, peer message.Peer, secure bool) {
	c := &ClientConn{engine: e, conn: conn, secure: secure}
	c.in.conn, c.in.buffers = conn, e.Buffers
	c.body = body{in: &c.in, limits: &e.Limits, trailer: &c.exchange.Request.Trailer}
	c.exchange.Peer, c.exchange.Stream = peer, c
	e.add(c)
	defer e.remove(c)
	c.serve()
}

// Drain closes idle connections, now and whenever one becomes idle. Exchanges
// that have begun go on, and their answers say Connection: close.
func (e *Engine) Drain() {
	e.draining.Store(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		c.endIdle()
	}
}

// endIdle closes c if it is idle.
func (c *ClientConn) endIdle() {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	if c.idle {
		c.in.limit(-1)
	}
}

func (c *ClientConn) setIdle(idle bool) {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	c.idle = idle
}

func (e *Engine) add(c *ClientConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conns == nil {
		e.conns = make(map[*ClientConn]struct{})
	}
	e.conns[c] = struct{}{}
}

func (e *Engine) remove(c *ClientConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}

// A ClientConn is a connection of a client. It is the Stream of its exchanges,
// one after the other:
//
//	idle -> head -> serving -> idle      as long as both sides keep the connection
//	         \         \-----> closed    no keep-alive, tunnel over, aborted
//	          \-> refused ---> closed
type ClientConn struct {
	engine   *Engine
	conn     net.Conn
	secure   bool
	in       reader
	body     body // of the request
	exchange message.Exchange
	lower    []byte // the Authority, where the client wrote capitals
	served   int    // exchanges

	idleMu sync.Mutex // orders the deadline that Drain sets before those of a request
	idle   bool       // waiting for a request; guarded by idleMu

	// received is true once the whole request body was handed out; the one thing
	// that a writer must know of a reader.
	received atomic.Bool

	mu     sync.Mutex // orders a 100 Continue, which a reader sends, before the answer
	expect bool       // a 100 Continue is still owed; guarded by mu

	reply reply
}

func (c *ClientConn) serve() {
	defer c.conn.Close()
	defer c.in.discard()
	for c.awaitRequest() {
		refusal := c.readHead()
		switch {
		case refusal == nil:
			c.engine.Handler.Serve(&c.exchange)
		case refusal == errClosed:
			return
		default:
			c.refuse(refusal)
		}
		if !c.endExchange() {
			return
		}
	}
}

// errClosed stands for a connection that ended inside a head: nobody is left to
// tell.
var errClosed = &message.Refusal{Cause: "connection closed inside a head"}

// awaitRequest waits until the first bytes of a request are there.
func (c *ClientConn) awaitRequest() bool {
	if len(c.in.unused()) == 0 {
		c.in.narrow()
		wait := c.engine.Limits.KeepaliveIdle
		if c.served == 0 {
			wait = c.engine.Limits.HeadTime
		}
		c.in.idle = 0
		c.in.limit(wait)
		// Drain sets draining before it looks for idle connections, and we say that
		// we are idle before we look at draining: one of us sees the other.
		c.setIdle(true)
		if c.engine.draining.Load() || c.in.fill() != nil {
			return false
		}
		c.setIdle(false)
	}
	c.exchange.Begun = time.Now()
	return true
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
	c.in.idle = 0
	c.in.limit(c.engine.Limits.HeadTime)
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
	how, minor, err := parseRequest(head, req, &c.lower, &c.engine.Limits)
	c.reply.minor = minor
	if err != nil {
		return refusalOf(err)
	}
	req.Secure = c.secure
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
	c.in.pace(limits.BodyIdle)
	if how.Chunked {
		c.body.inChunks()
	} else {
		c.body.sized(req.Length)
	}
	c.received.Store(c.body.done())
	// "A server that receives a 100-continue expectation in an HTTP/1.0 request
	// MUST ignore that expectation" RFC 9110, section 10.1.1
	c.expect = how.Continue && c.reply.minor == 1 && !c.body.done()
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
		c.reset()
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

// reset closes so that the client takes what it has for a fragment: by a TCP
// reset, and under TLS without a closing alert.
func (c *ClientConn) reset() {
	conn := c.conn
	if inner, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = inner.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a connection that is gone needs no reset
	}
	conn.Close()
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
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.in.discard()
	c.in.resume()
	c.in.widen()
	c.in.idle = 0
	c.in.limit(lingerTime)
	for read := 0; read < lingerBytes; {
		if c.in.fill() != nil {
			return
		}
		read += len(c.in.unused())
		c.in.from = c.in.to
	}
}
