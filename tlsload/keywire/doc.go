// Package keywire is the six messages that a core and the keeper exchange.
//
// One message is one SOCK_SEQPACKET packet: it arrives whole or not at all, so
// either end may be killed between two packets and its successor goes on with
// the next. Numbers are big-endian. Every packet begins with
//
//	op     1 byte
//	epoch  8 bytes, drawn by the core at its start; replies carry it back
//
// and goes on, up to its end, with
//
//	Hello        core -> keeper   nothing: send what you hold for me
//	Sign         core -> keeper   id 8, handle 4, scheme 2, message
//	Certificate  keeper -> core   handle 4, count 4, then per certificate: length 3, DER
//	Tickets      keeper -> core   keys of 32 bytes each
//	Signed       keeper -> core   id 8, signature
//	Refused      keeper -> core   id 8 (0: of no request), reason 1
//
// There is no further message: none that takes a digest, decrypts, exports, or
// calls. One that is added needs a note in DESIGN.md section 6.
//
// Append writes a message behind b. The Decode functions are strict: lengths are
// checked, nothing may be left over, and what they return points into the packet.
// Neither allocates where a signature is on its way.
package keywire
