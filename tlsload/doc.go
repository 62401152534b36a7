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
// Signing is variant (a) of evidence/privileges.md section 11: 12 to 19 % of CPU
// per handshake over a key in this process, with no thread blocked and no stall
// when the keeper stalls. Variant (h) saves half of that for ECDSA, for 64 more
// pairs of sockets; it fits behind Keyring.sign.
package tlsload
