package message

// This file is what the encoders of HPACK (RFC 7541) and QPACK (RFC 9204) have in common. Nothing is put
// into a table, so that an encoder has no state.

// AppendInteger appends n with a prefix of bits, in a byte whose other bits are first
// (RFC 7541, section 5.1; RFC 9204, section 4.1.1).
func AppendInteger(b []byte, first byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// AppendText appends a string literal, as it is (RFC 7541, section 5.2): to shorten it costs
// more than its bytes.
func AppendText(b, text []byte) []byte {
	return append(AppendInteger(b, 0, 7, len(text)), text...)
}

// AppendLower appends a name in lower case: "Field names MUST be converted to lowercase when
// constructing an HTTP/2 message" RFC 9113, section 8.2; RFC 9114, section 4.2.
func AppendLower(b, name []byte) []byte {
	start := len(b)
	b = append(b, name...)
	for i := start; i < len(b); i++ {
		b[i] = lower(b[i])
	}
	return b
}
