package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/proxy"
	"sallyport/proxy/h1"
	"sallyport/proxy/h3"
	"sallyport/proxy/message"
	"sallyport/sockets"
	"sallyport/sockets/loop"
	"sallyport/tlsload"
	"sallyport/upstream"
	"sallyport/upstream/board"
	"sallyport/upstream/spool"
)

// A front is where clients arrive: it accepts connections, does their TLS
// handshake and gives them to the engine that speaks their protocol.
type front struct {
	loop      *loop.Loop
	apps      []*upstream.App
	engines   engines
	h2c       bool             // plain connections may begin with HTTP/2
	keyring   *tlsload.Keyring // nil without certificates
	tls       *tls.Config      // likewise
	proves    bool             // a CA may come and look
	asks      bool             // some site asks for certificates of clients
	proxied   *conf.Core       // whose proxies begin with a PROXY header; nil without that protocol
	trusts    func(netip.Addr) bool
	quic      *atomic.Uint64   // connections of QUIC, on the board
	addresses *board.Addresses // nil without limits by address
	board     *board.Board
	handshake time.Duration
	log       zerolog.Logger
	doors     []door
	slots     []h3.Socket   // for QUIC
	slotFDs   []int         // of these
	leaving   chan struct{} // closed by leave when no new connections are to come
	leave     func()
	listening []*loop.Listener // since open
	garbage   garbage
	silent    silents

	connections sync.WaitGroup
	count       atomic.Int64 // of connections
}

// A door is one listener.
type door struct {
	fd     int
	name   string
	secure bool
}

// newFront wires a core: the keeper's certificates, the forwarder with its apps,
// the engine, and the listeners.
func newFront(plan *conf.Core, shared *board.Board, arena *spool.Arena, gifts sockets.Gifts, slot int, log zerolog.Logger) (*front, error) {
	watcher, err := loop.New()
	if err != nil {
		return nil, err
	}
	buffers := new(h1.Buffers)
	apps := upstream.New(plan.Apps, shared, watcher, buffers)
	forwarder := proxy.New(plan, apps, log)
	forwarder.Buffer(arena)
	f := &front{
		loop:      watcher,
		apps:      apps,
		h2c:       plan.H2C,
		trusts:    plan.Trusts,
		board:     shared,
		quic:      shared.QUIC(),
		addresses: shared.Addresses(plan.Limits.ConnectionsPerAddress, plan.Limits.Rate),
		handshake: plan.Limits.HeadTime,
		log:       log,
		leaving:   make(chan struct{}),
	}
	f.leave = sync.OnceFunc(func() { close(f.leaving) })
	if plan.Limits.Rate > 0 {
		forwarder.Admits = f.addresses.Ask
	}
	f.engines = newEngines(forwarder, plan.Limits, buffers, f)
	if plan.ProxyProtocol {
		f.proxied = plan
	}
	if plan.Certificates > 0 {
		link, err := gifts.FD("link")
		if err != nil {
			return nil, err
		}
		f.keyring, err = tlsload.Open(link, plan.Certificates, func(message string, err error) {
			log.Warn().Err(err).Msg(message)
		})
		if err != nil {
			return nil, err
		}
		f.tls, f.asks = f.keyring.Config(*plan), asksClients(plan.Sites)
		if f.proves = plan.ACME; f.proves {
			f.engines.h1.Handler = &proving{forwarder, f.keyring, log}
			f.engines.h2.Handler = f.engines.h1.Handler
		}
	}
	for _, l := range plan.Listeners {
		fd, err := gifts.FD(l.Gift)
		if err != nil {
			return nil, err
		}
		f.doors = append(f.doors, door{fd, l.Address, l.Secure})
	}
	if plan.H3 && plan.Certificates > 0 {
		err = f.inheritSlots(plan, gifts, slot)
	}
	return f, err
}

// come settles how connections to apps are made, says what that takes, and begins the
// checks, which make the first.
func (f *front) come(given inheritance) (ways jail.Ways, err error) {
	if ways, err = f.waysOf(given); err != nil {
		return ways, err
	}
	for _, app := range f.apps {
		app.Watch(f.log)
	}
	return ways, nil
}

// waysOf is what the warden has said of them.
func (f *front) waysOf(given inheritance) (jail.Ways, error) {
	if given.apps == "paths" {
		return jail.Ways{Connects: true, Slots: f.slotFDs}, nil
	}
	link, err := given.gifts.FD("dialer")
	if err != nil {
		return jail.Ways{}, err
	}
	dialer, err := upstream.NewDialer(link)
	if err != nil {
		return jail.Ways{}, err
	}
	rooted := given.apps == "root"
	if !rooted && given.apps != "dialer" {
		return jail.Ways{}, fmt.Errorf("core: %q is no way to apps", given.apps)
	}
	upstream.Come(f.apps, upstream.Way{Dialer: dialer, Always: !rooted})
	go dialer.Serve()
	return jail.Ways{Connects: rooted, Dialer: link, Slots: f.slotFDs}, nil
}

// open begins to accept.
func (f *front) open() error {
	for _, d := range f.doors {
		failed := f.refuse(d)
		listener, err := f.loop.Listen(d.fd, func(fd int, from unix.Sockaddr) { f.welcome(d, failed, fd, from) }, failed)
		if err != nil {
			return fmt.Errorf("core: listener %s: %w", d.name, err)
		}
		f.listening = append(f.listening, listener)
	}
	return f.openSlots()
}

