package sockets

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Dial is what a core asks the dialer: to connect to a socket of the plan, which has the
// number Member among those of all apps in their order. It never names a path.
type Dial struct {
	Tag    uint32 // of the answer
	Member uint32
}

// DialBytes is the length of a Dial, and of a Dialed.
const DialBytes = 8

// A Dialed is the answer to the Dial of the same Tag: Errno is 0, and the connection comes
// with it, or what connect(2) said.
type Dialed struct {
	Tag   uint32
	Errno unix.Errno
}

// TagHello is the Tag of what a dialer says first: there is one, which has heard nothing yet
// of what was asked before.
const TagHello = ^uint32(0)

// errnoMost is the highest number of an error, MAX_ERRNO of Linux.
const errnoMost = 4095

// Append writes the message behind b.
func (d Dial) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, d.Tag), d.Member)
}

// ParseDial reads what Append wrote, about one of so many members.
func ParseDial(message []byte, members int) (Dial, error) {
	if len(message) != DialBytes {
		return Dial{}, fmt.Errorf("sockets: dial: %d bytes are not %d", len(message), DialBytes)
	}
	d := Dial{binary.BigEndian.Uint32(message), binary.BigEndian.Uint32(message[4:])}
	if d.Tag == TagHello || uint64(d.Member) >= uint64(members) {
		return Dial{}, fmt.Errorf("sockets: dial: tag %d, member %d of %d", d.Tag, d.Member, members)
	}
	return d, nil
}

// Append writes the message behind b.
func (d Dialed) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, d.Tag), uint32(d.Errno))
}

// ParseDialed reads what Append wrote.
func ParseDialed(message []byte) (Dialed, error) {
	if len(message) != DialBytes {
		return Dialed{}, fmt.Errorf("sockets: dialed: %d bytes are not %d", len(message), DialBytes)
	}
	errno := binary.BigEndian.Uint32(message[4:])
	if errno > errnoMost {
		return Dialed{}, fmt.Errorf("sockets: dialed: error %d", errno)
	}
	return Dialed{binary.BigEndian.Uint32(message), unix.Errno(errno)}, nil
}
