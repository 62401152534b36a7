package keeper

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/tlsload/keywire"
)

// packets has a well-formed one of every operation, and one that does not exist.
func packets(epoch uint64) map[keywire.Op][]byte {
	return map[keywire.Op][]byte{
		0:                     append([]byte{0}, keywire.Hello{Epoch: epoch}.Append(nil)[1:]...),
		keywire.OpHello:       keywire.Hello{Epoch: epoch}.Append(nil),
		keywire.OpSign:        keywire.Sign{Epoch: epoch, ID: 9, Scheme: keywire.Ed25519, Message: certificateVerify(48)}.Append(nil),
		keywire.OpCertificate: keywire.Certificate{Epoch: epoch, Count: 1, Chain: [][]byte{{1}}}.Append(nil),
		keywire.OpTickets:     keywire.Tickets{Epoch: epoch, Keys: make([][32]byte, 1)}.Append(nil),
		keywire.OpSigned:      keywire.Signed{Epoch: epoch, ID: 9, Signature: []byte{1}}.Append(nil),
		keywire.OpRefused:     keywire.Refused{Epoch: epoch, ID: 9, Reason: keywire.Failed}.Append(nil),
		keywire.OpGreet:       append(keywire.Greet{}.Append(nil)[:1], keywire.Hello{Epoch: epoch}.Append(nil)[1:]...),
		keywire.OpChallenge:   keywire.Challenge{Epoch: epoch, Number: 1, Kind: keywire.TLSALPN01, Name: []byte("a"), Proof: []byte{1}}.Append(nil),
		keywire.OpOrder:       keywire.Order{Epoch: epoch, ID: 1, Request: []byte{1}}.Append(nil),
		keywire.OpPresent:     keywire.Present{Epoch: epoch, Kind: keywire.HTTP01, Name: []byte("a"), Token: []byte("t"), Proof: []byte{1}}.Append(nil),
		keywire.OpIssued:      keywire.Issued{Epoch: epoch, ID: 9, Chain: [][]byte{{1}}}.Append(nil),
		keywire.OpEnd:         append([]byte{byte(keywire.OpEnd)}, keywire.Hello{Epoch: epoch}.Append(nil)[1:]...),
		0xff:                  append([]byte{0xff}, keywire.Hello{Epoch: epoch}.Append(nil)[1:]...),
	}
}

// Every operation in every state, from the core that was greeted and from another.
func TestPermitted(t *testing.T) {
	const own, other = 7, 8
	allowed := map[string]bool{
		"hello waiting own": true, "hello waiting other": true, "hello greeted own": true, "hello greeted other": true,
		"sign waiting own": true, "sign waiting other": true, "sign greeted own": true,
		"serving greeted own": true, "answering greeted own": true,
	}
	opNames := map[keywire.Op]string{
		keywire.OpHello: "hello", keywire.OpSign: "sign", keywire.OpServing: "serving", keywire.OpAnswering: "answering",
	}
	stateNames := [states]string{"waiting", "greeted", "ended"}
	for state := range states {
		for epoch, who := range map[uint64]string{own: "own", other: "other"} {
			for op := range 256 {
				s := session{state: state, epoch: own}
				name := fmt.Sprintf("%s %s %s", opNames[keywire.Op(op)], stateNames[state], who)
				if got := s.permits(keywire.Op(op), epoch); got != allowed[name] {
					t.Errorf("op %d, %s: got %v", op, name, got)
				}
			}
		}
	}
}

// The same over a link: what is not in the table is refused, aloud.
func TestAnswers(t *testing.T) {
	want := map[keywire.Op]map[state]keywire.Op{
		keywire.OpHello: {waiting: keywire.OpTickets, greeted: keywire.OpTickets},
		keywire.OpSign:  {waiting: keywire.OpSigned, greeted: keywire.OpSigned},
	}
	store := stocked(t, keys()["Ed25519"])
	for _, state := range []state{waiting, greeted} {
		for op, packet := range packets(7) {
			core, link := linked(t)
			k := New(store, []int{link}, zerolog.Nop())
			s := &k.sessions[0]
			s.state, s.epoch = state, 7
			told(t, core, packet)
			s.react(unix.POLLIN)
			s.react(unix.POLLOUT)
			reply := heard(t, core)
			got, epoch, _ := keywire.Head(reply)
			wanted := want[op][state]
			if wanted == 0 {
				wanted = keywire.OpRefused
				if k.refusals.counts[keywire.NotPermitted] != 1 {
					t.Errorf("op %d in state %d: the refusal is not counted", op, state)
				}
			}
			if got != wanted || epoch != 7 {
				t.Errorf("op %d in state %d: got op %d of epoch %d, want %d", op, state, got, epoch, wanted)
			}
		}
	}
}

