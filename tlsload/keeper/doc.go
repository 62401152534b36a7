// Package keeper keeps private keys and signs TLS handshakes with them, for
// cores that it does not trust.
//
//	Store      the certificates and keys of a plan, its table, read once from descriptors
//	authority  the internal CA: its root, and the certificates that it issues
//	Keeper     one thread: waits for packets of all links, answers one after the other
//	session    one link: its state, the permitted table, what it is still owed
//	schedule   the names whose certificates come from a CA: when each is ordered
//	obtainer   certmagic: keys, requests, and the files of what is issued
//	errands    the link to the registrar, who talks to the CA
//	proofs     the challenges that cores answer meanwhile
//
// # What a taken-over core can get
//
// Signatures of handshakes, as long as it lives: it can pose as the sites. And the
// ticket keys, which outlive it; see below. It cannot get a private key, nor a
// signature that is good for more than the handshake under way: no certificate
// request, no message of ACME, no other document is signed, because isHandshake knows the
// few shapes that a server signs in TLS and isDocument refuses ASN.1 in such a
// shape. What is left: with TLS 1.2 and X25519 the first 56 and the last 32 of
// 100 bytes are free, with P-256 the last 64 are any point's. A signed format
// that is neither ASN.1 nor text and allows twelve given bytes in its middle could
// be passed off as a handshake; none is known to us that a site's key counts for.
//
// # The internal CA
//
// All that is kept of it is a secret of 32 bytes, and the root, which others have
// to find again:
//
//	secret ──HKDF──► key of the root ──signs──► root.pem: 10 years, path length 0
//	   │                          └────signs──► leaf: 7 days, no intermediate ones
//	   └─────HKDF──► key of the leaf, by the names in it
//
// The key of the root has no handle: no message of a core reaches it, and what
// it signs is made here, of the plan's names and the clock. A keeper that follows
// a killed one derives the same keys and issues other leaves for them; a core that
// still has an old leaf does not notice, and takes the next one at its next Hello.
// Hello is also what renews leaves with less than a third of their life left:
// there is no timer, so that a wrong clock that was set right needs no restart.
//
// The root is written once, and again only if the file is empty or no longer this
// CA's, or in the last year of its life; it is the same key and the same name then,
// and whoever trusts the old one trusts what is issued under the new one.
//
// Without a folder both files are memory of the warden. The CA then lives as long
// as the service, and nobody can be made to trust it for longer.
//
// # Certificates from a CA
//
// The keeper has no network. It makes a key and a request for it, and the registrar takes
// that to the CA:
//
//	schedule ─ due ─► obtainer ─ request ─► errands ── Order ──► registrar ──► CA
//	                                        errands ◄─ Present ─ registrar ◄── challenge
//	                        cores ◄─ proofs ◄──┘        the CA looks at the cores
//	publish ◄─ pair ◄ obtainer ◄─ chain ─── errands ◄─ Issued ── registrar ◄── chain
//
// The tables say which names there are: a reload brings another table, with the same name
// under another handle perhaps, and what is published is so in all of them. A name is ordered
// for as long as some table has it.
//
// Orders begin when the first core serves, for before that a CA could not look. One name
// has one certificate, and each a new key. A certificate that follows another is sent to
// every core at once; handshakes that began with the old one are signed by its key, which
// the keeper has until the next but one (Sign names the key by its KeyTag).
//
// A challenge by TLS is signed for like a site, and its key stays here: its handle is
// keywire.ChallengeHandle and the number, for as long as it is open. The registrar is
// believed little: it presents challenges of names that are ordered, whose text has the form of a
// proof, and a chain that it brings has to be of the key that was requested.
//
// The folder has a file for each pair, one for its ledger and one for its standing, 0600,
// and replaced as a whole, so that there is never a key without its certificate. Without a
// folder all is in memory. What is broken there is said, and obtained anew; a pair that is
// there is served whatever the CA says, until it is followed.
//
// A keeper that follows a killed one loads the folder, asks the cores for their Hello
// (Greet) and orders what is due; a registrar that follows another says so (Begun), and is
// asked again for what was under way.
//
// With 50,000 names in the folder (2 shared processors) a start takes 5 s, of which loading
// is 3.3 s, the keeper has 287 MB and a core 174 MB; a handshake looks one name up, in a map.
//
// # Tickets
//
// A core has to have the keys that seal session tickets: it opens them. They are in
// force for 8 hours each and sent to every core when they move on. When a core greets
// with another epoch than the one before it on its link, that one has died, maybe
// taken over: all of them are drawn anew, the one to come too, within a minute, and
// sent to every core. The tickets of all clients are void then; they make a full handshake.
//
// What is left to whoever had the keys: tickets that were sealed with them before.
// With TLS 1.2 he can read what is resumed with such a ticket, and what he has
// recorded of the session that it is of, or of one resumed with it: for ever. On the
// way to a client that still has one he can pose as the site, without a signature,
// as long as the client offers it: "Clients MUST NOT cache tickets for longer than
// 7 days" (RFC 8446, section 4.6.1), with TLS 1.2 they should not for 24 hours (RFC
// 5246, appendix F.1.4); and a client may take a next ticket from him in each such
// session. A core that stays taken over is sent each new key.
//
// # Links and epochs
//
// A link serves one core at a time. A Hello makes its epoch the one that may
// sign; before the first Hello any may, because this keeper may be the successor
// of one that was killed, and the core does not know. Two cores that share a link
// would steal each other's replies; the epoch makes that fail loudly.
//
// Shutting a link, or one direction of it, ends it for good and for every process
// that holds it: the socket is one. The keeper leaves it alone then, a next core sees
// ErrClosed of package tlsload, and the service has to be started again. No option of
// a socket forbids shutdown(2); a core can as well exit at once, each time.
//
// # One thread
//
// Everything that a core asks for happens on the thread of Serve: the cost of signing elsewhere is
// the waking of threads (evidence/privileges.md section 11), and the caller is
// asleep anyway. A reply that a core does not take is dropped, so that no core
// can stop the thread; it asks again. A Hello is short and its answer is not: at
// most 8 certificates are sent in a turn, and all of them once a second. With RSA of 2048 bits the thread makes some
// 750 signatures per second; more would take more keepers on the same links.
//
// A signature allocates what crypto does, and nothing else: 57 times with P-256. Garbage
// is collected as Go does it, and once more when nobody asks after many signatures, so
// that its memory is given back.
//
// In steady state it calls ppoll, recvfrom and sendto, and write for the log. The
// files of the internal CA are written before the first Hello is read, or never. Those of
// certificates from a CA are written by goroutines beside it, which hand what they have to its thread (changes).
//
// # Tables
//
// A reload brings the certificates of another plan: table.go. Those that have changed are
// loaded on the one thread too, which answers nobody meanwhile: 80 µs for a pair with P-256,
// 470 µs with RSA of 2048 bits (BenchmarkLoad). Those that have not are recognised by a
// digest of both files, and shared.
//
// A table may come once more, with what has become of its files: the warden watches them. What is
// new then takes the place of what was, as with certificates from a CA.
//
// # Decisions
//
// 2026-11-25: isDocument looks at the values on the first level only, and is
// content with three: crypto/x509 and others let pass what follows the fields
// that they know, and do not look into attributes that they do not know. A walk
// to the last byte could be defeated by a bad byte there.
//
// 2026-11-25: The root has no name constraints. tls = "internal" may be written for
// any name, so that the names are not known when the root is made; and those that
// have it by default, addresses among them, are no one's domain to constrain to.
//
// 2026-11-25: A leaf has no subject and no common name. Clients have looked at
// the alternative names alone for years, and one list cannot disagree with itself.
//
// 2026-11-25: The schedule is ours, and certmagic is asked for one attempt at a time. Its
// own would keep a copy of each certificate, look every ten minutes, which is longer than
// some certificates live, and say neither when it tries again nor why it did not.
//
// 2026-11-25: There is no staple of OCSP: the CA of the default has none any more, and the
// keeper, which would have to ask, has no network.
package keeper
