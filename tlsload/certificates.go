package tlsload

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"

	"sallyport/tlsload/keywire"
)

// This file is the certificates that a core has been sent, of which there may be fifty
// thousand. What crypto/tls wants to know of one takes more memory than the certificate, and 15
// µs of time: it is made when the first client comes. The keeper has looked at every
// certificate, so that nothing is found out late.

// A held certificate is one as the keeper has sent it. It does not change; another one takes its
// place.
type held struct {
	keys    *Keyring
	handle  uint32
	leaf    []byte   // DER; nil where there is no certificate yet
	issuers [][]byte // likewise, those that follow it; shared by many

	once sync.Once        // for what follows
	made *tls.Certificate // nil: there is none yet, or it is damaged
	err  error
}

// use is the certificate as crypto/tls has it.
func (h *held) use() (*tls.Certificate, error) {
	h.once.Do(h.make)
	return h.made, h.err
}

func (h *held) make() {
	if h.leaf == nil {
		h.err = ErrNoCertificate
		return
	}
	leaf, err := x509.ParseCertificate(h.leaf)
	if err != nil {
		h.err = fmt.Errorf("tlsload: certificate %d: %w", h.handle, err)
		return
	}
	// Without its Leaf, which only clients and those who choose among several look at.
	h.made = &tls.Certificate{
		Certificate: h.chain(),
		PrivateKey:  &signer{h.keys, h.handle, keywire.KeyTag(leaf.RawSubjectPublicKeyInfo), leaf.PublicKey},
	}
}

// chain is all of it, the site's own first.
func (h *held) chain() [][]byte { return slices.Concat([][]byte{h.leaf}, h.issuers) }

// holds reports whether it is this chain, which is not empty.
func (h *held) holds(chain [][]byte) bool {
	return bytes.Equal(h.leaf, chain[0]) && slices.EqualFunc(h.issuers, chain[1:], bytes.Equal)
}
