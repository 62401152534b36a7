package h2

import "sallyport/proxy/message"

// This file writes field sections (RFC 7541). Nothing is put into the client's table: what
// would be saved is bytes of a connection that has many, and what it costs is a table of our
// own for each connection, and to look for each field in it. So an encoder has no state.

// statusIndexed is the byte for a status that the static table has (RFC 7541, appendix A).
func statusIndexed(status int) byte {
	switch status {
	case 200:
		return 0x80 | 8
	case 204:
		return 0x80 | 9
	case 206:
		return 0x80 | 10
	case 304:
		return 0x80 | 11
	case 400:
		return 0x80 | 12
	case 404:
		return 0x80 | 13
	case 500:
		return 0x80 | 14
	}
	return 0
}

// Indexes in the static table.
const (
	indexAuthority     = 1
	indexGET           = 2
	indexPOST          = 3
	indexPath          = 4
	indexHTTP          = 6
	indexHTTPS         = 7
	indexStatus        = 8
	indexContentLength = 28
	indexDate          = 33
)

// appendStatus appends :status.
func appendStatus(b []byte, status int) []byte {
	if indexed := statusIndexed(status); indexed != 0 {
		return append(b, indexed)
	}
	return append(b, indexStatus, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

// appendLiteral appends a field whose name is in the static table, and is not to be put
// into any (RFC 7541, section 6.2.2).
func appendLiteral(b []byte, index int, value []byte) []byte {
	return message.AppendText(message.AppendInteger(b, 0, 4, index), value)
}

// appendField appends a field, whose name is sent in lower case.
func appendField(b, key, value []byte) []byte {
	if len(key) <= nameIndexed {
		var lowered [nameIndexed]byte
		if index := staticIndex(message.AppendLower(lowered[:0], key)); index != 0 {
			return appendLiteral(b, index, value)
		}
	}
	b = message.AppendInteger(append(b, 0), 0, 7, len(key))
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

// staticIndex is where a name of a response is in the static table (RFC 7541, appendix A),
// 0 if it is not.
func staticIndex(name []byte) int {
	switch string(name) {
	case "accept-ranges":
		return 18
	case "access-control-allow-origin":
		return 20
	case "age":
		return 21
	case "allow":
		return 22
	case "cache-control":
		return 24
	case "content-disposition":
		return 25
	case "content-encoding":
		return 26
	case "content-language":
		return 27
	case "content-location":
		return 29
	case "content-range":
		return 30
	case "content-type":
		return 31
	case "date":
		return indexDate
	case "etag":
		return 34
	case "expires":
		return 36
	case "last-modified":
		return 44
	case "link":
		return 45
	case "location":
		return 46
	case "refresh":
		return 52
	case "retry-after":
		return 53
	case "server":
		return 54
	case "set-cookie":
		return 55
	case "strict-transport-security":
		return 56
	case "vary":
		return 59
	case "www-authenticate":
		return 61
	}
	return 0
}
