package h3

import "sallyport/proxy/message"

// This file writes field sections (RFC 9204). As in h2 nothing is put into a table, so an
// encoder has no state, and the client's decoder nothing to acknowledge.

// beginSection begins a field section: no insert is required, and the base is 0 (RFC 9204,
// section 4.5.1).
func beginSection(b []byte) []byte { return append(b, 0, 0) }

// statusIndexed is where a status is in the static table (RFC 9204, appendix A); 0 if it is
// not.
func statusIndexed(status int) int {
	switch status {
	case 103:
		return 24
	case 200:
		return 25
	case 304:
		return 26
	case 404:
		return 27
	case 503:
		return 28
	case 100:
		return 63
	case 204:
		return 64
	case 206:
		return 65
	case 302:
		return 66
	case 400:
		return 67
	case 403:
		return 68
	case 421:
		return 69
	case 425:
		return 70
	case 500:
		return 71
	}
	return 0
}

// Indexes of names in the static table.
const (
	indexStatus        = 24
	indexContentLength = 4
	indexDate          = 6
)

// appendStatus appends :status.
func appendStatus(b []byte, status int) []byte {
	if indexed := statusIndexed(status); indexed != 0 {
		return appendInteger(b, 0xc0, 6, indexed) // section 4.5.2
	}
	b = appendInteger(b, 0x50, 4, indexStatus)
	return append(b, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

// appendLiteral appends a field whose name is in the static table (RFC 9204, section 4.5.4).
func appendLiteral(b []byte, index int, value []byte) []byte {
	return appendText(appendInteger(b, 0x50, 4, index), value)
}

// appendField appends a field, whose name is sent in lower case: "Characters in field names
// MUST be converted to lowercase prior to their encoding" RFC 9114, section 4.2.
func appendField(b, key, value []byte) []byte {
	var lowered [nameIndexed]byte
	if len(key) <= len(lowered) {
		for i, c := range key {
			lowered[i] = lower(c)
		}
		if index := staticIndex(lowered[:len(key)]); index >= 0 {
			return appendLiteral(b, index, value)
		}
	}
	b = appendInteger(b, 0x20, 3, len(key)) // section 4.5.6
	start := len(b)
	b = append(b, key...)
	for i := start; i < len(b); i++ {
		b[i] = lower(b[i])
	}
	return appendText(b, value)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func appendFields(b []byte, f *message.Fields) []byte {
	for i := range f.Len() {
		_, key, value := f.Line(i)
		b = appendField(b, key, value)
	}
	return b
}

// appendText appends a string literal, as it is: to shorten it costs more than its bytes.
func appendText(b, text []byte) []byte {
	return append(appendInteger(b, 0, 7, len(text)), text...)
}

// appendInteger appends n with a prefix of bits, in a byte whose other bits are first
// (RFC 9204, section 4.1.1).
func appendInteger(b []byte, first byte, bits, n int) []byte {
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

// nameIndexed is the longest name that staticIndex knows.
const nameIndexed = len("access-control-allow-origin")

// staticIndex is where a name of a response is in the static table (RFC 9204, appendix A),
// -1 if it is not.
func staticIndex(name []byte) int {
	switch string(name) {
	case "age":
		return 2
	case "content-disposition":
		return 3
	case "content-length":
		return indexContentLength
	case "date":
		return indexDate
	case "etag":
		return 7
	case "last-modified":
		return 10
	case "link":
		return 11
	case "location":
		return 12
	case "set-cookie":
		return 14
	case "accept-ranges":
		return 32
	case "access-control-allow-origin":
		return 35
	case "cache-control":
		return 36
	case "content-encoding":
		return 42
	case "content-type":
		return 44
	case "strict-transport-security":
		return 56
	case "vary":
		return 59
	case "x-content-type-options":
		return 61
	case "x-xss-protection":
		return 62
	case "alt-svc":
		return 83
	case "content-security-policy":
		return 85
	case "expect-ct":
		return 87
	case "server":
		return 92
	case "x-frame-options":
		return 97
	}
	return -1
}
