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
// A certificate from a CA may not be there yet: handshakes of that name fail until it
// comes, with the alert internal_error, and of no other.
//
// # Certificates of clients
//
// A site may ask for them. What they have to be issued by comes from the keeper as a
// certificate without a key, like those of sites; the core verifies, for what a client sends is a
// stranger's. Each way of asking is a door, with a configuration of its own that is found by the
// name in the handshake: one for all would ask everybody. A session is resumed at its own door
// alone, since its ticket keys are made of the usual ones, of those who issue, and of how
// it asks. By which door a connection has come (Door) it is to be used for the sites behind that one
// only: who forwards requests compares.
//
// # Challenges
//
// While the keeper obtains a certificate, a CA comes to look whether the name is ours. What
// it is to be shown the keeper has sent (Challenge), and the core has said that it has it
// (Answering): by HTTP a text at a path, which Proof finds; by TLS a certificate for those who
// negotiate nothing but "acme-tls/1", which the keeper signs for like any other. Where no
// challenge is open, the path is the app's.
//
// # Tickets
//
// The keeper makes the ticket keys, so that every core opens the tickets of
// every other. Its list has the key in force, the one before and the one to come,
// and is sent again when it changes, so that a core knows a key hours before tickets
// are sealed with it. When a core has died the keeper draws all of them anew, because
// somebody may have read them there; what is left to him, until when, is in package
// keeper. A new keeper draws new keys, too, and greets every core, which asks for them.
//
// With them come the two keys of QUIC (QUICKeys), the same for all cores: a core that follows
// another one resets what that one has left, and knows its clients' addresses again.
//
// # Many names
//
// A handshake finds its certificate by one look-up in a map, 50 ns with one name and with
// fifty thousand (a name of a wildcard takes two, a site that asks for certificates of clients two more), and
// nothing is allocated. What crypto/tls needs of a certificate is made when its first client comes, which takes
// 15 µs, and issuers are kept once. With fifty thousand names from a CA, on two processors, a start takes 2.5 to 2.9 s
// and a reload 2.2 s, a core has 50 MiB, and 104 when each name has been used; the keeper has 220 MiB, 330 when each key has, 420 after
// a reload. A full handshake takes 0.72 to 0.79 ms instead of 0.66 (medians), for memory is colder and garbage is collected
// over more of it.
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
