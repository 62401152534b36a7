package keywire

import "encoding/binary"

// Certificate gives a core one certificate, without its key.
type Certificate struct {
	Epoch  uint64
	Handle uint32   // less than Count
	Count  uint32   // how many the keeper holds
	Chain  [][]byte // DER, the site's own first; at most ChainLenMax, none empty; none at all: there is no certificate yet
}

// Append writes the packet behind b.
func (m Certificate) Append(b []byte) []byte {
	b = appendHead(b, OpCertificate, m.Epoch)
	b = binary.BigEndian.AppendUint32(b, m.Handle)
	b = binary.BigEndian.AppendUint32(b, m.Count)
	for _, der := range m.Chain {
		b = append(b, byte(len(der)>>16), byte(len(der)>>8), byte(len(der)))
		b = append(b, der...)
	}
	return b
}

// DecodeCertificate reads a packet that must be a Certificate.
func DecodeCertificate(packet []byte) (Certificate, error) {
	const fixed = 4 + 4
	epoch, rest, err := body(packet, OpCertificate, fixed, ReplyBytesMax-headBytes)
	if err != nil {
		return Certificate{}, err
	}
	m := Certificate{
		Epoch:  epoch,
		Handle: binary.BigEndian.Uint32(rest),
		Count:  binary.BigEndian.Uint32(rest[4:]),
	}
	m.Chain, err = decodeChain(rest[fixed:])
	if err != nil || m.Handle >= m.Count {
		return Certificate{}, ErrMalformed
	}
	return m, nil
}

func decodeChain(rest []byte) (chain [][]byte, err error) {
	total := 0
	for len(rest) > 0 {
		if len(rest) < 3 || len(chain) == ChainLenMax {
			return nil, ErrMalformed
		}
		n := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		rest = rest[3:]
		total += n
		if n == 0 || n > len(rest) || total > ChainBytesMax {
			return nil, ErrMalformed
		}
		chain = append(chain, rest[:n:n])
		rest = rest[n:]
	}
	return chain, nil
}

// Tickets gives a core the keys of what one core hands to a client and another one may be
// shown. Of those of session tickets the first seals; all of them open.
type Tickets struct {
	Epoch uint64
	Reset [32]byte   // of the tokens of QUIC's stateless resets. RFC 9000, section 10.3.2
	Token [32]byte   // of those by which QUIC knows an address again. RFC 9000, section 8.1.4
	Keys  [][32]byte // 1 to TicketKeysMax
}

// Append writes the packet behind b.
func (m Tickets) Append(b []byte) []byte {
	b = appendHead(b, OpTickets, m.Epoch)
	b = append(b, m.Reset[:]...)
	b = append(b, m.Token[:]...)
	for i := range m.Keys {
		b = append(b, m.Keys[i][:]...)
	}
	return b
}

// DecodeTickets reads a packet that must be Tickets. The keys are copied.
func DecodeTickets(packet []byte) (Tickets, error) {
	const fixed = 32 + 32
	epoch, rest, err := body(packet, OpTickets, fixed+32, fixed+32*TicketKeysMax)
	if err != nil || len(rest)%32 != 0 {
		return Tickets{}, ErrMalformed
	}
	m := Tickets{Epoch: epoch, Reset: [32]byte(rest), Token: [32]byte(rest[32:]), Keys: make([][32]byte, (len(rest)-fixed)/32)}
	for i := range m.Keys {
		copy(m.Keys[i][:], rest[fixed+32*i:])
	}
	return m, nil
}

// Signed answers a Sign.
type Signed struct {
	Epoch     uint64
	ID        uint64 // not 0
	Signature []byte // 1 to SignatureBytesMax bytes
}

// Append writes the packet behind b.
func (m Signed) Append(b []byte) []byte {
	b = appendHead(b, OpSigned, m.Epoch)
	b = binary.BigEndian.AppendUint64(b, m.ID)
	return append(b, m.Signature...)
}

// DecodeSigned reads a packet that must be a Signed.
func DecodeSigned(packet []byte) (Signed, error) {
	epoch, rest, err := body(packet, OpSigned, 8+1, 8+SignatureBytesMax)
	if err != nil {
		return Signed{}, err
	}
	m := Signed{Epoch: epoch, ID: binary.BigEndian.Uint64(rest), Signature: rest[8:]}
	if m.ID == 0 {
		return Signed{}, ErrMalformed
	}
	return m, nil
}

// Refused answers what the keeper does not do.
type Refused struct {
	Epoch  uint64
	ID     uint64 // of the Sign; 0 when it was none
	Reason Reason
}

// Append writes the packet behind b.
func (m Refused) Append(b []byte) []byte {
	b = appendHead(b, OpRefused, m.Epoch)
	b = binary.BigEndian.AppendUint64(b, m.ID)
	return append(b, byte(m.Reason))
}

// DecodeRefused reads a packet that must be a Refused.
func DecodeRefused(packet []byte) (Refused, error) {
	epoch, rest, err := body(packet, OpRefused, 8+1, 8+1)
	if err != nil {
		return Refused{}, err
	}
	m := Refused{Epoch: epoch, ID: binary.BigEndian.Uint64(rest), Reason: Reason(rest[8])}
	if m.Reason == 0 || m.Reason >= ReasonEnd {
		return Refused{}, ErrMalformed
	}
	return m, nil
}
