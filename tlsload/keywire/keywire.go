package keywire

import (
	"encoding/binary"
	"errors"
)

// Bounds of what a packet may carry. Whoever appends keeps them; whoever decodes
// checks them.
const (
	// The longest message that TLS has signed is 165 bytes: a ServerKeyExchange
	// with P-384. More is let through, so that the keeper can see it and say why not.
	MessageBytesMax = 1024
	// RSA with 8192 bits, the longest modulus that crypto/tls verifies.
	SignatureBytesMax = 1024
	// Certificates of a chain together. A usual chain has 2 to 5 KiB.
	ChainBytesMax = 64 << 10
	ChainLenMax   = 16
	TicketKeysMax = 8
	// A name in the DNS has 253 characters at most; an address has fewer.
	NameBytesMax = 255
	// A token has "at least 128 bits of entropy" in base64url (RFC 8555, section 8.3);
	// that of Let's Encrypt has 43 characters. Behind it and a dot is the thumbprint of
	// the account's key, with SHA-256: 43 characters.
	TokenBytesMax = 256
	ProofBytesMax = TokenBytesMax + 1 + 43
	// A request for RSA with 8192 bits has some 2 KiB, a certificate 4 KiB.
	RequestDERMax = 16 << 10
	// What is kept of a CA's words.
	TextBytesMax = 2 << 10

	headBytes = 1 + 8

	// RequestBytesMax bounds every packet to the keeper.
	RequestBytesMax = headBytes + 8 + 4 + 4 + 2 + MessageBytesMax
	// ReplyBytesMax bounds every packet to a core. It stays below the send buffer
	// of a socket, 208 KiB by default: unix(7) refuses a packet that does not.
	ReplyBytesMax = headBytes + 4 + 4 + 3*ChainLenMax + ChainBytesMax
	// ErrandBytesMax bounds every packet between keeper and registrar.
	ErrandBytesMax = ReplyBytesMax
)

// ChallengeHandle is added to the number of a challenge and makes the handle of the key
// that it is proved with by TLS-ALPN-01. Those of certificates are below it.
const ChallengeHandle = 1 << 31

// ErrMalformed means that a packet is none of the messages.
var ErrMalformed = errors.New("keywire: malformed packet")

// An Op says which message a packet is.
type Op uint8

// The operations. Zero is none, so that a packet of zeros means nothing.
const (
	OpHello Op = 1 + iota
	OpSign
	OpCertificate
	OpTickets
	OpSigned
	OpRefused
	OpGreet
	OpServing
	OpChallenge
	OpWithdrawn
	OpAnswering
	OpBegun
	OpOrder
	OpPresent
	OpPresented
	OpRetract
	OpIssued
	OpNotIssued
	OpAsk
	OpWindow
	OpEnd // one past the last
)

// A Scheme is a TLS SignatureScheme. RFC 8446, section 4.2.3.
type Scheme uint16

// The schemes that a keeper may be asked for. Those with SHA-1 are left out.
const (
	PKCS1WithSHA256 Scheme = 0x0401
	PKCS1WithSHA384 Scheme = 0x0501
	PKCS1WithSHA512 Scheme = 0x0601
	ECDSAWithSHA256 Scheme = 0x0403 // in TLS 1.3 with P-256 only
	ECDSAWithSHA384 Scheme = 0x0503 // in TLS 1.3 with P-384 only
	ECDSAWithSHA512 Scheme = 0x0603 // in TLS 1.3 with P-521 only
	PSSWithSHA256   Scheme = 0x0804
	PSSWithSHA384   Scheme = 0x0805
	PSSWithSHA512   Scheme = 0x0806
	Ed25519         Scheme = 0x0807
)

// A Reason is why the keeper refused a message.
type Reason uint8

// The reasons.
const (
	NotPermitted  Reason = 1 + iota // the operation, in this state of the session
	Malformed                       // no message at all
	UnknownHandle                   // no key has this handle
	NotHandshake                    // what is to be signed is not of a TLS handshake
	Document                        // it is ASN.1, such as a certificate request
	WrongScheme                     // the scheme does not fit the key or the version
	Failed                          // the signature could not be computed
	ReasonEnd                       // one past the last
)

// String is the reason in words, for logs and errors.
func (r Reason) String() string {
	switch r {
	case NotPermitted:
		return "operation not permitted"
	case Malformed:
		return "malformed packet"
	case UnknownHandle:
		return "unknown handle"
	case NotHandshake:
		return "not a handshake message"
	case Document:
		return "a document in the shape of a handshake message"
	case WrongScheme:
		return "scheme does not fit key or version"
	case Failed:
		return "signature failed"
	default:
		return "unknown reason"
	}
}

// Head returns the first two fields of any packet. ok is false when it is too
// short for them; it says nothing about the rest.
func Head(packet []byte) (op Op, epoch uint64, ok bool) {
	if len(packet) < headBytes {
		return 0, 0, false
	}
	return Op(packet[0]), binary.BigEndian.Uint64(packet[1:]), true
}

func appendHead(b []byte, op Op, epoch uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, byte(op)), epoch)
}

// body returns what follows the head of a packet that must be op and have from
// least to most bytes there.
func body(packet []byte, op Op, least, most int) (epoch uint64, rest []byte, err error) {
	got, epoch, ok := Head(packet)
	if !ok || got != op || len(packet)-headBytes < least || len(packet)-headBytes > most {
		return 0, nil, ErrMalformed
	}
	return epoch, packet[headBytes:], nil
}
