package keeper

import (
	"crypto"
	"crypto/rand"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/tlsload/keywire"
)

// Receiving, checking, signing and sending allocate what crypto does, and nothing else.
func TestAllocSign(t *testing.T) {
	message := certificateVerify(32)
	for name, scheme := range map[string]keywire.Scheme{"Ed25519": keywire.Ed25519, "P-256": keywire.ECDSAWithSHA256} {
		t.Run(name, func(t *testing.T) {
			key := keys()[name]
			core, link := linked(t)
			s := &New(stocked(t, key), []int{link}, zerolog.Nop()).sessions[0]
			request := keywire.Sign{Epoch: 7, ID: 9, Scheme: scheme, Message: message}.Append(nil)
			answer := make([]byte, keywire.ReplyBytesMax)
			got := testing.AllocsPerRun(1000, func() {
				told(t, core, request)
				s.react(unix.POLLIN)
				if n, err := keywire.Receive(core, answer); err != nil || keywire.Op(answer[0]) != keywire.OpSigned {
					t.Fatalf("%d bytes, %v: no signature", n, err)
				}
			})
			hash := crypto.Hash(0)
			if scheme != keywire.Ed25519 {
				hash = crypto.SHA256
			}
			want := testing.AllocsPerRun(1000, func() {
				if _, err := crypto.SignMessage(key, rand.Reader, message, hash); err != nil {
					t.Fatal(err)
				}
			})
			if got > want {
				t.Errorf("%v allocations for a signature, crypto alone makes %v", got, want)
			}
		})
	}
}
