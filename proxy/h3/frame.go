package h3

import (
	"encoding/binary"

	"sallyport/proxy/message"
)

// The kinds of frames and streams (RFC 9114, sections 6.2 and 7.2).
const (
	kindData        = 0x0
	kindHeaders     = 0x1
	kindCancelPush  = 0x3
	kindSettings    = 0x4
	kindPushPromise = 0x5
	kindGoAway      = 0x7
	kindMaxPushID   = 0xd

	streamControl = 0x0
	streamPush    = 0x1
)

// isOfHTTP2 are the kinds of frames, and the settings, "that were used in HTTP/2 where there is
// no corresponding HTTP/3 [...] receipt MUST be treated as a connection error" RFC 9114,
// section 7.2.8; for settings section 7.2.4.1.
func isOfHTTP2(kind uint64) bool { return kind == 2 || kind == 6 || kind == 8 || kind == 9 }

// Settings (RFC 9114, section 7.2.4.1; RFC 9220, section 3).
const (
	settingSectionMax = 0x6
	settingConnect    = 0x8
)

// A code is an error code of HTTP/3 (RFC 9114, section 8.1; RFC 9204, section 6).
type code uint64

const (
	codeNone            code = 0x100
	codeInternal        code = 0x102
	codeStreamCreation  code = 0x103
	codeClosedCritical  code = 0x104
	codeFrameUnexpected code = 0x105
	codeFrame           code = 0x106
	codeExcessiveLoad   code = 0x107
	codeID              code = 0x108
	codeSettings        code = 0x109
	codeMissingSettings code = 0x10a
	codeRejected        code = 0x10b
	codeCancelled       code = 0x10c
	codeIncomplete      code = 0x10d
	codeMessage         code = 0x10e
	codeDecompression   code = 0x200
)

// A fault is why a connection is to end: a code for the client and a cause for the log.
type fault struct {
	code  code
	cause *message.Refusal
}

func (f *fault) Error() string { return "h3: " + f.cause.Cause }

// The faults.
var (
	errFrameUnexpected = &fault{codeFrameUnexpected, message.ErrFrames}
	errFrame           = &fault{codeFrame, message.ErrFrames}
	errID              = &fault{codeID, message.ErrFrames}
	errSettings        = &fault{codeSettings, message.ErrFrames}
	errMissingSettings = &fault{codeMissingSettings, message.ErrFrames}
	errStreamCreation  = &fault{codeStreamCreation, message.ErrFrames}
	errClosedCritical  = &fault{codeClosedCritical, message.ErrFrames}
	errCompression     = &fault{codeDecompression, message.ErrCompression}
	errControls        = &fault{codeExcessiveLoad, message.ErrControls}
	errResets          = &fault{codeExcessiveLoad, message.ErrResets}
)

// parseVarint reads an integer (RFC 9000, section 16); n is 0 when b has only a part of it.
func parseVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	n = 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, 0
	}
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}

// appendVarint appends an integer below 2^62.
func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(v)|1<<14)
	case v < 1<<30:
		return binary.BigEndian.AppendUint32(b, uint32(v)|2<<30)
	}
	return binary.BigEndian.AppendUint64(b, v|3<<62)
}

// appendHeader appends the header of a frame of n bytes.
func appendHeader(b []byte, kind, n uint64) []byte { return appendVarint(appendVarint(b, kind), n) }

// sectionRoom is what the header of a HEADERS frame takes whose length is not known yet: the
// kind and a length of two bytes.
const sectionRoom = 3

// endSection puts the header of a HEADERS frame before the section that begins at
// start+sectionRoom.
func endSection(b []byte, start int) []byte {
	n := len(b) - start - sectionRoom
	b[start] = kindHeaders
	if n < 1<<14 {
		binary.BigEndian.PutUint16(b[start+1:], uint16(n)|1<<14)
		return b
	}
	b = append(b, 0, 0) // a length of four bytes
	copy(b[start+sectionRoom+2:], b[start+sectionRoom:])
	binary.BigEndian.PutUint32(b[start+1:], uint32(n)|2<<30)
	return b
}
