package tlsload

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"sallyport/tlsload/keywire"
)

// This file is how a core shows a CA that a name is ours: it says what the keeper has told
// it to. The key that a challenge by TLS is signed with stays where all keys are.

// ErrNoCertificate means that the certificate of a name has not been issued yet.
var ErrNoCertificate = errors.New("tlsload: no certificate has been issued for this name yet")

// errNoChallenge means that a client wants to see a proof of a name for which there is none.
var errNoChallenge = errors.New("tlsload: no challenge is open for this name")

// ALPNProtocol is what a CA negotiates to be shown a proof, and nobody else. RFC 8737, section 6.2.
const ALPNProtocol = "acme-tls/1"

// ChallengePath is where a CA asks for a proof by HTTP. RFC 8555, section 8.3.
const ChallengePath = "/.well-known/acme-challenge/"

// challengesMax bounds those that are open at the same time; a keeper has fewer.
const challengesMax = 256

// challenges are those that are open. Readers take the whole list, which never changes;
// only readLoop makes another.
type challenges struct {
	open atomic.Pointer[[]challenge]
}

// A challenge is what one CA will ask for one name.
type challenge struct {
	number      uint32
	name        string // as a client sends it, lower case
	token       string // "" for TLS
	proof       string
	certificate *tls.Certificate // nil for HTTP
}

// list is what is open; nobody may write to it.
func (c *challenges) list() []challenge {
	if open := c.open.Load(); open != nil {
		return *open
	}
	return nil
}

// without makes a list that lacks one number, with room for another.
func (c *challenges) without(number uint32) []challenge {
	list := make([]challenge, 0, len(c.list())+1)
	for _, one := range c.list() {
		if one.number != number {
			list = append(list, one)
		}
	}
	return list
}

// challenge opens one, and tells the keeper that it is answered from now on.
func (k *Keyring) challenge(packet []byte) error {
	m, err := keywire.DecodeChallenge(packet)
	if err != nil {
		return err
	}
	list := k.challenges.without(m.Number)
	if len(list) >= challengesMax {
		return fmt.Errorf("tlsload: more than %d challenges", challengesMax)
	}
	one := challenge{number: m.Number, name: string(m.Name), token: string(m.Token), proof: string(m.Proof)}
	if m.Kind == keywire.TLSALPN01 {
		leaf, err := x509.ParseCertificate([]byte(one.proof))
		if err != nil {
			return fmt.Errorf("tlsload: certificate of a challenge: %w", err)
		}
		one.certificate = &tls.Certificate{
			Certificate: [][]byte{leaf.Raw}, Leaf: leaf,
			PrivateKey: &signer{k, keywire.ChallengeHandle + m.Number, 0, leaf.PublicKey},
		}
	}
	list = append(list, one)
	k.challenges.open.Store(&list)
	// A keeper that does not hear it says it again.
	_ = k.send(keywire.Answering{Epoch: k.epoch, Number: m.Number}.Append(nil))
	return nil
}

// withdrawn closes one.
func (k *Keyring) withdrawn(packet []byte) error {
	m, err := keywire.DecodeWithdrawn(packet)
	if err == nil {
		list := slices.Clip(k.challenges.without(m.Number))
		k.challenges.open.Store(&list)
	}
	return err
}

// Serving tells the keeper, now and whenever it is greeted, that this core accepts clients.
// Before that nobody orders a certificate, for a CA could not look.
func (k *Keyring) Serving() {
	k.serving.Store(true)
	if err := k.send(keywire.Serving{Epoch: k.epoch}.Append(nil)); err != nil {
		k.greetIn(k.limits.resend) // which says it again, or meets the end of the link
	}
}

// Proof is what a CA is answered that asks a host, with or without a port, for the token of
// a path. ok is false where no challenge is open for it.
func (k *Keyring) Proof(authority, token []byte) (proof string, ok bool) {
	for _, one := range k.challenges.list() {
		if one.certificate == nil && one.token == string(token) && isHost(authority, one.name) {
			return one.proof, true
		}
	}
	return "", false
}

// isHost reports whether an authority is that of a name: the same, or with a port behind
// it. An address of IPv6 has brackets there.
func isHost(authority []byte, name string) bool {
	if strings.IndexByte(name, ':') >= 0 {
		name = "[" + name + "]"
	}
	rest, found := bytes.CutPrefix(authority, []byte(name))
	return found && (len(rest) == 0 || rest[0] == ':')
}

// isProver reports whether a client negotiates nothing but ALPNProtocol.
func isProver(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ALPNProtocol
}

// proveNames has a configuration answer those who negotiate nothing but ALPNProtocol.
func (k *Keyring) proveNames(config *tls.Config) {
	config.NextProtos = append(config.NextProtos, ALPNProtocol)
	usual := config.GetCertificate
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !isProver(hello) {
			return usual(hello)
		}
		for _, one := range k.challenges.list() {
			if one.certificate != nil && strings.EqualFold(one.name, hello.ServerName) {
				return one.certificate, nil
			}
		}
		return nil, errNoChallenge
	}
}
