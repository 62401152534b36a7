package keeper

import (
	"bytes"
	"crypto/ecdh"
)

// A version is the TLS version whose handshake a message belongs to.
type version uint8

const (
	tls12 version = 1 + iota
	tls13
)

const (
	// "A string that consists of octet 32 (0x20) repeated 64 times", then the
	// context string and "a single 0 byte which serves as the separator".
	// RFC 8446, section 4.4.3.
	spaces    = 64
	context13 = "TLS 1.3, server CertificateVerify\x00"

	// client_random and server_random, in front of the parameters. RFC 8422, section 5.4.
	randomBytes = 32 + 32

	// "TLS 1.3 servers which negotiate TLS 1.2 or below in response to a ClientHello
	// MUST set the last 8 bytes of their Random value" to this. RFC 8446, section 4.1.3.
	// Every core offers TLS 1.3, so that it is always there, and eight bytes in the
	// middle of the message are nobody's to choose.
	downgrade = "DOWNGRD\x01"

	x25519Bytes = 32
	p256Bytes   = 1 + 32 + 32
)

// isHandshake reports whether message is what a TLS server signs with the key
// of its certificate, and in which version. Nothing else is ever signed.
func isHandshake(message []byte) (version, bool) {
	switch {
	case isCertificateVerify(message):
		return tls13, true
	case isServerKeyExchange(message):
		return tls12, true
	default:
		return 0, false
	}
}

// isCertificateVerify: TLS 1.3, the hash of the transcript behind a fixed text.
// The hash is that of the cipher suite, SHA-256 or SHA-384.
func isCertificateVerify(message []byte) bool {
	const fixed = spaces + len(context13)
	return (len(message) == fixed+32 || len(message) == fixed+48) &&
		bytes.Count(message[:spaces], []byte{' '}) == spaces &&
		string(message[spaces:fixed]) == context13
}

// isServerKeyExchange: TLS 1.2, the two randoms and
//
//	curve_type 3 (named_curve)   curve 2 bytes   length of the point   point
//
// RFC 8422, section 5.4. With the larger curves the point would leave 97 bytes
// free, enough for a certificate request; cores do not offer them.
func isServerKeyExchange(message []byte) bool {
	if len(message) < randomBytes+4 || string(message[randomBytes-len(downgrade):randomBytes]) != downgrade {
		return false
	}
	parameters, point := [4]byte(message[randomBytes:]), message[randomBytes+4:]
	switch parameters {
	case [4]byte{3, 0x00, 0x1d, x25519Bytes}:
		return len(point) == x25519Bytes // any 32 bytes are a point. RFC 7748, section 5
	case [4]byte{3, 0x00, 0x17, p256Bytes}:
		// NewPublicKey takes uncompressed points on the curve only.
		_, err := ecdh.P256().NewPublicKey(point)
		return err == nil
	default:
		return false
	}
}

const (
	tagSequence = 0x30
	tagSet      = 0x31 // the signed attributes of CMS. RFC 5652, section 5.4
)

// isDocument reports whether message is one ASN.1 structure from its first to
// its last byte, as is the signed part of a certificate request, a certificate
// or a revocation list. A TLS 1.2 message can be made such a thing: its first 64
// bytes are said to be random, and an empty request with P-256 has 100 bytes.
//
// A structure is a header that spans the message, and then values up to the end,
// or three values and anything (doc.go has the reason). Randoms that honest
// clients and cores draw look like it once in some two million handshakes of TLS
// 1.2; such a client fails once. Lengths may be longer than they need be, which
// is BER: some readers take it.
func isDocument(message []byte) bool {
	tag, inside, rest, ok := value(message)
	if !ok || len(rest) > 0 || tag != tagSequence && tag != tagSet {
		return false
	}
	for range 3 {
		if len(inside) == 0 {
			return true
		}
		if _, _, inside, ok = value(inside); !ok {
			return false
		}
	}
	return true
}

// value splits b behind its first BER value. Numbers of tags above 30 are not
// known to any signed structure, and not here.
func value(b []byte) (tag byte, inside, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, false
	}
	tag, n, b := b[0], int(b[1]), b[2:]
	switch {
	case n == 0x80: // indefinite: it goes on to two zeros, somewhere in b
		return tag, b, nil, bytes.Contains(b, []byte{0, 0})
	case n > 0x80:
		digits := n & 0x7f
		if digits > len(b) {
			return 0, nil, nil, false
		}
		n = 0
		for _, digit := range b[:digits] {
			if n = n<<8 | int(digit); n > len(b) {
				return 0, nil, nil, false
			}
		}
		b = b[digits:]
	}
	if n > len(b) {
		return 0, nil, nil, false
	}
	return tag, b[:n], b[n:], true
}
