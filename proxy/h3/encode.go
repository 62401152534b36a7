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
		return message.AppendInteger(b, 0xc0, 6, indexed) // section 4.5.2
	}
	b = message.AppendInteger(b, 0x50, 4, indexStatus)
	return append(b, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

// appendLiteral appends a field whose name is in the static table (RFC 9204, section 4.5.4).
func appendLiteral(b []byte, index int, value []byte) []byte {
	return message.AppendText(message.AppendInteger(b, 0x50, 4, index), value)
}

// appendField appends a field, whose name is sent in lower case.
func appendField(b, key, value []byte) []byte {
	if len(key) <= nameIndexed {
		var lowered [nameIndexed]byte
		if index := staticIndex(message.AppendLower(lowered[:0], key)); index >= 0 {
			return appendLiteral(b, index, value)
		}
	}
	b = message.AppendInteger(b, 0x20, 3, len(key)) // section 4.5.6
	return message.AppendText(message.AppendLower(b, key), value)
}

func appendFields(b []byte, f *message.Fields) []byte {
	for i := range f.Len() {
		_, key, value := f.Line(i)
		b = appendField(b, key, value)
	}
	return b
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
