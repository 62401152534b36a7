package h3

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// someone is a connection without QUIC, for whoever only parses.
func someone() *ClientConn {
	return &ClientConn{engine: &Engine{Limits: conf.Limits{HeadBytes: 4 << 10, LineBytes: 1 << 10, Fields: 20, ControlFrames: 100}}}
}

// told is the stream that has read all of b, and what its body was, or why it ended.
func told(b []byte, step bool) (s *stream, body []byte, err error) {
	s = &stream{conn: someone()}
	s.in.source = bytes.NewReader(b)
	if step {
		s.in.source = iotest.OneByteReader(s.in.source)
	}
	s.exchange.Request.Secure = true
	if err := s.beginHead(); err != nil {
		return s, nil, err
	}
	if s.refusal != nil {
		return s, nil, s.refusal
	}
	for {
		piece, err := s.nextPiece()
		if err != nil {
			return s, body, err
		}
		body = append(body, piece...)
	}
}

// post is a request with a body in two frames, a frame that nobody knows, and a trailer.
func post() []byte {
	var f message.Fields
	f.Add("content-length", []byte("5"))
	head := beginSection(make([]byte, sectionRoom))
	head = append(head, 0xc0|20, 0xc0|23, 0xc0|1, 0x50, 6)
	head = appendFields(append(head, "a.test"...), &f)
	b := endSection(head, 0)
	b = append(appendHeader(b, kindData, 2), "he"...)
	b = append(appendHeader(b, 0x21, 3), "???"...)
	b = append(appendHeader(b, kindData, 3), "llo"...)
	var trailer message.Fields
	trailer.Add("sum", []byte("7"))
	start := len(b)
	return endSection(appendFields(beginSection(append(b, 0, 0, 0)), &trailer), start)
}

// TestRequest: a request is the same whole or byte by byte.
func TestRequest(t *testing.T) {
	for _, step := range []bool{false, true} {
		s, body, err := told(post(), step)
		if err != io.EOF || string(body) != "hello" || s.exchange.Request.Length != 5 || s.exchange.Request.Trailer.Len() != 1 {
			t.Errorf("%q, %d: %v", body, s.exchange.Request.Length, err)
		}
	}
}

// TestRequestFaults: what is out of order ends the connection or the request.
func TestRequestFaults(t *testing.T) {
	whole := post()
	head := whole[:bytes.Index(whole, []byte("he"))-2]
	with := func(more ...byte) []byte { return append(append([]byte(nil), head...), more...) }
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"nothing":                {nil, errIncomplete},
		"no head":                {[]byte{kindData, 1, 'x'}, errFrameUnexpected},
		"a part of a head":       {head[:len(head)-1], errFrame},
		"a part of a frame":      {with(kindData, 5, 'h'), errFrame},
		"less than announced":    {with(kindData, 1, 'h'), message.ErrLengthDisagrees},
		"more than announced":    {with(kindData, 6, 'h', 'e', 'l', 'l', 'o', '!'), message.ErrLengthDisagrees},
		"settings":               {with(kindSettings, 0), errFrameUnexpected},
		"a frame of HTTP/2":      {with(6, 0), errFrameUnexpected},
		"a push":                 {with(kindPushPromise, 1, 0), errFrameUnexpected},
		"data behind a trailer":  {append(append([]byte(nil), whole...), kindData, 1, 'x'), errFrameUnexpected},
		"two trailers":           {append(append([]byte(nil), whole...), kindHeaders, 2, 0, 0), errFrameUnexpected},
		"a table that is not":    {[]byte{kindHeaders, 3, 1, 0, 0x80}, errCompression},
		"an index that is not":   {[]byte{kindHeaders, 4, 0, 0, 0xff, 0x7f}, errCompression},
		"pseudo in the trailer":  {with(kindData, 5, 'h', 'e', 'l', 'l', 'o', kindHeaders, 3, 0, 0, 0xc0|17), message.ErrPseudo},
		"a head that is long":    {appendHeader(nil, kindHeaders, 1<<40), message.ErrHeadTooLong},
		"a frame nobody can use": {with(appendHeader(nil, 0x21, 1<<40)...), errControls},
	} {
		for _, step := range []bool{false, true} {
			if _, body, err := told(c.bytes, step); !errors.Is(err, c.want) {
				t.Errorf("%s: %v behind %q, want %v", name, err, body, c.want)
			}
		}
	}
}

