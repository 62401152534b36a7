package h3

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// A Socket is what a Listener needs besides a UDP socket.
type Socket struct {
	Conn *net.UDPConn
	TLS  *tls.Config

	// Prefix is what the ids of connections begin with, by which the kernel finds this
	// socket among those of its address. Nil for a socket that is alone.
	Prefix []byte

	// Awaited is a socket that another process is to have when the engine retires: its connections
	// end as soon as they have no exchange, no new ones begin, and it is closed then.
	Awaited bool

	// Reset and Token are the keys of stateless resets and of address validation, the same
	// for every core: what one has begun, its successor can end.
	Reset, Token [32]byte
}

// A Listener takes the connections of a socket.
type Listener struct {
	engine    *Engine
	listener  *quic.Listener
	transport *quic.Transport
	conn      *net.UDPConn
	closed    atomic.Bool
	awaited   bool
	conns     int // that are not over; guarded by engine.mu
}

// Bounds of handshakes that are not over. An address that was not validated costs a signature;
// with more of them than shakingTrusted under way every client shows first that it is where
// it says (RFC 9000, section 8.1.2), and with more than shakingMost it is refused.
const (
	shakingTrusted = 64
	shakingMost    = 4096
)

// What a client may send before the app, or the spool, has taken it; see h2's data.go.
const (
	streamWindow = 128 << 10
	connWindow   = 1 << 20
)

// uniStreamsMost is how many streams without a request a client may have: a control stream, two
// of QPACK ("at least three" RFC 9114, section 6.2), and others that are refused at once.
const uniStreamsMost = 8

// idleLeast is for what limits.keepalive_idle does not know of: an app that takes its time. A
// client that waits keeps its connection ("a client is expected to request that the transport
// keep connections open" RFC 9114, section 5.1).
const idleLeast = 2 * time.Minute

// Why a handshake is refused.
var (
	errShaking = errors.New("h3: too many handshakes under way")
	errLeaving = errors.New("h3: another process is to have the socket")
)

// Listen has the engine serve what comes to a socket, until Drain.
func (e *Engine) Listen(s Socket) (*Listener, error) {
	reset, token := quic.StatelessResetKey(s.Reset), quic.TokenGeneratorKey(s.Token)
	l := &Listener{engine: e, conn: s.Conn, awaited: s.Awaited}
	transport := &quic.Transport{
		Conn:                s.Conn,
		StatelessResetKey:   &reset,
		TokenGeneratorKey:   &token,
		VerifySourceAddress: func(net.Addr) bool { return e.shaking.Load() > shakingTrusted },
		ConnContext:         l.shakeHands,
		ConnectionIDGenerator: &ids{
			prefix: s.Prefix,
		},
	}
	listener, err := transport.Listen(s.TLS, e.config())
	if err != nil {
		return nil, err
	}
	l.listener, l.transport = listener, transport
	e.mu.Lock()
	e.listeners = append(e.listeners, l)
	l.checkLast()
	e.mu.Unlock()
	go l.acceptLoop()
	return l, nil
}

// config is QUIC's own. There is no 0-RTT: what comes so can be sent again by anybody who has
// seen it, to every core, and none of them knows of the others; a request that may be repeated
// is something the app would have to say.
func (e *Engine) config() *quic.Config {
	limits := &e.Limits
	return &quic.Config{
		HandshakeIdleTimeout:           limits.HeadTime / 2, // the whole takes at most twice that
		MaxIdleTimeout:                 max(limits.KeepaliveIdle, limits.WriteIdle, idleLeast),
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         streamWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     connWindow,
		MaxIncomingStreams:             int64(limits.Streams),
		MaxIncomingUniStreams:          uniStreamsMost,
		RequireStreamCreditRelease:     true, // resetting a stream gains nothing until its exchange is over
	}
}

// shakeHands counts a connection whose handshake begins, until it has ended. One that it refuses is
// told so (CONNECTION_REFUSED in RFC 9000, section 20.1).
func (l *Listener) shakeHands(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	e := l.engine
	switch {
	case e.draining.Load(), l.awaited && e.retired.Load():
		return nil, errLeaving
	case e.shaking.Load() >= shakingMost:
		return nil, errShaking
	}
	e.shaking.Add(1)
	context.AfterFunc(ctx, func() { e.shaking.Add(-1) })
	return ctx, nil
}

// Close ends all connections of the socket, and closes it. An engine that ends with its process
// need not call it.
func (l *Listener) Close() error {
	l.closed.Store(true)
	return errors.Join(l.transport.Close(), l.conn.Close())
}

// acceptLoop ends with the listener.
func (l *Listener) acceptLoop() {
	for {
		conn, err := l.listener.Accept(context.Background())
		if err != nil {
			if e := l.engine; !e.draining.Load() && !l.closed.Load() && e.Failed != nil {
				e.Failed(err)
			}
			return
		}
		l.engine.shaking.Add(-1)
		l.engine.mu.Lock()
		l.conns++
		l.engine.mu.Unlock()
		go l.serve(conn)
	}
}

// serve serves a connection; that it was counted once more than it is over is put right.
func (l *Listener) serve(conn *quic.Conn) {
	e := l.engine
	e.serve(conn, l.awaited)
	<-conn.Context().Done()
	e.shaking.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	l.conns--
	l.checkLast()
}

// checkLast lets go of a socket that is awaited when the engine has retired and its last connection is
// over; e.mu is held.
func (l *Listener) checkLast() {
	if l.awaited && l.conns == 0 && l.engine.retired.Load() && !l.closed.Swap(true) {
		go l.letGo()
	}
}

// letGo refuses the handshakes that are under way, and closes the socket.
func (l *Listener) letGo() {
	_ = l.listener.Close() // it has no error but this one's
	if err := l.Close(); err != nil && l.engine.Failed != nil {
		l.engine.Failed(err)
	}
}

// ids makes the ids of connections: the prefix, and what is random.
type ids struct{ prefix []byte }

// idBytes is the length of an id: with 3 bytes of prefix, 40 random bits.
const idBytes = 8

func (i *ids) GenerateConnectionID() (quic.ConnectionID, error) {
	var b [idBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	copy(b[:], i.prefix)
	return quic.ConnectionIDFromBytes(b[:]), nil
}

func (i *ids) ConnectionIDLen() int { return idBytes }

func streamCode(c code) quic.StreamErrorCode { return quic.StreamErrorCode(c) }
