package h1

import (
	"io"
	"net"
	"os"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// A script is a connection on which a peer has said its part already: each piece
// comes by a read of its own.
type script struct {
	net.Conn // nil: what is not below is not used
	pieces   []string
	said     []byte    // to the peer
	silent   bool      // after the last piece the peer waits, where it would have closed
	read     time.Time // the deadline of reads
	limits   []time.Time
}

func (s *script) Read(p []byte) (int, error) {
	s.limits = append(s.limits, s.read)
	switch {
	case len(s.pieces) > 0:
		n := copy(p, s.pieces[0])
		if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
			s.pieces = s.pieces[1:]
		}
		return n, nil
	case s.silent:
		return 0, os.ErrDeadlineExceeded
	}
	return 0, io.EOF
}

func (s *script) Write(p []byte) (int, error) {
	s.said = append(s.said, p...)
	return len(p), nil
}

func (s *script) SetReadDeadline(t time.Time) error { s.read = t; return nil }
func (s *script) SetWriteDeadline(time.Time) error  { return nil }
func (s *script) Close() error                      { return nil }

func readerOf(pieces ...string) *reader {
	return &reader{wire: wireOf(&script{pieces: pieces}), buffers: new(Buffers)}
}

// bytewise is text in pieces of one byte.
func bytewise(text string) []string {
	pieces := make([]string, len(text))
	for i := range len(text) {
		pieces[i] = text[i : i+1]
	}
	return pieces
}

func testLimits() conf.Limits {
	return conf.Limits{HeadBytes: 1000, LineBytes: 200, Fields: 10}
}

// readRequest parses the first head of pieces.
func readRequest(pieces ...string) (*message.Request, message.Framing, int, error) {
	limits := testLimits()
	head, err := readerOf(pieces...).head(&limits)
	if err != nil {
		return nil, message.Framing{}, 0, err
	}
	var scratch []byte
	req := new(message.Request)
	how, minor, err := parseRequest(head, req, &scratch, &limits)
	return req, how, minor, err
}

func readResponse(pieces ...string) (*message.Response, message.Framing, int, error) {
	limits := testLimits()
	head, err := readerOf(pieces...).head(&limits)
	if err != nil {
		return nil, message.Framing{}, 0, err
	}
	resp := new(message.Response)
	how, minor, err := parseResponse(head, resp, &limits)
	return resp, how, minor, err
}

func fieldsOf(f *message.Fields) string {
	return string(appendFields(nil, f))
}
