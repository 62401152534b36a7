// Package keywire is the messages that a core and the keeper exchange, and those of the
// keeper and the registrar.
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
//	Sign         core -> keeper   id 8, handle 4, key 4, scheme 2, message
//	Certificate  keeper -> core   handle 4, count 4, then per certificate: length 3, DER
//	Tickets      keeper -> core   keys of 32 bytes each: QUIC's of resets and of tokens, then those of tickets
//	Signed       keeper -> core   id 8, signature
//	Refused      keeper -> core   id 8 (0: of no request), reason 1
//	Greet        keeper -> core   nothing, of epoch 0: I am new, say Hello
//	Serving      core -> keeper   nothing: I accept clients
//	Challenge    keeper -> core   number 4, kind 1, then what proves a name to a CA
//	Withdrawn    keeper -> core   number 4: it is over
//	Answering    core -> keeper   number 4: I have it
//
// Between keeper and registrar the epoch is the keeper's, and a field is its length, 3
// bytes, and its bytes:
//
//	Begun        either           nothing: I am new, what you have asked for is lost
//	Order        keeper -> reg.   id 8, attempts 4, request for a certificate, what it replaces
//	Present      reg. -> keeper   id 8, number 4, kind 1, name, token, proof
//	Presented    keeper -> reg.   number 4: cores answer it
//	Retract      reg. -> keeper   number 4
//	Issued       reg. -> keeper   id 8, then the chain as in Certificate
//	NotIssued    reg. -> keeper   id 8, status 4, and five texts
//	Ask          keeper -> reg.   id 8, certificate: when is it to be renewed?
//	Window       reg. -> keeper   id 8, start 8, end 8, again 8
//
// There is no further message: none that takes a digest, decrypts, exports, or
// calls. One that is added needs a note in DESIGN.md section 6.
//
// Append writes a message behind b. The Decode functions are strict: lengths are
// checked, nothing may be left over, and what they return points into the packet.
// Neither allocates where a signature is on its way.
package keywire
