package h2

import (
	"net"
	"sync"
	"sync/atomic"

	"sallyport/conf"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// An Engine serves client connections that speak HTTP/2. Its fields are set before the
// first Start and not changed after.
type Engine struct {
	Handler message.Handler
	Limits  conf.Limits

	// Refused is told of every request that never reached the Handler, and of every
	// connection that was ended because of what it sent, whose exchange has a Peer alone.
	Refused func(*message.Exchange, *message.Refusal)

	// Ended is told of the end of every connection that was started; nil if nobody asks.
	Ended func(message.Peer)

	date     message.Clock
	buffers  buffers
	streams  sync.Pool    // of *stream
	retired  atomic.Bool  // connections may end
	draining atomic.Bool  // and idle ones do
	unread   atomic.Int64 // bytes of bodies that have come

	mu      sync.Mutex               // taken before that of a connection
	conns   map[*ClientConn]struct{} // those that are not closed
	tunnels message.Tunnels          // streams of them
}

// Start speaks HTTP/2 on conn, whose bytes come from raw, and returns at once: the
// connection lives in raw's loop until it ends, and has a goroutine only while there is
// something to do.
func (e *Engine) Start(conn net.Conn, raw *loop.Conn, peer message.Peer) {
	e.start(&ClientConn{conn: conn, raw: raw, peer: peer})
}

// StartSecure is Start for a TLS session that runs on records.
func (e *Engine) StartSecure(session net.Conn, records *loop.Records, peer message.Peer) {
	records.Renew(e.Limits.WriteIdle)
	e.start(&ClientConn{conn: session, raw: records.Raw(), records: records, peer: peer})
}

func (e *Engine) start(c *ClientConn) {
	c.engine = e
	c.resume, c.flush = c.serve, c.flushOut
	c.head.start(&e.Limits, false)
	c.in.window, c.out.pool = connWindow, &e.buffers
	c.out.window, c.out.streamWindow = windowAtFirst, windowAtFirst
	c.raw.Try(true) // nobody waits in a read
	c.raw.LimitRead(e.Limits.HeadTime)
	c.limited = limitIdle
	e.mu.Lock()
	if e.conns == nil {
		e.conns = make(map[*ClientConn]struct{})
	}
	e.conns[c] = struct{}{}
	e.mu.Unlock()
	c.raw.Run(c.resume) // bytes may be there that raw knows nothing of
}

// end closes c, which nobody serves any more.
func (e *Engine) end(c *ClientConn) {
	e.mu.Lock()
	delete(e.conns, c)
	e.mu.Unlock()
	c.conn.Close()
	if e.Ended != nil {
		e.Ended(c.peer)
	}
}

// enter counts a tunnel, unless exchanges were cut.
func (e *Engine) enter(s *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.counted = e.tunnels.Enter()
}

// leave takes a tunnel off the books.
func (e *Engine) leave(s *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.counted {
		s.counted = false
		e.tunnels.Leave()
	}
}

// Sizes of the pooled buffers.
const (
	inBytes    = 18 << 10 // a frame of the length that every peer may send, and the start of the next
	outBytes   = 16 << 10 // what is gathered for one write, as long as it is little
	largeBytes = 64 << 10 // and at most, but for heads and what answers frames
	firstBytes = 4 << 10  // of the body of a request, which most often is no longer
	chunkBytes = 32 << 10 // of what follows

	sealedBytes = largeBytes / loop.RecordBytes * (loop.RecordBytes + loop.RecordFrame)
)

// buffers are the pools that all connections of an engine share.
type buffers struct {
	in, out, large, sealed, first, chunk sync.Pool // of pointers to arrays of these sizes
}

func (b *buffers) takeIn() []byte { return message.Take[[inBytes]byte](&b.in)[:] }

func (b *buffers) takeOut() []byte { return message.Take[[outBytes]byte](&b.out)[:0] }

func (b *buffers) takeLarge() []byte { return message.Take[[largeBytes]byte](&b.large)[:0] }

// takeSealed is a buffer for what largeBytes become in a TLS session.
func (b *buffers) takeSealed() []byte { return message.Take[[sealedBytes]byte](&b.sealed)[:] }

func (b *buffers) takeFirst() []byte { return message.Take[[firstBytes]byte](&b.first)[:0] }

func (b *buffers) takeChunk() []byte { return message.Take[[chunkBytes]byte](&b.chunk)[:0] }

// give takes back a buffer of one of the sizes; nil and others are left to the collector.
func (b *buffers) give(p []byte) {
	switch cap(p) {
	case inBytes:
		b.in.Put((*[inBytes]byte)(p[:inBytes]))
	case outBytes:
		b.out.Put((*[outBytes]byte)(p[:outBytes]))
	case largeBytes:
		b.large.Put((*[largeBytes]byte)(p[:largeBytes]))
	case sealedBytes:
		b.sealed.Put((*[sealedBytes]byte)(p[:sealedBytes]))
	case firstBytes:
		b.first.Put((*[firstBytes]byte)(p[:firstBytes]))
	case chunkBytes:
		b.chunk.Put((*[chunkBytes]byte)(p[:chunkBytes]))
	}
}
