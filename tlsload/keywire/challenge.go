package keywire

import "encoding/binary"

// This file is what a core is told of the challenges of a CA, by which it shows that the
// names of its sites are ours.

// A Kind is how a challenge is answered.
type Kind uint8

// The kinds.
const (
	HTTP01    Kind = 1 + iota // RFC 8555, section 8.3
	TLSALPN01                 // RFC 8737
	KindEnd                   // one past the last
)

// String is the name that the RFC gives the kind.
func (k Kind) String() string {
	switch k {
	case HTTP01:
		return "http-01"
	case TLSALPN01:
		return "tls-alpn-01"
	default:
		return "unknown"
	}
}

// Greet asks a core for its Hello: the keeper is another than before. It is of no epoch,
// because that is what the keeper does not know.
type Greet struct{}

// Append writes the packet behind b.
func (m Greet) Append(b []byte) []byte { return appendHead(b, OpGreet, 0) }

// DecodeGreet reads a packet that must be a Greet.
func DecodeGreet(packet []byte) (Greet, error) {
	epoch, _, err := body(packet, OpGreet, 0, 0)
	if epoch != 0 {
		return Greet{}, ErrMalformed
	}
	return Greet{}, err
}

// Serving says that a core accepts clients, and so would answer a CA.
type Serving struct {
	Epoch uint64
}

// Append writes the packet behind b.
func (m Serving) Append(b []byte) []byte { return appendHead(b, OpServing, m.Epoch) }

// DecodeServing reads a packet that must be a Serving.
func DecodeServing(packet []byte) (Serving, error) {
	epoch, _, err := body(packet, OpServing, 0, 0)
	return Serving{epoch}, err
}

// A Challenge gives a core what a CA will ask for.
type Challenge struct {
	Epoch  uint64
	Number uint32 // less than ChallengeHandle
	Kind   Kind
	Name   []byte // of the site, as a client sends it; 1 to NameBytesMax bytes
	Token  []byte // of the path, with HTTP01; empty otherwise
	Proof  []byte // the key authorization with HTTP01; a certificate, DER, with TLSALPN01
}

// Append writes the packet behind b.
func (m Challenge) Append(b []byte) []byte {
	b = appendHead(b, OpChallenge, m.Epoch)
	b = binary.BigEndian.AppendUint32(b, m.Number)
	b = append(b, byte(m.Kind))
	return appendFields(b, m.Name, m.Token, m.Proof)
}

// DecodeChallenge reads a packet that must be a Challenge.
func DecodeChallenge(packet []byte) (Challenge, error) {
	epoch, rest, err := body(packet, OpChallenge, 4+1, ReplyBytesMax-headBytes)
	if err != nil {
		return Challenge{}, err
	}
	m := Challenge{Epoch: epoch, Number: binary.BigEndian.Uint32(rest), Kind: Kind(rest[4])}
	most := ProofBytesMax
	if m.Kind == TLSALPN01 {
		most = RequestDERMax
	}
	r := reader{rest: rest[5:]}
	m.Name, m.Token, m.Proof = r.field(1, NameBytesMax), r.field(0, TokenBytesMax), r.field(1, most)
	if !r.done() || m.Number >= ChallengeHandle || !m.Kind.fits(m.Token) {
		return Challenge{}, ErrMalformed
	}
	return m, nil
}

// fits reports whether there is a token where there has to be one.
func (k Kind) fits(token []byte) bool {
	return k == HTTP01 && len(token) > 0 || k == TLSALPN01 && len(token) == 0
}

// Withdrawn takes a Challenge back.
type Withdrawn struct {
	Epoch  uint64
	Number uint32
}

// Append writes the packet behind b.
func (m Withdrawn) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, OpWithdrawn, m.Epoch), m.Number)
}

// DecodeWithdrawn reads a packet that must be a Withdrawn.
func DecodeWithdrawn(packet []byte) (Withdrawn, error) {
	epoch, number, err := decodeNumber(packet, OpWithdrawn)
	return Withdrawn{epoch, number}, err
}

// Answering says that a core has a Challenge.
type Answering struct {
	Epoch  uint64
	Number uint32
}

// Append writes the packet behind b.
func (m Answering) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, OpAnswering, m.Epoch), m.Number)
}

// DecodeAnswering reads a packet that must be an Answering.
func DecodeAnswering(packet []byte) (Answering, error) {
	epoch, number, err := decodeNumber(packet, OpAnswering)
	return Answering{epoch, number}, err
}

// decodeNumber reads a packet that is nothing but the number of a challenge.
func decodeNumber(packet []byte, op Op) (epoch uint64, number uint32, err error) {
	epoch, rest, err := body(packet, op, 4, 4)
	if err != nil {
		return 0, 0, err
	}
	if number = binary.BigEndian.Uint32(rest); number >= ChallengeHandle {
		return 0, 0, ErrMalformed
	}
	return epoch, number, nil
}

// appendFields writes each field with its length before it.
func appendFields(b []byte, fields ...[]byte) []byte {
	for _, field := range fields {
		b = append(b, byte(len(field)>>16), byte(len(field)>>8), byte(len(field)))
		b = append(b, field...)
	}
	return b
}

// A reader takes fields off a packet. After a fault it gives nothing more.
type reader struct {
	rest   []byte
	faulty bool
}

// field is the next one, of least to most bytes.
func (r *reader) field(least, most int) []byte {
	if r.faulty || len(r.rest) < 3 {
		r.faulty = true
		return nil
	}
	n := int(r.rest[0])<<16 | int(r.rest[1])<<8 | int(r.rest[2])
	r.rest = r.rest[3:]
	if n < least || n > most || n > len(r.rest) {
		r.faulty = true
		return nil
	}
	field := r.rest[:n:n]
	r.rest = r.rest[n:]
	return field
}

// done reports whether all was well, and nothing is left.
func (r *reader) done() bool { return !r.faulty && len(r.rest) == 0 }
