package keywire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata")

// A message is what all have in common.
type message interface{ Append([]byte) []byte }

// decode reads a packet as whatever its first byte says.
func decode(packet []byte) (message, error) {
	op, _, _ := Head(packet)
	switch op {
	case OpHello:
		return boxed(DecodeHello(packet))
	case OpSign:
		return boxed(DecodeSign(packet))
	case OpCertificate:
		return boxed(DecodeCertificate(packet))
	case OpTickets:
		return boxed(DecodeTickets(packet))
	case OpSigned:
		return boxed(DecodeSigned(packet))
	case OpRefused:
		return boxed(DecodeRefused(packet))
	case OpGreet:
		return boxed(DecodeGreet(packet))
	case OpServing:
		return boxed(DecodeServing(packet))
	case OpChallenge:
		return boxed(DecodeChallenge(packet))
	case OpWithdrawn:
		return boxed(DecodeWithdrawn(packet))
	case OpAnswering:
		return boxed(DecodeAnswering(packet))
	case OpBegun:
		return boxed(DecodeBegun(packet))
	case OpOrder:
		return boxed(DecodeOrder(packet))
	case OpPresent:
		return boxed(DecodePresent(packet))
	case OpPresented:
		return boxed(DecodePresented(packet))
	case OpRetract:
		return boxed(DecodeRetract(packet))
	case OpIssued:
		return boxed(DecodeIssued(packet))
	case OpNotIssued:
		return boxed(DecodeNotIssued(packet))
	case OpAsk:
		return boxed(DecodeAsk(packet))
	case OpWindow:
		return boxed(DecodeWindow(packet))
	default:
		return nil, ErrMalformed
	}
}

func boxed[M message](m M, err error) (message, error) { return m, err }

// samples has one message of each kind and some at their bounds.
func samples() map[string]message {
	key := func(b byte) (k [32]byte) {
		for i := range k {
			k[i] = b
		}
		return k
	}
	return map[string]message{
		"hello":             Hello{Epoch: 0x0102030405060708},
		"sign":              Sign{Epoch: 1, ID: 256, Handle: 3, Scheme: Ed25519, Message: []byte("message")},
		"sign-longest":      Sign{Epoch: 1, ID: 1, Message: make([]byte, MessageBytesMax)},
		"certificate":       Certificate{Epoch: 2, Handle: 1, Count: 2, Chain: [][]byte{{0x30, 0}, {0x30, 1, 5}}},
		"tickets":           Tickets{Epoch: 3, Reset: key(4), Token: key(5), Keys: [][32]byte{key(1), key(2), key(3)}},
		"signed":            Signed{Epoch: 4, ID: 256, Signature: []byte{0xaa, 0xbb}},
		"signed-longest":    Signed{Epoch: 4, ID: 1, Signature: make([]byte, SignatureBytesMax)},
		"refused":           Refused{Epoch: 5, ID: 256, Reason: NotHandshake},
		"refused-nothing":   Refused{Epoch: 5, Reason: Malformed},
		"chain-longest":     Certificate{Count: 1, Chain: [][]byte{make([]byte, ChainBytesMax)}},
		"chain-most":        Certificate{Count: 1, Chain: slicesOf(ChainLenMax, ChainBytesMax/ChainLenMax)},
		"tickets-most":      Tickets{Keys: make([][32]byte, TicketKeysMax)},
		"greet":             Greet{},
		"serving":           Serving{Epoch: 5},
		"certificate-none":  Certificate{Epoch: 2, Handle: 1, Count: 2},
		"challenge-http":    Challenge{Epoch: 5, Number: 3, Kind: HTTP01, Name: []byte("a.test"), Token: []byte("t"), Proof: []byte("t.x")},
		"challenge-tls":     Challenge{Epoch: 5, Number: 4, Kind: TLSALPN01, Name: []byte("a.test"), Token: []byte{}, Proof: []byte{0x30, 0}},
		"withdrawn":         Withdrawn{Epoch: 5, Number: 3},
		"answering":         Answering{Epoch: 5, Number: ChallengeHandle - 1},
		"begun":             Begun{Epoch: 6},
		"order":             Order{Epoch: 6, ID: 7, Attempts: 2, Request: []byte{0x30, 0}, Replaces: []byte{0x30, 1}},
		"present":           Present{Epoch: 6, ID: 7, Number: 3, Kind: TLSALPN01, Name: []byte("a.test"), Token: []byte("t"), Proof: []byte("t.x")},
		"presented":         Presented{Epoch: 6, Number: 3},
		"retract":           Retract{Epoch: 6, Number: 3},
		"issued":            Issued{Epoch: 6, ID: 7, Chain: [][]byte{{1}, {2, 3}}},
		"failed":            NotIssued{Epoch: 6, ID: 7, Status: 429, Name: []byte("a.test"), Challenge: []byte("http-01"), CA: []byte("https://ca"), Problem: []byte("urn"), Text: []byte("no")},
		"ask":               Ask{Epoch: 6, ID: 8, Leaf: []byte{0x30, 0}},
		"window":            Window{Epoch: 6, ID: 8, Start: 1, End: 2, Again: 3},
		"sign-unknown-data": Sign{Epoch: 1<<64 - 1, ID: 1<<64 - 1, Handle: 1<<32 - 1, Scheme: 0xffff, Message: []byte{0}},
	}
}

