package main

import (
	"net"
	"strings"
	"time"

	"sallyport/conf"
	"sallyport/proxy"
	"sallyport/proxy/h1"
	"sallyport/proxy/h2"
	"sallyport/proxy/h3"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// engines are those that speak HTTP to clients, which all end alike.
type engines struct {
	h1 *h1.Engine
	h2 *h2.Engine
	h3 *h3.Engine
}

func newEngines(forwarder *proxy.Forwarder, limits conf.Limits, buffers *h1.Buffers, f *front) engines {
	ended := f.left
	return engines{
		&h1.Engine{Handler: forwarder, Limits: limits, Buffers: buffers, Refused: forwarder.Refused, Ended: ended},
		&h2.Engine{Handler: forwarder, Limits: limits, Refused: forwarder.Refused, Ended: ended},
		&h3.Engine{Handler: forwarder, Limits: limits, Run: f.loop.Run, Refused: forwarder.Refused, Begun: f.greet, Ended: f.part, Failed: f.slotLost},
	}
}

// retire lets every connection have one more answer.
func (e engines) retire() {
	e.h1.Retire()
	e.h2.Retire()
	e.h3.Retire()
}

// drain ends connections on which nothing goes on, now and whenever that is so.
func (e engines) drain() {
	e.h1.Drain()
	e.h2.Drain()
	e.h3.Drain()
}

// cutExchanges ends what is no tunnel. The channel is closed when no tunnel is left.
func (e engines) cutExchanges() (over <-chan struct{}, cut int) {
	first, cut1 := e.h1.CutExchanges()
	second, cut2 := e.h2.CutExchanges()
	third, cut3 := e.h3.CutExchanges()
	all := make(chan struct{})
	go awaitAll(all, first, second, third)
	return all, cut1 + cut2 + cut3
}

// awaitAll ends with the last tunnel, or with the process.
func awaitAll(all chan<- struct{}, each ...<-chan struct{}) {
	for _, over := range each {
		<-over
	}
	close(all)
}

// cutTunnels ends the tunnels.
func (e engines) cutTunnels() int { return e.h1.CutTunnels() + e.h2.CutTunnels() + e.h3.CutTunnels() }

// protocolH2 is HTTP/2's name in ALPN (RFC 9113, section 3.2).
const protocolH2 = "h2"

// startSecure has the engine that the client has chosen speak on a TLS session.
func (e engines) startSecure(protocol string, session net.Conn, records *loop.Records, peer message.Peer) {
	if protocol == protocolH2 {
		e.h2.StartSecure(session, records, peer)
		return
	}
	e.h1.StartSecure(session, records, peer)
}

// preface is what a client that knows that we speak HTTP/2 begins with (RFC 9113, section
// 3.4), as far as no request of HTTP/1 begins so.
const preface = "PRI * HTTP/2.0\r\n\r\nSM"

// beginPlain begins HTTP on a connection without TLS, which is raw or made on it.
func (f *front) beginPlain(conn net.Conn, raw *loop.Conn, peer message.Peer) {
	ahead, isAhead := conn.(*aheadConn)
	switch {
	case !f.h2c, isAhead && !strings.HasPrefix(string(ahead.ahead), preface):
		f.engines.h1.Start(conn, raw, peer)
	case isAhead:
		f.engines.h2.Start(conn, raw, peer)
	default:
		f.guess(raw, peer)
	}
}

// guess waits for the first bytes of raw, within limits.head_time.
func (f *front) guess(raw *loop.Conn, peer message.Peer) {
	if f.handshake > 0 {
		_ = raw.SetReadDeadline(time.Now().Add(f.handshake)) // never fails
	}
	g := &guess{f, raw, peer}
	f.silent.await(raw, g.look)
}

// A guess is a plain connection whose protocol its first bytes tell.
type guess struct {
	front *front
	raw   *loop.Conn
	peer  message.Peer
}

// look gives the connection to an engine, unless what has come is too little to tell.
func (g *guess) look() {
	var first [len(preface)]byte
	n, err := g.raw.Peek(first[:])
	isPart := string(first[:n]) == preface[:n]
	switch {
	case err == loop.ErrWouldBlock, err == nil && n < len(first) && isPart && !g.raw.Ended():
		g.front.silent.await(g.raw, g.look)
		return
	case err != nil:
		g.raw.Close()
		g.front.left(g.peer)
		return
	}
	_ = g.raw.SetReadDeadline(time.Time{}) // never fails
	g.raw.Look()
	if n == len(first) && isPart {
		g.front.engines.h2.Start(g.raw, g.raw, g.peer)
	} else {
		g.front.engines.h1.Start(g.raw, g.raw, g.peer)
	}
}
