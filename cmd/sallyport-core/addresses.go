package main

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"sallyport/proxy/message"
)

// errConnections is the refusal of a connection. Nobody is told: over TLS, a handshake would
// cost more than what the limit spares.
var errConnections = &message.Refusal{Cause: "more connections than limits.connections_per_address"}

// enter counts a connection of peer, and reports whether it may stay. Proxies of ours have
// many clients, and so no limit.
func (f *front) enter(peer message.Peer) bool {
	if f.addresses.Enter(f.counted(peer)) {
		return true
	}
	f.engines.h1.Refused(&message.Exchange{Peer: peer}, errConnections)
	return false
}

// counted is the address that peer's connections are counted by; not valid for none.
func (f *front) counted(peer message.Peer) netip.Addr {
	addr := peer.Addr.Addr().Unmap()
	if f.addresses == nil || f.trusts(addr) {
		return netip.Addr{}
	}
	return addr
}

// crowded closes a new connection if its address has too many, and reports whether it has.
func (f *front) crowded(fd int, peer message.Peer) bool {
	if f.proxied != nil || f.enter(peer) { // behind a proxy, nobody has said yet whose it is
		return false
	}
	_ = unix.Close(fd) // nobody has used it
	return true
}