func slicesOf(n, size int) (all [][]byte) {
	for range n {
		all = append(all, make([]byte, size))
	}
	return all
}

func TestGolden(t *testing.T) {
	const file = "testdata/packets.txt"
	var got strings.Builder
	for _, name := range []string{
		"hello", "sign", "certificate", "tickets", "signed", "refused", "refused-nothing", "sign-unknown-data",
		"greet", "serving", "certificate-none", "challenge-http", "challenge-tls", "withdrawn", "answering", "begun", "order",
		"present", "presented", "retract", "issued", "failed", "ask", "window",
	} {
		fmt.Fprintf(&got, "%s: %s\n", name, hex.EncodeToString(samples()[name].Append(nil)))
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("packets have changed, got\n%swant\n%s", got.String(), want)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, want := range samples() {
		packet := want.Append([]byte("before"))[len("before"):]
		got, err := decode(packet)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		if len(packet) > RequestBytesMax && packet[0] <= byte(OpSign) || len(packet) > ReplyBytesMax {
			t.Errorf("%s: %d bytes are above the bound", name, len(packet))
		}
	}
}

func TestStrict(t *testing.T) {
	for name, m := range samples() {
		packet := m.Append(nil)
		for n := range packet {
			// A chain or a message may be cut where another one ends.
			if got, err := decode(packet[:n]); err == nil && !bytes.Equal(got.Append(nil), packet[:n]) {
				t.Fatalf("%s cut to %d bytes: got another message", name, n)
			}
			if n > 2*headBytes+40 {
				break
			}
		}
	}
	bad := map[string][]byte{
		"empty":                  {},
		"head too short":         make([]byte, headBytes-1),
		"op 0":                   make([]byte, headBytes),
		"op unknown":             appendHead(nil, OpEnd, 1),
		"hello and more":         append(Hello{}.Append(nil), 0),
		"sign of nothing":        Sign{ID: 1}.Append(nil),
		"sign without id":        Sign{Message: []byte{1}}.Append(nil),
		"sign too long":          Sign{ID: 1, Message: make([]byte, MessageBytesMax+1)}.Append(nil),
		"signed without id":      Signed{Signature: []byte{1}}.Append(nil),
		"signature empty":        Signed{ID: 1}.Append(nil),
		"signature too long":     Signed{ID: 1, Signature: make([]byte, SignatureBytesMax+1)}.Append(nil),
		"refused for no reason":  Refused{ID: 1}.Append(nil),
		"refused for unknown":    Refused{ID: 1, Reason: ReasonEnd}.Append(nil),
		"refused and more":       append(Refused{ID: 1, Reason: Failed}.Append(nil), 0),
		"tickets none":           Tickets{}.Append(nil),
		"tickets too many":       Tickets{Keys: make([][32]byte, TicketKeysMax+1)}.Append(nil),
		"tickets half a key":     append(Tickets{Keys: make([][32]byte, 1)}.Append(nil), make([]byte, 16)...),
		"greet of an epoch":      appendHead(nil, OpGreet, 1),
		"challenge of no kind":   Challenge{Number: 1, Name: []byte("a"), Proof: []byte("p")}.Append(nil),
		"challenge of unknown":   Challenge{Number: 1, Kind: KindEnd, Name: []byte("a"), Proof: []byte("p")}.Append(nil),
		"challenge, no token":    Challenge{Number: 1, Kind: HTTP01, Name: []byte("a"), Proof: []byte("p")}.Append(nil),
		"challenge and token":    Challenge{Number: 1, Kind: TLSALPN01, Name: []byte("a"), Token: []byte("t"), Proof: []byte("p")}.Append(nil),
		"challenge of no name":   Challenge{Number: 1, Kind: TLSALPN01, Proof: []byte("p")}.Append(nil),
		"challenge, long name":   Challenge{Number: 1, Kind: TLSALPN01, Name: make([]byte, NameBytesMax+1), Proof: []byte("p")}.Append(nil),
		"challenge and more":     append(Challenge{Number: 1, Kind: TLSALPN01, Name: []byte("a"), Proof: []byte("p")}.Append(nil), 0),
		"challenge above":        Challenge{Number: ChallengeHandle, Kind: TLSALPN01, Name: []byte("a"), Proof: []byte("p")}.Append(nil),
		"answering above":        Answering{Number: ChallengeHandle}.Append(nil),
		"order of nothing":       Order{ID: 1}.Append(nil),
		"order of a book":        Order{ID: 1, Request: []byte{1}, Replaces: make([]byte, RequestDERMax+1)}.Append(nil),
		"order too long":         Order{ID: 1, Request: make([]byte, RequestDERMax+1)}.Append(nil),
		"present above":          Present{Number: ChallengeHandle, Kind: HTTP01, Name: []byte("a"), Token: []byte("t"), Proof: []byte("p")}.Append(nil),
		"present of no kind":     Present{Name: []byte("a"), Token: []byte("t"), Proof: []byte("p")}.Append(nil),
		"issued nothing":         Issued{ID: 1}.Append(nil),
		"failed cut":             NotIssued{ID: 1}.Append(nil)[:headBytes+12+3],
		"chain with empty":       Certificate{Count: 1, Chain: [][]byte{{1}, {}}}.Append(nil),
		"chain too long":         Certificate{Count: 1, Chain: slicesOf(ChainLenMax+1, 1)}.Append(nil),
		"chain too big":          Certificate{Count: 1, Chain: slicesOf(2, ChainBytesMax/2+1)}.Append(nil),
		"chain cut":              Certificate{Count: 1, Chain: slicesOf(1, 9)}.Append(nil)[:headBytes+8+3+8],
		"chain with half length": append(Certificate{Count: 1, Chain: slicesOf(1, 9)}.Append(nil), 0, 0),
		"handle beyond count":    Certificate{Handle: 1, Count: 1, Chain: slicesOf(1, 9)}.Append(nil),
	}
	for name, packet := range bad {
		if got, err := decode(packet); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestReasonsHaveWords(t *testing.T) {
	for r := Reason(1); r < ReasonEnd; r++ {
		if r.String() == ReasonEnd.String() {
			t.Errorf("reason %d has none", r)
		}
	}
}

// The way of a signature allocates nothing, in either direction.
func TestAllocs(t *testing.T) {
	sign, signed := samples()["sign"].(Sign), samples()["signed"].(Signed)
	room := make([]byte, 0, RequestBytesMax)
	allocs := testing.AllocsPerRun(100, func() {
		packet := sign.Append(room)
		if _, err := DecodeSign(packet); err != nil {
			t.Fatal(err)
		}
		packet = signed.Append(room)
		if _, err := DecodeSigned(packet); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("got %v allocations, want 0", allocs)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		if packet := m.Append(nil); len(packet) < 300 { // long ones make a fuzzer slow
			f.Add(packet)
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := decode(packet)
		if err != nil {
			return
		}
		again := m.Append(nil)
		if !bytes.Equal(again, packet) {
			t.Fatalf("got %x from %x", again, packet)
		}
		if back, err := decode(again); err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("got %+v, %v; want %+v", back, err, m)
		}
	})
}