// refuse is told when connections cannot be accepted for a while, which it says once a
// second at most. Only the loop calls it.
func (f *front) refuse(d door) func(error) {
	log, times := f.log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Second}), 0
	return func(err error) {
		times++
		hint := "the listener is tried again ten times a second, and mended by the warden if it was closed"
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			hint = "raise the limit of open files (LimitNOFILE=), or lower the number of connections"
		}
		log.Error().Err(err).Str("listener", d.name).Int("times", times).Str("hint", hint).Msg("connection not accepted")
	}
}

// welcome takes a new connection, on the loop: it must not wait. Nothing runs for
// the client until its first bytes are there.
func (f *front) welcome(d door, failed func(error), fd int, from unix.Sockaddr) {
	peer := peerOf(from)
	if f.stranger(fd, peer) || f.crowded(fd, peer) {
		return
	}
	raw := new(loop.Conn)
	if err := f.loop.Adopt(raw, fd); err != nil {
		failed(err)
		f.addresses.Leave(f.counted(peer))
		return
	}
	f.connections.Add(1)
	f.count.Add(1)
	if f.proxied != nil {
		f.awaitIntroduction(d, raw, peer)
		return
	}
	f.begin(d, raw, raw, peer)
}

// begin begins HTTP, or TLS before it, on conn, which is raw or made on it.
func (f *front) begin(d door, conn net.Conn, raw *loop.Conn, peer message.Peer) {
	if !d.secure {
		f.beginPlain(conn, raw, peer)
		return
	}
	if f.handshake > 0 {
		_ = raw.SetDeadline(time.Now().Add(f.handshake)) // never fails
	}
	if conn != net.Conn(raw) {
		f.shakeHands(conn, raw, peer) // on the worker that has read ahead
		return
	}
	f.silent.await(raw, func() { f.shakeHands(raw, raw, peer) })
}

// shakeHands does the TLS handshake of a connection and gives it to the engine. A worker
// of the loop runs it, which has grown its stack in a handshake before: 4 % less than a
// goroutine of its own. What parked workers keep of their stacks is little, and halved by
// each collection.
func (f *front) shakeHands(conn net.Conn, raw *loop.Conn, peer message.Peer) {
	f.garbage.stir()
	records := loop.NewRecords(conn, raw)
	session := tls.Server(records, f.tls)
	if err := session.Handshake(); err != nil {
		f.log.Debug().Err(err).Stringer("peer", peer.Addr).Msg("handshake failed")
		f.board.CountTLS(board.HandshakesLost)
		raw.Close()
		f.left(peer)
		return
	}
	state := session.ConnectionState()
	f.shaken(&peer, &state, session.LocalAddr())
	if f.proves && state.NegotiatedProtocol == tlsload.ALPNProtocol {
		_ = session.CloseWrite() // the CA has seen what it came for
		raw.Close()
		f.left(peer)
		return
	}
	_ = raw.SetDeadline(time.Time{}) // never fails
	f.engines.startSecure(state.NegotiatedProtocol, session, records, peer)
}

// shaken notes a handshake that is over, and what the client has shown in it.
func (f *front) shaken(peer *message.Peer, state *tls.ConnectionState, local net.Addr) {
	f.board.CountTLS(board.Handshakes)
	if state.DidResume {
		f.board.CountTLS(board.Resumed)
	}
	if f.asks {
		peer.Client = f.clientOf(state, local)
	}
}

// left notes the end of a connection.
func (f *front) left(peer message.Peer) {
	f.addresses.Leave(f.counted(peer))
	f.garbage.stir()
	f.count.Add(-1)
	f.connections.Done()
}

// peerOf is who is at the other end of a connection.
func peerOf(from unix.Sockaddr) message.Peer {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		return message.Peer{Addr: netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port))}
	case *unix.SockaddrInet6:
		return message.Peer{Addr: netip.AddrPortFrom(netip.AddrFrom16(from.Addr).Unmap(), uint16(from.Port))}
	}
	return message.Peer{}
}

// lost is closed when the link to the keeper is: no handshake can be signed any more.
func (f *front) lost() <-chan struct{} {
	if f.keyring == nil {
		return nil
	}
	return f.keyring.Lost()
}

// drain ends connections on which nothing goes on, now and whenever that is so.
func (f *front) drain() {
	f.engines.drain()
	f.silent.end()
}

// drained closes the doors, has end tell the engine, closes the idle connections to
// apps, and returns a channel that is closed when the last connection is over.
func (f *front) drained(end func()) <-chan struct{} {
	over := make(chan struct{})
	f.leave()
	go f.drainAll(end, over)
	return over
}

// drainAll ends with the last connection, or with the process. It is a goroutine from
// its first step: another core, if it is not ours any more, can make the shared
// listeners block.
func (f *front) drainAll(end func(), over chan<- struct{}) {
	for _, listener := range f.listening {
		if err := listener.Close(); err != nil {
			f.log.Warn().Err(err).Msg("listener not closed")
		}
	}
	end()
	for _, app := range f.apps {
		app.Close()
	}
	f.connections.Wait()
	close(over)
}
