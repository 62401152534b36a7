package message

import (
	"net/netip"
	"strconv"
	"time"
)

// A Request is what a client asks, whatever protocol it spoke.
type Request struct {
	Method    []byte
	Secure    bool   // came over TLS
	Authority []byte // host[:port] in lower case, checked, never empty; for routing
	Host      []byte // the same as the client wrote it; what the app is sent
	Target    []byte // origin form ("/path?query"), or "*"
	Upgrade   []byte // the protocol asked for ("websocket"); nil if none
	Fields    Fields // no Host, no framing, no connection fields
	Trailers  bool   // the client said "TE: trailers": what stands behind the body means something to it
	Length    int64  // of the body; -1 when only its end will tell
	Trailer   Fields // complete once Stream.Next returned io.EOF
}

// Reset empties r and keeps its buffers.
func (r *Request) Reset() {
	r.Fields.Reset()
	r.Trailer.Reset()
	*r = Request{Fields: r.Fields, Trailer: r.Trailer}
}

// A Response is the head of an answer.
type Response struct {
	Status  int
	Upgrade []byte // the protocols that a 426 asks for; nil if none
	Fields  Fields // no framing, no connection fields
	Length  int64  // of the body, or what it would be for HEAD and 304; -1 when only its end will tell
}

// Interim reports whether another head follows (RFC 9110, section 15.2). 101 is
// not one: it ends the HTTP of its connection.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// A Peer is the other end of a client's connection.
type Peer struct {
	Addr    netip.AddrPort // of the client or of the last proxy before us; not valid for a unix listener
	Unnamed bool           // Addr is that of a proxy which did not say whom it speaks for: it is not believed either
	Client  *Client        // nil where the connection was not asked for a certificate
}

// A Client is what a client has shown of itself in a TLS handshake that asked for it.
type Client struct {
	Door        int    // what it was asked by: conf.Clients
	Certificate []byte // the value of Client-Cert; nil where it has shown none
	Subject     []byte // of the certificate, as RFC 4514 writes it, in ASCII
}

// A Source is a body, handed on in pieces of its owner's buffer.
type Source interface {
	// Next waits for the next piece, which is valid until the next call. It
	// returns io.EOF, and no piece, after the last one.
	Next() ([]byte, error)

	// Ready reports whether Next would not wait.
	Ready() bool
}

// A Stream is an engine's half of an Exchange: the request's body comes out of
// it, the answer goes into it. One goroutine may read while another writes.
type Stream interface {
	Source

	// Reply sends the head of the answer; heads of 1xx may come before the one
	// that counts. It may stay in a buffer until Flush, Finish or enough Writes.
	Reply(*Response) error

	// Write sends a part of the body.
	Write([]byte) (int, error)

	// ReadFrom sends what is left of source, flushing whenever source makes it wait.
	// An error of the source comes back as a *SourceError, others are the client's.
	ReadFrom(source Source) (int64, error)

	// Flush sends what is buffered.
	Flush() error

	// Finish ends the answer. A request body that was not read to its end is
	// given up, and with it the connection if the protocol has no other way.
	Finish(trailer *Fields) error

	// Abort ends the exchange so that the client cannot take what it has for
	// the whole answer.
	Abort(Reason)

	// Whole reports whether all of the request's body is here already, so that Next will
	// not wait for the client. It may be false where nobody can tell yet.
	Whole() bool

	// Left reports whether the client has gone or has closed its half, as far as the
	// engine knows. Any goroutine may ask while the exchange lives.
	Left() bool
}

// A Reason says why an exchange was aborted.
type Reason struct {
	Cause string // as the log has it
	Code  Code   // of the app that has reset it; CodeNone where none has, or could
}

// A Code says to a peer that can be told why one of its exchanges was reset. The numbers are
// those of RFC 9113, section 7, of which we pass on what does not speak of a connection.
type Code uint32

// The codes that go from one side to the other.
const (
	CodeNone        Code = 0x0
	CodeInternal    Code = 0x2
	CodeRefused     Code = 0x7 // nothing was done of it
	CodeCancel      Code = 0x8
	CodeEnhanceCalm Code = 0xb
	CodeHTTP1       Code = 0xd // it is to be asked by HTTP/1
)

// A ResetError is an exchange that an app has reset, in a protocol that can do so.
type ResetError struct{ Code Code }

func (e *ResetError) Error() string {
	names := map[Code]string{
		CodeNone: "NO_ERROR", CodeInternal: "INTERNAL_ERROR", CodeRefused: "REFUSED_STREAM", CodeCancel: "CANCEL",
		CodeEnhanceCalm: "ENHANCE_YOUR_CALM", CodeHTTP1: "HTTP_1_1_REQUIRED",
	}
	name, ok := names[e.Code]
	if !ok {
		name = "code " + strconv.FormatUint(uint64(e.Code), 10)
	}
	return "message: stream reset: " + name
}

// A SourceError is an error of the source of a body, not of the stream that sends it.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "message: body: " + e.Err.Error() }

// Unwrap returns the source's own error.
func (e *SourceError) Unwrap() error { return e.Err }

// An Exchange is one request and its answer.
type Exchange struct {
	Request  Request
	Peer     Peer
	Protocol string    // "HTTP/1.1"; for the log and Via alone: who decides by it has found a hole in the seam
	Begun    time.Time // when the first byte of the head was there
	Stream   Stream
}

// A Handler serves exchanges, in straight-line, blocking style. When Serve
// returns, the exchange is over: finished, or aborted.
type Handler interface{ Serve(*Exchange) }
