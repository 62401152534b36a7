package h1

import (
	"strconv"

	"sallyport/proxy/message"
)

// What a request says of its connection. One that will carry no other says so: an app
// that kept it open would hold a worker for nothing. "HTTP/1.1 defaults to the use of
// "persistent connections"" (RFC 9112, section 9.3), so that to keep one takes no word.
const (
	closing = "Connection: close\r\n"
	keeping = ""
)

// appendRequest appends the head of a request to an app; connection is closing or
// keeping.
func appendRequest(b []byte, req *message.Request, connection string) []byte {
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, req.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, req.Host...)
	b = append(b, "\r\n"...)
	b = appendFields(b, &req.Fields)
	switch {
	case req.Length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case req.Length > 0 || mayHaveBody(req.Method):
		b = appendLength(b, req.Length)
	}
	if req.Upgrade != nil {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, req.Upgrade...)
		return append(b, "\r\n\r\n"...)
	}
	b = append(b, connection...)
	return append(b, "\r\n"...)
}

// mayHaveBody reports whether "the method's semantics anticipate enclosed
// content", so that "a user agent SHOULD send Content-Length" even when there is
// none (RFC 9110, section 8.6).
func mayHaveBody(method []byte) bool {
	switch string(method) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}

func appendFields(b []byte, f *message.Fields) []byte {
	for i := range f.Len() {
		_, key, value := f.Line(i)
		b = append(b, key...)
		b = append(b, ": "...)
		b = append(b, value...)
		b = append(b, "\r\n"...)
	}
	return b
}

func appendLength(b []byte, length int64) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, length, 10)
	return append(b, "\r\n"...)
}

// appendStatusLine appends a status line. The reason is ours: "The reason-phrase
// [...] A client SHOULD ignore" it (RFC 9112, section 4), and an app's own may hold
// anything.
func appendStatusLine(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, message.StatusText(status)...)
	return append(b, "\r\n"...)
}

// chunkFrame is what chunked coding adds around a chunk at most: the CRLF behind
// it, and the head of the next or the end of the body.
const chunkFrame = len("\r\n" + "ffffffffffffffff\r\n")

// appendChunk appends the head of a chunk; the chunk and a CRLF follow it.
func appendChunk(b []byte, length int) []byte {
	b = strconv.AppendUint(b, uint64(length), 16)
	return append(b, "\r\n"...)
}

// appendLastChunk ends a chunked body.
func appendLastChunk(b []byte, trailer *message.Fields) []byte {
	b = append(b, "0\r\n"...)
	if trailer != nil {
		b = appendFields(b, trailer)
	}
	return append(b, "\r\n"...)
}
