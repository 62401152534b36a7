// Package registrar talks to the CA: it is the only code of ours that dials. It gets
// requests for certificates, already signed, and returns chains; no key of a site is ever
// in its process. Its own key is that of the ACME account.
//
//	keeper                     Registrar                     CA
//	Order, with a request ──►  certmagic.ACMEIssuer.Issue ──► new order
//	                      ◄──  Present                    ◄── challenges
//	cores answer; Presented ─► "go and look"              ──► validates, at the cores
//	Issued, or NotIssued  ◄──  chain, or problem          ◄──
//
// # What a taken-over registrar can get
//
// The account: it can revoke certificates and order others. While an order of a name is
// under way, the keeper has cores answer what it presents for that name, so that it could
// have a certificate issued for a key of its own; transparency logs show that. It cannot
// have them answer for another name, or with a text that is not of the form of a proof.
//
// # How challenges leave certmagic
//
// An ACMEIssuer has no place for a solver of HTTP-01 or TLS-ALPN-01 of ours. It writes each
// challenge into its storage before it looks for somebody to answer it, so that other
// machines could, and removes it afterwards: accounts, which is that storage, takes it from
// there. Then it would listen itself, unless the address is in use, which it takes for a
// sign that somebody answers there. The jail says that of every address (bind(2) fails with
// EADDRINUSE); without it, certmagic listens on a port of loopback where nobody asks.
//
// # Decisions
//
// 2026-11-25: An order does not say which certificate it replaces (RFC 9773, section 5).
// certmagic tells its own issuer by a key of a context that it does not export.
//
// 2026-11-25: One name, one certificate: that is what certmagic.Config manages. A CA's limit on
// certificates of one domain is met later with one for several names; one that fails
// its validation would take the others with it.
package registrar
