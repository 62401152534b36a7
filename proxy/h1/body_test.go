package h1

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"sallyport/proxy/message"
)

// readBody reads a body to its end, and says what is left behind it.
func readBody(begin func(*body), pieces ...string) (text, trailer, left string, err error) {
	limits := testLimits()
	in := readerOf(pieces...)
	b := body{in: in, limits: &limits, trailer: new(message.Fields)}
	begin(&b)
	var all strings.Builder
	for err == nil {
		var piece []byte
		piece, err = b.Next()
		all.Write(piece)
	}
	b.settle()
	for in.fill() == nil {
	}
	if err == io.EOF {
		err = nil
	}
	return all.String(), fieldsOf(b.trailer), string(in.unused()), err
}

func TestChunked(t *testing.T) {
	big := strings.Repeat("x", 100000)
	for _, test := range []struct{ in, text, trailer, left string }{
		{"0\r\n\r\n", "", "", ""},
		{"0\r\n\r\nGET", "", "", "GET"},
		{"5\r\nhello\r\n0\r\n\r\n", "hello", "", ""},
		{"5;a=b;c=\"\xe9\"\r\nhello\r\n0;x\r\n\r\n", "", "", ""}, // below: refused
		{"5;a=b ; c=\"d\"\t\r\nhello\r\n0;x\r\n\r\n\r\n", "hello", "", "\r\n"},
		{"00005\r\nhello\r\n000\r\n\r\n", "hello", "", ""},
		{"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", "", ""},
		{"2\r\n\r\n\r\n0\r\n\r\n", "\r\n", "", ""},
		{"186a0\r\n" + big + "\r\n186A0\r\n" + big + "\r\n0\r\n\r\nleft", big + big, "", "left"},
		{"1\r\nx\r\n0\r\nA: b\r\nC:d\r\n\r\nleft", "x", "A: b\r\nC: d\r\n", "left"},
	} {
		for _, pieces := range [][]string{{test.in}, bytewise(test.in)} {
			text, trailer, left, err := readBody((*body).inChunks, pieces...)
			if strings.Contains(test.in, "\xe9") {
				if err != message.ErrChunk {
					t.Errorf("%.60q: %v", test.in, err)
				}
				continue
			}
			if err != nil || text != test.text || trailer != test.trailer || left != test.left {
				t.Errorf("%.60q in %d pieces: %.60q %q %q %v", test.in, len(pieces), text, trailer, left, err)
			}
		}
	}
	long := strings.Repeat("a", 300)
	for in, want := range map[string]error{
		"":                                message.ErrBodyTruncated,
		"5":                               message.ErrBodyTruncated,
		"5\r\nhel":                        message.ErrBodyTruncated,
		"5\r\nhello":                      message.ErrBodyTruncated,
		"5\r\nhello\r\n":                  message.ErrBodyTruncated,
		"5\r\nhello\r\n0\r\n":             message.ErrBodyTruncated,
		"5\r\nhello\r\n0\r\n\r":           message.ErrBodyTruncated,
		"0\r\nA: b\r\n":                   message.ErrBodyTruncated,
		"\r\n":                            message.ErrChunk,
		"x\r\n":                           message.ErrChunk,
		"5x\r\nhello\r\n":                 message.ErrChunk,
		"0x5\r\nhello\r\n":                message.ErrChunk,
		"-5\r\nhello\r\n":                 message.ErrChunk,
		"+5\r\nhello\r\n":                 message.ErrChunk,
		"5_0\r\n":                         message.ErrChunk,
		" 5\r\nhello\r\n":                 message.ErrChunk,
		"5 \r\nhello\r\n":                 message.ErrChunk,
		"5\t;a\r\nhello\r\n":              message.ErrChunk,
		"\uff15\r\nhello\r\n":             message.ErrChunk,
		"5\x00\r\nhello\r\n":              message.ErrChunk,
		"5;\x00\r\nhello\r\n":             message.ErrChunk,
		"5;a\rb\r\nhello\r\n":             message.ErrChunk,
		"5\r\r\nhello\r\n":                message.ErrChunk,
		"fffffffffffffffff\r\n":           message.ErrChunk,
		"8000000000000000\r\n":            message.ErrChunk,
		"0000000000000005\r\nhello\r\n":   message.ErrChunk,
		"5;" + long + "\r\nhello\r\n":     message.ErrChunk,
		"5;" + long:                       message.ErrChunk,
		long:                              message.ErrChunk,
		"5\r\nhello!\r\n0\r\n\r\n":        message.ErrChunk,
		"5\r\nhello0\r\n\r\n":             message.ErrChunk,
		"5\r\nhello\r\r\n":                message.ErrChunk,
		"5\nhello\r\n":                    message.ErrLineEnd,
		"5\r\nhello\n0\r\n\r\n":           message.ErrLineEnd,
		"0\n\n":                           message.ErrLineEnd,
		"0\r\n\n":                         message.ErrLineEnd,
		"0\r\nA: b\n\r\n":                 message.ErrLineEnd,
		"0\r\n A: b\r\n\r\n":              message.ErrFold,
		"0\r\nA: b\r\n c\r\n\r\n":         message.ErrFold,
		"0\r\nA\r\n\r\n":                  message.ErrFieldName,
		"0\r\nA: \x00\r\n\r\n":            message.ErrFieldValue,
		"0\r\nHost: b\r\n\r\n":            message.ErrTrailer,
		"0\r\nA: b\r\nTrailer: A\r\n\r\n": message.ErrTrailer,
		"0\r\nA: " + long + "\r\n\r\n":    message.ErrFieldTooLong,
		"0\r\n" + strings.Repeat("A: b\r\n", 11) + "\r\n":             message.ErrTooManyFields,
		"0\r\n" + strings.Repeat("A: "+long[:150]+"\r\n", 8) + "\r\n": message.ErrHeadTooLong,
	} {
		for _, pieces := range [][]string{{in}, bytewise(in)} {
			if text, _, _, err := readBody((*body).inChunks, pieces...); err != want {
				t.Errorf("%.60q in %d pieces: %v, want %v; body %q", in, len(pieces), err, want, text)
			}
		}
	}
}