// FuzzRequest: whatever comes on a stream, the parser ends, and byte by byte it ends alike.
func FuzzRequest(f *testing.F) {
	f.Add(post())
	f.Add([]byte{kindHeaders, 3, 0, 0, 0xc0 | 17})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, whole, err := told(b, false)
		_, steps, stepErr := told(b, true)
		if (err == io.EOF) != (stepErr == io.EOF) || err == io.EOF && !bytes.Equal(whole, steps) {
			t.Errorf("%q, %v, and byte by byte %q, %v", whole, err, steps, stepErr)
		}
		if len(whole) > len(b) {
			t.Errorf("%d bytes of %d", len(whole), len(b))
		}
	})
}

// TestControl: a control stream begins with SETTINGS, has no requests, and does not end.
func TestControl(t *testing.T) {
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"ends":                 {[]byte{kindSettings, 0}, errClosedCritical},
		"no settings":          {[]byte{kindGoAway, 1, 0}, errMissingSettings},
		"settings twice":       {[]byte{kindSettings, 0, kindSettings, 0}, errFrameUnexpected},
		"a setting twice":      {[]byte{kindSettings, 4, 6, 1, 6, 1}, errSettings},
		"a setting of HTTP/2":  {[]byte{kindSettings, 2, 3, 1}, errSettings},
		"settings cut":         {[]byte{kindSettings, 3, 6, 1, 6, 1}, errFrame},
		"data":                 {[]byte{kindSettings, 0, kindData, 0}, errFrameUnexpected},
		"a head":               {[]byte{kindSettings, 0, kindHeaders, 0}, errFrameUnexpected},
		"a push cancelled":     {[]byte{kindSettings, 0, kindCancelPush, 1, 0}, errID},
		"an id that is longer": {[]byte{kindSettings, 0, kindGoAway, 2, 0, 0}, errFrame},
		"an id in more bytes":  {[]byte{kindSettings, 0, kindGoAway, 2, 0x40, 0, kindMaxPushID, 4, 0x80, 0, 0, 0}, errClosedCritical},
		"a GOAWAY that grows":  {[]byte{kindSettings, 0, kindGoAway, 1, 4, kindGoAway, 1, 5}, errID},
		"GOAWAY twice":         {[]byte{kindSettings, 0, kindGoAway, 1, 4, kindGoAway, 1, 4, kindGoAway, 1, 0}, errClosedCritical},
		"fewer pushes":         {[]byte{kindSettings, 0, kindMaxPushID, 1, 5, kindMaxPushID, 1, 4}, errID},
		"more pushes":          {[]byte{kindSettings, 0, kindMaxPushID, 1, 5, kindMaxPushID, 1, 6}, errClosedCritical},
		"frames nobody knows":  {[]byte{kindSettings, 0, 0x21, 2, 0, 0, 0x21, 0}, errClosedCritical},
		"a part of a frame":    {[]byte{kindSettings, 0, 0x21, 2, 0}, errFrame},
	} {
		if err := someone().controlLoop(&uniReader{from: bytes.NewReader(c.bytes)}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// FuzzControl: whatever comes on a control stream, the parser ends.
func FuzzControl(f *testing.F) {
	f.Add([]byte{kindSettings, 4, 6, 1, 8, 1, kindGoAway, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := someone().controlLoop(&uniReader{from: bytes.NewReader(b)}); err == nil {
			t.Error("a stream that ends is fine")
		}
	})
}
