package keywire

import "encoding/binary"

// This file is what the keeper and the registrar say to each other: requests for
// certificates go out, which are signed, chains come back, and in between what the CA wants
// to see. No key is in any of them.

// Begun says that one end of the link is new: nothing that was asked for before has an
// answer.
type Begun struct {
	Epoch uint64 // of the keeper; 0 from a registrar
}

// Append writes the packet behind b.
func (m Begun) Append(b []byte) []byte { return appendHead(b, OpBegun, m.Epoch) }

// DecodeBegun reads a packet that must be a Begun.
func DecodeBegun(packet []byte) (Begun, error) {
	epoch, _, err := body(packet, OpBegun, 0, 0)
	return Begun{epoch}, err
}

// An Order asks for a certificate.
type Order struct {
	Epoch    uint64
	ID       uint64
	Attempts uint32 // that have failed since the last certificate of this name
	Request  []byte // DER of a PKCS 10 request; 1 to RequestDERMax bytes
	Replaces []byte // DER of the certificate that it is to follow; at most RequestDERMax bytes, none without one
}

// Append writes the packet behind b.
func (m Order) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendHead(b, OpOrder, m.Epoch), m.ID)
	b = binary.BigEndian.AppendUint32(b, m.Attempts)
	return appendFields(b, m.Request, m.Replaces)
}

// DecodeOrder reads a packet that must be an Order.
func DecodeOrder(packet []byte) (Order, error) {
	epoch, rest, err := body(packet, OpOrder, 8+4, ErrandBytesMax-headBytes)
	if err != nil {
		return Order{}, err
	}
	m := Order{Epoch: epoch, ID: binary.BigEndian.Uint64(rest), Attempts: binary.BigEndian.Uint32(rest[8:])}
	r := reader{rest: rest[12:]}
	m.Request, m.Replaces = r.field(1, RequestDERMax), r.field(0, RequestDERMax)
	if !r.done() {
		return Order{}, ErrMalformed
	}
	return m, nil
}

// A Present asks the keeper to have a challenge answered.
type Present struct {
	Epoch  uint64
	ID     uint64 // of the Order
	Number uint32 // of the challenge; less than ChallengeHandle
	Kind   Kind
	Name   []byte // that is proved; 1 to NameBytesMax bytes
	Token  []byte // 1 to TokenBytesMax bytes
	Proof  []byte // the key authorization; 1 to ProofBytesMax bytes
}

// Append writes the packet behind b.
func (m Present) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendHead(b, OpPresent, m.Epoch), m.ID)
	b = binary.BigEndian.AppendUint32(b, m.Number)
	return appendFields(append(b, byte(m.Kind)), m.Name, m.Token, m.Proof)
}

// DecodePresent reads a packet that must be a Present.
func DecodePresent(packet []byte) (Present, error) {
	epoch, rest, err := body(packet, OpPresent, 8+4+1, ErrandBytesMax-headBytes)
	if err != nil {
		return Present{}, err
	}
	m := Present{
		Epoch: epoch, ID: binary.BigEndian.Uint64(rest),
		Number: binary.BigEndian.Uint32(rest[8:]), Kind: Kind(rest[12]),
	}
	r := reader{rest: rest[13:]}
	m.Name, m.Token, m.Proof = r.field(1, NameBytesMax), r.field(1, TokenBytesMax), r.field(1, ProofBytesMax)
	if !r.done() || m.Number >= ChallengeHandle || m.Kind == 0 || m.Kind >= KindEnd {
		return Present{}, ErrMalformed
	}
	return m, nil
}

// Presented says that the cores answer a challenge.
type Presented struct {
	Epoch  uint64
	Number uint32
}

// Append writes the packet behind b.
func (m Presented) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, OpPresented, m.Epoch), m.Number)
}

// DecodePresented reads a packet that must be a Presented.
func DecodePresented(packet []byte) (Presented, error) {
	epoch, number, err := decodeNumber(packet, OpPresented)
	return Presented{epoch, number}, err
}

// Retract says that a challenge is over.
type Retract struct {
	Epoch  uint64
	Number uint32
}

// Append writes the packet behind b.
func (m Retract) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, OpRetract, m.Epoch), m.Number)
}

// DecodeRetract reads a packet that must be a Retract.
func DecodeRetract(packet []byte) (Retract, error) {
	epoch, number, err := decodeNumber(packet, OpRetract)
	return Retract{epoch, number}, err
}

