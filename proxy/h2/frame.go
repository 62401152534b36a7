package h2

import "encoding/binary"

// A kind is what a frame is (RFC 9113, section 6).
type kind uint8

const (
	kindData           kind = 0x0
	kindHeaders        kind = 0x1
	kindPriority       kind = 0x2
	kindReset          kind = 0x3
	kindSettings       kind = 0x4
	kindPush           kind = 0x5
	kindPing           kind = 0x6
	kindGoAway         kind = 0x7
	kindWindow         kind = 0x8
	kindContinuation   kind = 0x9
	kindPriorityUpdate kind = 0x10 // RFC 9218, section 7.1
)

// Flags of frames. The same bit is two things, by the kind.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// A code is why a stream or a connection ended (RFC 9113, section 7).
type code uint32

const (
	codeNone          code = 0x0
	codeProtocol      code = 0x1
	codeInternal      code = 0x2
	codeFlowControl   code = 0x3
	codeStreamClosed  code = 0x5
	codeFrameSize     code = 0x6
	codeRefused       code = 0x7
	codeCancel        code = 0x8
	codeCompression   code = 0x9
	codeEnhanceCalm   code = 0xb
	codeInadequateTLS code = 0xc
)

// Settings (RFC 9113, section 6.5.2; RFC 8441, section 3; RFC 9218, section 2.1).
const (
	settingTableBytes    = 0x1
	settingPush          = 0x2
	settingStreams       = 0x3
	settingWindow        = 0x4
	settingFrameBytes    = 0x5
	settingListBytes     = 0x6
	settingConnect       = 0x8
	settingNoPriorities  = 0x9
	settingBytes         = 6
	windowMost           = 1<<31 - 1
	windowAtFirst        = 1<<16 - 1
	frameBytesLeast      = 1 << 14 // what every peer takes, and the most that we take
	frameBytesMost       = 1<<24 - 1
	tableBytes           = 4096 // of the peer's compression, as HPACK has it at first
	headerBytes          = 9    // before each frame
	pingBytes            = 8
	streamMost           = 1<<31 - 1
	preface              = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	priorityBytes        = 5
	priorityUpdatesBytes = 256 // of a PRIORITY_UPDATE: "u=7, i" is what there is to say
)

// A header is what stands before each frame (RFC 9113, section 4.1).
type header struct {
	length int
	kind   kind
	flags  uint8
	stream uint32
}

// parseHeader reads the first headerBytes of b. The reserved bit is ignored.
func parseHeader(b []byte) header {
	return header{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   kind(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & streamMost,
	}
}

func (h *header) has(flag uint8) bool { return h.flags&flag != 0 }

func appendHeader(b []byte, length int, k kind, flags uint8, stream uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(k), flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// Positions in a frame's header.
const (
	flagsAt = 4
	kindAt  = 3
)

func appendReset(b []byte, stream uint32, why code) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, kindReset, 0, stream), uint32(why))
}

func appendWindow(b []byte, stream, more uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, kindWindow, 0, stream), more)
}

func appendGoAway(b []byte, last uint32, why code) []byte {
	b = appendHeader(b, 8, kindGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(why))
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}

// unpad takes the padding off a payload of DATA or HEADERS: "The total number of padding
// octets is determined by the value of the Pad Length field. If the length of the padding
// is the length of the frame payload or greater, the recipient MUST treat this as a
// connection error" RFC 9113, section 6.1.
func unpad(h *header, payload []byte) (inner []byte, ok bool) {
	if !h.has(flagPadded) {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}
