package h1

import (
	"bytes"
	"errors"
	"io"
	"syscall"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// A body follows the framing of one message body in the bytes of a reader.
//
//	Content-Length            chunked                    neither, a reply
//	inPiece -> ended          size -> inPiece -> crlf    untilClose -> ended
//	                           ^________________/
//	                          size "0" -> trailer -> ended
type body struct {
	in       *reader
	limits   *conf.Limits
	trailer  *message.Fields // where a trailer goes
	state    bodyState
	chunked  bool
	splicing bool  // what is left of the piece goes by a pipe, however little it is
	left     int64 // of the piece
	taken    int   // bytes of in that the last piece showed, not used up before the next call
}

type bodyState uint8

const (
	ended bodyState = iota
	inPiece
	size
	crlf
	untilClose
)

// chunkLineMax bounds a chunk-size line. Extensions are legal and no client of
// ours sends any; without a bound they are a way to send much and mean nothing.
const chunkLineMax = 256

// sized is the body of a message with a Content-Length.
func (b *body) sized(length int64) {
	b.state, b.chunked, b.left, b.taken = inPiece, false, length, 0
	if length == 0 {
		b.state = ended
	}
}

func (b *body) inChunks() {
	b.state, b.chunked, b.left, b.taken = size, true, 0, 0
}

func (b *body) toClose() {
	b.state, b.chunked, b.left, b.taken = untilClose, false, 0, 0
}

// Next is message.Source.
func (b *body) Next() ([]byte, error) {
	b.settle()
	for {
		switch b.state {
		case ended:
			return nil, io.EOF
		case inPiece:
			return b.piece(b.left)
		case untilClose:
			piece, err := b.piece(unbounded)
			if isClosed(err) {
				b.state = ended
				return nil, io.EOF
			}
			return piece, err
		case crlf:
			line, err := b.in.line(2, message.ErrChunk)
			if err != nil {
				return nil, truncated(err)
			}
			if len(line) > 0 {
				return nil, message.ErrChunk
			}
			b.state = size
		case size:
			if err := b.nextChunk(); err != nil {
				return nil, truncated(err)
			}
		}
	}
}

// isClosed reports whether err is how a connection ends that delimits a body. An
// app that closes with bytes of a request unread resets a unix socket: what it
// wrote came first, so a reset tells no more than an end of file.
func isClosed(err error) bool {
	return err == io.EOF || errors.Is(err, syscall.ECONNRESET)
}

// truncated turns the end of a connection inside a body into the fault it is.
func truncated(err error) error {
	if err == io.EOF {
		return message.ErrBodyTruncated
	}
	return err
}

func (b *body) piece(limit int64) ([]byte, error) {
	if b.in.from == b.in.to {
		if b.in.to == smallBytes {
			b.in.widen() // the last read filled it: this body is a long one
		}
		if err := b.in.fill(); err != nil {
			if b.state == inPiece {
				err = truncated(err)
			}
			return nil, err
		}
	}
	piece := b.in.unused()
	if int64(len(piece)) > limit {
		piece = piece[:limit]
	}
	b.taken = len(piece)
	b.use(len(piece))
	return piece, nil
}

// use counts n bytes of the body, which are within its piece.
func (b *body) use(n int) {
	if b.state != inPiece {
		return
	}
	b.left -= int64(n)
	if b.left == 0 {
		b.state, b.splicing = ended, false
		if b.chunked {
			b.state = crlf
		}
	}
}

// nextChunk reads a chunk-size line, and the trailer behind the last chunk.
func (b *body) nextChunk() error {
	line, err := b.in.line(chunkLineMax, message.ErrChunk)
	if err != nil {
		return err
	}
	n, err := parseChunkSize(line)
	if err != nil {
		return err
	}
	if n > 0 {
		b.state, b.left = inPiece, n
		return nil
	}
	if err := b.readTrailer(); err != nil {
		return err
	}
	b.state = ended
	return nil
}

// parseChunkSize reads "1*HEXDIG [ chunk-ext ]" (RFC 9112, section 7.1). "A
// recipient MUST [...] prevent parsing errors due to integer conversion overflows".
func parseChunkSize(line []byte) (int64, error) {
	n, digits := int64(0), 0
	for digits < len(line) && isHexDigit(line[digits]) {
		if digits == 15 {
			return 0, message.ErrChunk
		}
		n = n<<4 | int64(hexValue(line[digits]))
		digits++
	}
	if digits == 0 || digits < len(line) && line[digits] != ';' {
		return 0, message.ErrChunk
	}
	for _, c := range line[digits:] {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return 0, message.ErrChunk
		}
	}
	return n, nil
}

func (b *body) readTrailer() error {
	if unused := b.in.unused(); len(unused) >= 2 && unused[0] == '\r' && unused[1] == '\n' {
		b.in.from += 2
		return nil
	}
	b.trailer.Reset()
	first, err := b.in.line(b.limits.LineBytes, message.ErrFieldTooLong)
	if err != nil || len(first) == 0 {
		return err
	}
	// The line is put back: a trailer is a head without its first line.
	b.in.from -= len(first) + 2
	trailer, err := b.in.head(b.limits)
	if err != nil {
		return err
	}
	if err := parseFields(b.trailer, b.trailer.Hold(trailer), 0, b.limits); err != nil {
		return err
	}
	return message.CheckTrailer(b.trailer)
}

// Ready is message.Source. Between two chunks it wants the whole next size line
// and something behind it: a sender that waits for its app after each chunk must
// not look ready because of two bytes that carry nothing.
func (b *body) Ready() bool {
	unused := b.in.unused()[b.taken:]
	switch b.state {
	case ended:
		return true
	case crlf:
		if len(unused) < 2 {
			return false
		}
		return chunkReady(unused[2:])
	case size:
		return chunkReady(unused)
	}
	return len(unused) > 0
}

func chunkReady(unused []byte) bool {
	line := bytes.IndexByte(unused, '\n')
	return line >= 0 && len(unused) > line+1
}

// isHere reports whether all that is left of the body has been read.
func (b *body) isHere() bool {
	return b.state == ended || b.state == inPiece && !b.chunked && int64(len(b.in.unused())-b.taken) >= b.left
}

// settle uses up the last piece that was handed out.
func (b *body) settle() {
	b.in.from += b.taken
	b.taken = 0
}

// done reports whether the whole body was handed out.
func (b *body) done() bool { return b.state == ended }

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
