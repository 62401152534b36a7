package h3

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// An Engine serves client connections that speak HTTP/3. Its fields are set before the first
// Listen and not changed after.
type Engine struct {
	Handler message.Handler
	Limits  conf.Limits

	// Run has a worker do a job, at once.
	Run func(job func())

	// Begun is asked about every connection whose handshake is over, and reports whether
	// it may stay; it may add to the peer. Nil if all may. Ended is told of the end of every
	// one that may.
	Begun func(peer *message.Peer, state *tls.ConnectionState, local net.Addr) bool
	Ended func(message.Peer)

	// Failed is told of a socket that nothing can be read from any more; nil if nobody asks.
	Failed func(error)

	// Refused is told of every request that never reached the Handler, and of every
	// connection that was ended because of what it sent, whose exchange has a Peer alone.
	Refused func(*message.Exchange, *message.Refusal)

	date     message.Clock
	buffers  buffers
	streams  sync.Pool    // of *stream
	retired  atomic.Bool  // connections may end
	draining atomic.Bool  // and idle ones do
	shaking  atomic.Int64 // connections whose handshake is not over

	mu        sync.Mutex               // taken before that of a connection
	conns     map[*ClientConn]struct{} // those that are not closed
	tunnels   message.Tunnels          // streams of them
	listeners []*Listener
}

// serve speaks HTTP/3 on a connection until it ends.
func (e *Engine) serve(conn *quic.Conn, awaited bool) {
	c := &ClientConn{engine: e, conn: conn, awaited: awaited}
	c.peer.Addr, c.flush = addrOf(conn), c.flushOut
	if state := conn.ConnectionState(); e.Begun != nil && !e.Begun(&c.peer, &state.TLS, conn.LocalAddr()) {
		_ = conn.CloseWithError(quic.ApplicationErrorCode(codeExcessiveLoad), "") // it is gone either way
		return
	}
	e.mu.Lock()
	if e.conns == nil {
		e.conns = make(map[*ClientConn]struct{})
	}
	e.conns[c] = struct{}{}
	e.mu.Unlock()
	c.serve()
	e.mu.Lock()
	delete(e.conns, c)
	e.mu.Unlock()
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

// Connections is how many there are.
func (e *Engine) Connections() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

// Sizes of the pooled buffers.
const (
	outBytes   = 16 << 10 // what is gathered of an answer before it is sent
	firstBytes = 4 << 10  // of a request, which most often is no longer
	chunkBytes = 32 << 10 // of what follows
)

// buffers are the pools that all connections of an engine share.
type buffers struct {
	out, first, chunk sync.Pool // of pointers to arrays of these sizes
}

func (b *buffers) takeOut() []byte { return message.Take[[outBytes]byte](&b.out)[:0] }

func (b *buffers) takeFirst() []byte { return message.Take[[firstBytes]byte](&b.first)[:] }

func (b *buffers) takeChunk() []byte { return message.Take[[chunkBytes]byte](&b.chunk)[:] }

// give takes back a buffer of one of the sizes; nil and others are left to the collector.
func (b *buffers) give(p []byte) {
	switch cap(p) {
	case outBytes:
		b.out.Put((*[outBytes]byte)(p[:outBytes]))
	case firstBytes:
		b.first.Put((*[firstBytes]byte)(p[:firstBytes]))
	case chunkBytes:
		b.chunk.Put((*[chunkBytes]byte)(p[:chunkBytes]))
	}
}
