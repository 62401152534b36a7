package tlsload

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"sallyport/tlsload/keywire"
)

// ErrDigest is what Sign of a certificate's PrivateKey returns: the keeper signs
// messages that it can read, never digests.
var ErrDigest = errors.New("tlsload: the keeper signs no digests")

// ErrStalled means that the keeper gave no answer in time.
var ErrStalled = errors.New("tlsload: no answer from the keeper")

// A signer is what crypto/tls takes for the private key of a certificate. It is
// a crypto.MessageSigner without a key.
type signer struct {
	keys   *Keyring
	handle uint32
	key    uint32 // keywire.KeyTag of public
	public crypto.PublicKey
}

// Public is the certificate's public key.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign is always ErrDigest.
func (s *signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, ErrDigest }

// SignMessage has the keeper sign a message of a TLS handshake.
func (s *signer) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, ok := schemeOf(s.public, opts)
	if !ok {
		return nil, fmt.Errorf("tlsload: no scheme for %T with %v", s.public, opts.HashFunc())
	}
	if len(message) == 0 || len(message) > keywire.MessageBytesMax {
		return nil, fmt.Errorf("tlsload: message of %d bytes, from 1 to %d are signed", len(message), keywire.MessageBytesMax)
	}
	return s.keys.sign(s.handle, s.key, scheme, message)
}

// schemeOf turns what crypto/tls asks for back into the SignatureScheme it has chosen.
func schemeOf(public crypto.PublicKey, opts crypto.SignerOpts) (keywire.Scheme, bool) {
	type row = [3]keywire.Scheme // with SHA-256, SHA-384, SHA-512
	var schemes row
	switch public.(type) {
	case ed25519.PublicKey:
		return keywire.Ed25519, opts.HashFunc() == 0
	case *ecdsa.PublicKey:
		schemes = row{keywire.ECDSAWithSHA256, keywire.ECDSAWithSHA384, keywire.ECDSAWithSHA512}
	case *rsa.PublicKey:
		schemes = row{keywire.PKCS1WithSHA256, keywire.PKCS1WithSHA384, keywire.PKCS1WithSHA512}
		if _, pss := opts.(*rsa.PSSOptions); pss {
			schemes = row{keywire.PSSWithSHA256, keywire.PSSWithSHA384, keywire.PSSWithSHA512}
		}
	default:
		return 0, false
	}
	switch opts.HashFunc() {
	case crypto.SHA256:
		return schemes[0], true
	case crypto.SHA384:
		return schemes[1], true
	case crypto.SHA512:
		return schemes[2], true
	default:
		return 0, false
	}
}

// A slot is the right to wait for one signature. It is used again and again, by
// one handshake at a time.
//
//	id 0: nobody waits ── ask ──► id: one waits ── deliver, or giving up ──► id 0
type slot struct {
	id     atomic.Uint64 // of the request that is waited for; 0: none
	asked  uint64        // id of the latest request; grows by slotsMax, so that the rest is the slot
	packet []byte        // the request
	timer  *time.Timer

	replied   chan struct{} // one place; the fields below are for whoever receives from it
	signature []byte        // empty when refused
	reason    keywire.Reason
}

func (s *slot) prepare(index uint64) {
	s.asked = index
	s.replied = make(chan struct{}, 1)
	s.timer = time.NewTimer(time.Hour)
	s.timer.Stop() // since Go 1.23 a stopped timer has nothing in its channel
}

// slot returns where the reply with an id belongs.
func (k *Keyring) slot(id uint64) *slot { return &k.slots[id%slotsMax] }

// deliver gives a reply to who waits for id, and drops it when nobody does: it
// is the second answer to a request that was sent twice, or comes too late.
func (s *slot) deliver(id uint64, signature []byte, reason keywire.Reason) {
	if !s.id.CompareAndSwap(id, 0) {
		return
	}
	s.signature = append(s.signature[:0], signature...)
	s.reason = reason
	s.replied <- struct{}{} // never blocks: one exchange of id, one reply
}

// sign asks the keeper and waits for its answer.
func (k *Keyring) sign(handle, key uint32, scheme keywire.Scheme, message []byte) ([]byte, error) {
	deadline := time.Now().Add(k.limits.giveUp)
	s, err := k.acquire()
	if err != nil {
		return nil, err
	}
	defer func() { k.free <- s }()
	s.asked += slotsMax
	request := keywire.Sign{Epoch: k.epoch, ID: s.asked, Handle: handle, Key: key, Scheme: scheme, Message: message}
	s.packet = request.Append(s.packet[:0])
	s.id.Store(s.asked)
	if err := k.ask(s, deadline); err != nil {
		if s.id.CompareAndSwap(s.asked, 0) {
			return nil, err
		}
		<-s.replied // the answer came at the last moment
	}
	if len(s.signature) == 0 {
		return nil, fmt.Errorf("tlsload: keeper refused: %v", s.reason)
	}
	return bytes.Clone(s.signature), nil
}

// acquire waits for a free slot.
func (k *Keyring) acquire() (*slot, error) {
	select {
	case s := <-k.free:
		return s, nil
	default:
	}
	limit := time.NewTimer(k.limits.giveUp)
	defer limit.Stop()
	select {
	case s := <-k.free:
		return s, nil
	case <-k.gone:
		return nil, ErrClosed
	case <-limit.C:
		return nil, ErrStalled
	}
}

// ask sends the packet of a slot until there is an answer. Each pause is twice
// the one before: a keeper that is merely busy has the packet already, and would
// sign it as often as it is sent.
func (k *Keyring) ask(s *slot, deadline time.Time) error {
	defer s.timer.Stop()
	for pause := k.limits.resend; ; pause *= 2 {
		if err := k.send(s.packet); errors.Is(err, ErrClosed) {
			k.greetIn(0) // so that readLoop meets it, too, and ends
			return ErrClosed
		} // any other trouble is like a lost packet
		left := time.Until(deadline)
		if left <= 0 {
			return ErrStalled
		}
		s.timer.Reset(min(pause, left))
		select {
		case <-s.replied:
			return nil
		case <-k.gone:
			return ErrClosed
		case <-s.timer.C:
		}
	}
}
