// Package keeper keeps private keys and signs TLS handshakes with them, for
// cores that it does not trust.
//
//	Store    the certificates and keys, read once from descriptors
//	Keeper   one thread: waits for packets of all links, answers one after the other
//	session  one link: its state, the permitted table, what it is still owed
//
// # What a taken-over core can get
//
// Signatures of handshakes, as long as it lives: it can pose as the sites. It
// cannot get a key, and nothing that outlives it: no certificate request, no
// message of ACME, no other document is signed, because isHandshake knows the
// few shapes that a server signs in TLS and isDocument refuses ASN.1 in such a
// shape. What is left: with TLS 1.2 and X25519 the first 56 and the last 32 of
// 100 bytes are free, with P-256 the last 64 are any point's. A signed format
// that is neither ASN.1 nor text and allows twelve given bytes in its middle could
// be passed off as a handshake; none is known to us that a site's key counts for.
//
// # Links and epochs
//
// A link serves one core at a time. A Hello makes its epoch the one that may
// sign; before the first Hello any may, because this keeper may be the successor
// of one that was killed, and the core does not know. Two cores that share a link
// would steal each other's replies; the epoch makes that fail loudly.
//
// # One thread
//
// Everything happens on the thread of Serve: the cost of signing elsewhere is
// the waking of threads (evidence/privileges.md section 11), and the caller is
// asleep anyway. A reply that a core does not take is dropped, so that no core
// can stop the thread; it asks again. With RSA of 2048 bits the thread makes some
// 750 signatures per second; more would take more keepers on the same links.
//
// In steady state it calls ppoll, recvfrom and sendto, and write for the log.
//
// # Decisions
//
// 2026-11-25: isDocument looks at the values on the first level only, and is
// content with three: crypto/x509 and others let pass what follows the fields
// that they know, and do not look into attributes that they do not know. A walk
// to the last byte could be defeated by a bad byte there.
package keeper
