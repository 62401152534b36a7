package keywire

import (
	"crypto/sha256"
	"encoding/binary"
)

// Hello asks the keeper for every certificate and the ticket keys. A core says
// it first, and again from time to time.
type Hello struct {
	Epoch uint64
}

// Append writes the packet behind b.
func (m Hello) Append(b []byte) []byte { return appendHead(b, OpHello, m.Epoch) }

// DecodeHello reads a packet that must be a Hello.
func DecodeHello(packet []byte) (Hello, error) {
	epoch, _, err := body(packet, OpHello, 0, 0)
	return Hello{epoch}, err
}

// Sign asks for the signature of a message: never of a digest, so that the
// keeper sees what it signs.
type Sign struct {
	Epoch   uint64
	ID      uint64 // of this request within its epoch; not 0
	Handle  uint32 // of the certificate whose key signs
	Key     uint32 // KeyTag of that certificate's key, where the handle has had others; 0: whatever it has
	Scheme  Scheme
	Message []byte // 1 to MessageBytesMax bytes
}

// Append writes the packet behind b.
func (m Sign) Append(b []byte) []byte {
	b = appendHead(b, OpSign, m.Epoch)
	b = binary.BigEndian.AppendUint64(b, m.ID)
	b = binary.BigEndian.AppendUint32(b, m.Handle)
	b = binary.BigEndian.AppendUint32(b, m.Key)
	b = binary.BigEndian.AppendUint16(b, uint16(m.Scheme))
	return append(b, m.Message...)
}

// DecodeSign reads a packet that must be a Sign.
func DecodeSign(packet []byte) (Sign, error) {
	const fixed = 8 + 4 + 4 + 2
	epoch, rest, err := body(packet, OpSign, fixed+1, fixed+MessageBytesMax)
	if err != nil {
		return Sign{}, err
	}
	m := Sign{
		Epoch:   epoch,
		ID:      binary.BigEndian.Uint64(rest),
		Handle:  binary.BigEndian.Uint32(rest[8:]),
		Key:     binary.BigEndian.Uint32(rest[12:]),
		Scheme:  Scheme(binary.BigEndian.Uint16(rest[16:])),
		Message: rest[fixed:],
	}
	if m.ID == 0 {
		return Sign{}, ErrMalformed
	}
	return m, nil
}

// KeyTag tells the keys of one handle apart: those of a certificate and of the one that
// followed it. public is the key as certificates have it, the SubjectPublicKeyInfo.
func KeyTag(public []byte) uint32 {
	sum := sha256.Sum256(public)
	return max(1, binary.BigEndian.Uint32(sum[:]))
}