// Issued brings the certificate of an Order.
type Issued struct {
	Epoch uint64
	ID    uint64
	Chain [][]byte // as in Certificate, and never empty
}

// Append writes the packet behind b.
func (m Issued) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendHead(b, OpIssued, m.Epoch), m.ID)
	return appendFields(b, m.Chain...)
}

// DecodeIssued reads a packet that must be an Issued.
func DecodeIssued(packet []byte) (Issued, error) {
	epoch, rest, err := body(packet, OpIssued, 8, ErrandBytesMax-headBytes)
	if err != nil {
		return Issued{}, err
	}
	m := Issued{Epoch: epoch, ID: binary.BigEndian.Uint64(rest)}
	if m.Chain, err = decodeChain(rest[8:]); err != nil || len(m.Chain) == 0 {
		return Issued{}, ErrMalformed
	}
	return m, nil
}

// NotIssued says why an Order has brought nothing, or an Ask.
type NotIssued struct {
	Epoch     uint64
	ID        uint64
	Status    uint32 // HTTP's, of the CA; 0: the CA was not reached, or did not answer so
	Name      []byte // that was to be proved; may be empty, as all below
	Challenge []byte // "http-01", which failed
	CA        []byte // URL of the directory
	Problem   []byte // "urn:ietf:params:acme:error:rateLimited"
	Text      []byte // what the CA said, or why it could not; of TextBytesMax bytes at most
}

// Append writes the packet behind b. What is too long is cut.
func (m NotIssued) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendHead(b, OpNotIssued, m.Epoch), m.ID)
	b = binary.BigEndian.AppendUint32(b, m.Status)
	for _, text := range [][]byte{m.Name, m.Challenge, m.CA, m.Problem, m.Text} {
		b = appendFields(b, text[:min(len(text), TextBytesMax)])
	}
	return b
}

// DecodeNotIssued reads a packet that must be a NotIssued.
func DecodeNotIssued(packet []byte) (NotIssued, error) {
	epoch, rest, err := body(packet, OpNotIssued, 8+4, ErrandBytesMax-headBytes)
	if err != nil {
		return NotIssued{}, err
	}
	m := NotIssued{Epoch: epoch, ID: binary.BigEndian.Uint64(rest), Status: binary.BigEndian.Uint32(rest[8:])}
	r := reader{rest: rest[12:]}
	for _, text := range []*[]byte{&m.Name, &m.Challenge, &m.CA, &m.Problem, &m.Text} {
		*text = r.field(0, TextBytesMax)
	}
	if !r.done() {
		return NotIssued{}, ErrMalformed
	}
	return m, nil
}

// An Ask asks when a certificate should be renewed. RFC 9773.
type Ask struct {
	Epoch uint64
	ID    uint64
	Leaf  []byte // DER; 1 to RequestDERMax bytes
}

// Append writes the packet behind b.
func (m Ask) Append(b []byte) []byte {
	return appendFields(binary.BigEndian.AppendUint64(appendHead(b, OpAsk, m.Epoch), m.ID), m.Leaf)
}

// DecodeAsk reads a packet that must be an Ask.
func DecodeAsk(packet []byte) (Ask, error) {
	epoch, rest, err := body(packet, OpAsk, 8, ErrandBytesMax-headBytes)
	if err != nil {
		return Ask{}, err
	}
	m := Ask{Epoch: epoch, ID: binary.BigEndian.Uint64(rest)}
	r := reader{rest: rest[8:]}
	m.Leaf = r.field(1, RequestDERMax)
	if !r.done() {
		return Ask{}, ErrMalformed
	}
	return m, nil
}

// A Window answers an Ask. Times are seconds since 1970.
type Window struct {
	Epoch      uint64
	ID         uint64
	Start, End int64 // between them the certificate should be renewed
	Again      int64 // when to ask again; 0: as one likes
}

// Append writes the packet behind b.
func (m Window) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendHead(b, OpWindow, m.Epoch), m.ID)
	for _, at := range []int64{m.Start, m.End, m.Again} {
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	return b
}

// DecodeWindow reads a packet that must be a Window.
func DecodeWindow(packet []byte) (Window, error) {
	epoch, rest, err := body(packet, OpWindow, 4*8, 4*8)
	if err != nil {
		return Window{}, err
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(rest[8*i:]) }
	return Window{Epoch: epoch, ID: at(0), Start: int64(at(1)), End: int64(at(2)), Again: int64(at(3))}, nil
}
