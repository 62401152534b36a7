package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// This file is the PROXY protocol (listen.proxy_protocol): every connection comes
// from a proxy of ours and begins, before its TLS, with a header that says whose it
// is. "The receiver MUST be configured to only receive the protocol described in this
// specification and MUST not try to guess whether the protocol header is present or
// not" proxy-protocol.txt, section 2.

// The refusals of this file. Nobody is told: who does not begin with a header is
// perhaps no HTTP client. The status 0 says so in the log.
var (
	errStranger     = &message.Refusal{Cause: "no PROXY header is taken from this address"}
	errIntroduction = &message.Refusal{Cause: "PROXY header missing or malformed"}
)

// stranger closes a new connection if it is not one of a proxy of ours, and reports
// whether it has.
func (f *front) stranger(fd int, peer message.Peer) bool {
	if f.proxied == nil || f.proxied.Trusts(peer.Addr.Addr().Unmap()) {
		return false
	}
	f.engines.h1.Refused(&message.Exchange{Peer: peer}, errStranger)
	_ = unix.Close(fd) // nobody has used it
	return true
}

// awaitIntroduction waits for a PROXY header, within limits.head_time as a whole.
func (f *front) awaitIntroduction(d door, raw *loop.Conn, proxy message.Peer) {
	if f.handshake > 0 {
		_ = raw.SetDeadline(time.Now().Add(f.handshake)) // never fails
	}
	f.silent.await(raw, func() { f.introduce(d, raw, proxy) })
}

// introduce reads the PROXY header of a connection and goes on with what is behind it.
// A worker of the loop runs it, until the header is there or its deadline is over.
func (f *front) introduce(d door, raw *loop.Conn, proxy message.Peer) {
	r := bufio.NewReaderSize(raw, 1<<10)
	peer, err := introduced(r, proxy)
	if err != nil {
		f.log.Debug().Err(err).Stringer("peer", proxy.Addr).Msg("introduction failed")
		f.engines.h1.Refused(&message.Exchange{Peer: proxy}, errIntroduction)
		raw.Close()
		f.left(message.Peer{}) // of nobody that is counted
		return
	}
	if !f.enter(peer) {
		raw.Close()
		f.left(message.Peer{})
		return
	}
	_ = raw.SetDeadline(time.Time{}) // never fails
	conn := net.Conn(raw)
	if r.Buffered() > 0 {
		ahead, _ := r.Peek(r.Buffered()) // they are there
		conn = &aheadConn{raw, bytes.Clone(ahead)}
	}
	f.begin(d, conn, raw, peer)
}

// introduced is whom a header of proxy speaks for.
func introduced(r *bufio.Reader, proxy message.Peer) (message.Peer, error) {
	header, err := proxyproto.Read(r)
	if err != nil {
		return proxy, err
	}
	if header.Command.IsLocal() {
		// "the connection was established on purpose by the proxy without being relayed"
		// section 2.2; and so is read "UNKNOWN", which proxies also write for clients of
		// whom they cannot tell: what such a connection says of others is not believed.
		proxy.Unnamed = true
		return proxy, nil
	}
	source, ok := header.SourceAddr.(*net.TCPAddr)
	if !ok {
		return proxy, errors.New("the client is not one of TCP")
	}
	client := source.AddrPort()
	return message.Peer{Addr: netip.AddrPortFrom(client.Addr().Unmap(), client.Port())}, nil
}

// An aheadConn is a connection of which some bytes were read already.
type aheadConn struct {
	*loop.Conn
	ahead []byte
}

// Read is net.Conn.
func (c *aheadConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n, nil
}
