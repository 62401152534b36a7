// Package tlsload is the core's half of TLS: certificates without their keys.
//
// The keys are in the keeper, another process. A Keyring is the core's end of a
// link to it. It learns the certificates and the ticket keys, and has a signer
// for each certificate that crypto/tls takes for a private key:
//
//	crypto/tls            Keyring                          keeper
//	GetCertificate  ───►  by SNI, nothing leaves the core
//	SignMessage     ───►  slot, packet ──────────────────►  checks, signs
//	                ◄───  readLoop, the slot's channel ◄──  Signed, or Refused
//
// Sign, which takes a digest, is always an error here: the keeper would not sign
// what it cannot read. crypto/tls has called SignMessage with the whole message
// since Go 1.26.
//
// # A lost keeper
//
// A packet that was lost with a keeper is sent again, with the same id, after
// 400 ms; the warden has long started another keeper by then, on the same link.
// After 10 s the handshake fails. A link that was lost or shut is another matter:
// everything is ErrClosed, at once, and Lost says so. Every core draws an epoch, and every request
// has an id of its own: a reply with another epoch or id is dropped.
//
// # Certificates that change
//
// A core greets the keeper each hour and is sent all certificates again. Another
// one takes the place of the old with the next handshake; those under way go on
// with theirs, whose key is the keeper's still.
//
// # Tickets
//
// The keeper makes the ticket keys, so that every core opens the tickets of
// every other. Its list has the key in force, the one before and the one to come,
// and is sent again when it changes, so that a core knows a key hours before tickets
// are sealed with it. When a core has died the keeper draws all of them anew, because
// somebody may have read them there; what is left to him, until when, is in package
// keeper. A new keeper draws new keys, too: until each core has asked again, which
// it does each hour, a client that comes back to another core makes a full handshake.
//
// # Cost
//
// Signing is variant (a) of evidence/privileges.md section 11. With 8 handshakes in
// flight (P-256, ML-KEM) it is 13 % of CPU over a key in this process: 328 against 289
// µs, of which the keeper has 45 and its signature 20. No thread is blocked, and nothing
// stalls when the keeper does; this half is 4 % of a core's time.
//
// Tried and not taken: that whoever asks lets others run and then looks for its answer
// itself (361 against 361 µs: the reader is woken all the same, because the link is in
// Go's poller). Variant (h) would save up to 6 % for ECDSA, for 64 more pairs of
// sockets, which the warden would have to make; it fits behind Keyring.sign.
package tlsload