func TestSized(t *testing.T) {
	big := strings.Repeat("0123456789", 20000)
	for _, test := range []struct {
		length   int64
		in, text string
		left     string
		want     error
	}{
		{0, "GET", "", "GET", nil},
		{5, "hello", "hello", "", nil},
		{5, "helloGET", "hello", "GET", nil},
		{5, "hell", "hell", "", message.ErrBodyTruncated},
		{5, "", "", "", message.ErrBodyTruncated},
		{200000, big + "GET", big, "GET", nil},
	} {
		for _, pieces := range [][]string{{test.in}, bytewise(test.in)} {
			text, _, left, err := readBody(func(b *body) { b.sized(test.length) }, pieces...)
			if text != test.text || left != test.left || err != test.want {
				t.Errorf("%d of %.20q in %d pieces: %.20q %q %v", test.length, test.in, len(pieces), text, left, err)
			}
		}
	}
}

func TestUntilClose(t *testing.T) {
	if text, _, left, err := readBody((*body).toClose, "hello", " ", "world"); text != "hello world" || left != "" || err != nil {
		t.Errorf("%q %q %v", text, left, err)
	}
	for err, want := range map[error]bool{io.EOF: true, syscall.ECONNRESET: true, io.ErrUnexpectedEOF: false, syscall.EPIPE: false, errors.New("x"): false} {
		if isClosed(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

// TestReady: a body that looks ready must have something to hand out.
func TestReady(t *testing.T) {
	for in, want := range map[string]bool{
		"":                 false,
		"5":                false,
		"5\r\n":            false,
		"5\r\nh":           true,
		"0\r\n\r\n":        true,
		"\r\n":             false,
		"\r\n5":            false,
		"\r\n5\r\n":        false,
		"\r\n5\r\nh":       true,
		"\r\n0\r\n\r\nGET": true,
	} {
		b := body{in: readerOf(in)}
		if in == "" {
			b.in.buf = make([]byte, 1)
		} else if err := b.in.fill(); err != nil {
			t.Fatal(err)
		}
		b.state = size
		if strings.HasPrefix(in, "\r\n") {
			b.state = crlf
		}
		if got := b.Ready(); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
	b := body{in: readerOf("helloGET")}
	b.sized(5)
	if b.Ready() {
		t.Error("nothing was read")
	}
	piece, err := b.Next()
	if string(piece) != "hello" || err != nil || !b.Ready() || !b.done() {
		t.Errorf("%q %v %v %v", piece, err, b.Ready(), b.done())
	}
}
