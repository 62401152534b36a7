package proxy

import (
	"math/rand/v2"

	"sallyport/proxy/message"
)

// requestIDMax is the longest identifier taken over from a trusted proxy.
const requestIDMax = 128

// identify keeps the identifier that a trusted proxy set, or makes one.
func (w *rewriter) identify(p *passage) {
	if w.trustsPeer(p) {
		if id, ok := p.exchange.Request.Fields.Value(message.XRequestID); ok && isRequestID(id) {
			p.id = append(p.id[:0], id...)
			return
		}
	}
	p.id = appendUUID(p.id[:0], uint64(p.exchange.Begun.UnixMilli()), rand.Uint64(), rand.Uint64())
}

func isRequestID(b []byte) bool {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(b) > 0 && len(b) <= requestIDMax
}

// appendUUID appends a version 7 UUID: 48 bits of milliseconds, so that
// identifiers sort by time, and 74 random ones (RFC 9562, section 5.7).
func appendUUID(b []byte, ms, high, low uint64) []byte {
	high = ms<<16 | 7<<12 | high&0xfff
	low = 1<<63 | low>>2
	const digits = "0123456789abcdef"
	for i := range 32 {
		switch i {
		case 8, 12, 16, 20:
			b = append(b, '-')
		}
		word := high
		if i >= 16 {
			word = low
		}
		b = append(b, digits[word>>(60-4*(i%16))&15])
	}
	return b
}