// What a taken-over core would send.
func TestRefused(t *testing.T) {
	store := stocked(t, keys()["Ed25519"])
	digest32, digest48, digest64 := sha256.Sum256(nil), sha512.Sum384(nil), sha512.Sum512(nil)
	sign := func(handle uint32, scheme keywire.Scheme, message []byte) []byte {
		return keywire.Sign{Epoch: 7, ID: 9, Handle: handle, Scheme: scheme, Message: message}.Append(nil)
	}
	ed := func(message []byte) []byte { return sign(0, keywire.Ed25519, message) }
	cases := map[string]struct {
		packet []byte
		want   keywire.Refused
	}{
		"nothing":             {[]byte{}, keywire.Refused{Reason: keywire.Malformed}},
		"half a head":         {[]byte{1, 0, 0}, keywire.Refused{Reason: keywire.Malformed}},
		"hello and more":      {append(keywire.Hello{Epoch: 7}.Append(nil), 0), keywire.Refused{Epoch: 7, Reason: keywire.Malformed}},
		"sign of nothing":     {ed(nil), keywire.Refused{Epoch: 7, Reason: keywire.Malformed}},
		"oversize":            {ed(make([]byte, keywire.MessageBytesMax+1)), keywire.Refused{Reason: keywire.Malformed}},
		"another core":        {keywire.Sign{Epoch: 8, ID: 9, Scheme: keywire.Ed25519, Message: certificateVerify(32)}.Append(nil), keywire.Refused{Epoch: 8, Reason: keywire.NotPermitted}},
		"unknown handle":      {sign(1, keywire.Ed25519, certificateVerify(32)), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.UnknownHandle}},
		"largest handle":      {sign(1<<32-1, keywire.Ed25519, certificateVerify(32)), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.UnknownHandle}},
		"scheme of another":   {sign(0, keywire.PSSWithSHA256, certificateVerify(32)), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.WrongScheme}},
		"digest of 32":        {ed(digest32[:]), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.NotHandshake}},
		"digest of 48":        {ed(digest48[:]), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.NotHandshake}},
		"digest of 64":        {ed(digest64[:]), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.NotHandshake}},
		"request":             {ed(plainRequest(t, keys()["Ed25519"])), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.NotHandshake}},
		"crafted, 100 bytes":  {ed(craftedRequest(t, keys()["Ed25519"], x25519)), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.NotHandshake}},
		"crafted, 133 bytes":  {ed(craftedRequest(t, keys()["Ed25519"], p256)), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.NotHandshake}},
		"document, 100 bytes": {ed(shapedDocument(t, x25519)), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.Document}},
		"document, 133 bytes": {ed(shapedDocument(t, p256)), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.Document}},
		"crafted, 165 bytes":  {ed(craftedRequest(t, keys()["Ed25519"], p384)), keywire.Refused{Epoch: 7, ID: 9, Reason: keywire.NotHandshake}},
	}
	for name, c := range cases {
		core, link := linked(t)
		k := New(store, []int{link}, zerolog.Nop())
		s := &k.sessions[0]
		s.state, s.epoch = greeted, 7
		told(t, core, c.packet)
		s.react(unix.POLLIN)
		if got, err := keywire.DecodeRefused(heard(t, core)); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, c.want)
		}
		if s.state != greeted || k.refusals.counts[c.want.Reason] != 1 {
			t.Errorf("%s: state %d, counted %d", name, s.state, k.refusals.counts[c.want.Reason])
		}
	}
}

// A keeper that has seen no Hello signs: it may follow one that was killed.
func TestSuccessorSigns(t *testing.T) {
	store := stocked(t, keys()["Ed25519"])
	core, link := linked(t)
	stop := serve(t, store, link)
	told(t, core, keywire.Hello{Epoch: 7}.Append(nil))
	for range 2 { // the ticket keys and one certificate
		heard(t, core)
	}
	stop()
	message := certificateVerify(48)
	told(t, core, keywire.Sign{Epoch: 7, ID: 9, Scheme: keywire.Ed25519, Message: message}.Append(nil))
	serve(t, store, link)
	m, err := keywire.DecodeSigned(heard(t, core))
	if err != nil || m.Epoch != 7 || m.ID != 9 {
		t.Fatalf("got %+v, %v", m, err)
	}
	if !ed25519.Verify(keys()["Ed25519"].Public().(ed25519.PublicKey), message, m.Signature) {
		t.Error("the signature is wrong")
	}
}

// All ends of a core's epoch: a next core takes the link over.
func TestNextCore(t *testing.T) {
	core, link := linked(t)
	k := New(stocked(t, keys()["Ed25519"]), []int{link}, zerolog.Nop())
	s := &k.sessions[0]
	for epoch := uint64(1); epoch < 4; epoch++ {
		told(t, core, keywire.Hello{Epoch: epoch}.Append(nil))
		s.began = time.Time{} // long ago
		s.react(unix.POLLIN)
		s.react(unix.POLLOUT)
		tickets, err := keywire.DecodeTickets(heard(t, core))
		if err != nil || tickets.Epoch != epoch || len(tickets.Keys) != 3 {
			t.Errorf("core %d: got %d keys of epoch %d, %v", epoch, len(tickets.Keys), tickets.Epoch, err)
		}
		certificate, err := keywire.DecodeCertificate(heard(t, core))
		if err != nil || certificate.Epoch != epoch || !bytes.Equal(certificate.Chain[0], s.store.pairs[0].chain[0]) {
			t.Errorf("core %d: got another certificate, %v", epoch, err)
		}
	}
}
