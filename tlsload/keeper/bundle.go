package keeper

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unique"

	"sallyport/tlsload/keywire"
)

// This file is the form of what is kept of a certificate from a CA: one text of PEM with the
// key, the chain, and what certmagic knows about them.

const metaType = "ACME METADATA"

// bundle makes one text of the three parts.
func bundle(key, chain, meta []byte) []byte {
	text := append([]byte{}, key...)
	text = append(text, chain...)
	return append(text, pem.EncodeToMemory(&pem.Block{Type: metaType, Bytes: meta})...)
}

// partOf is one of the three parts again.
func partOf(text []byte, part string) (found []byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == metaType && part == partMeta:
			return block.Bytes
		case block.Type == "CERTIFICATE" && part == partCert,
			strings.HasSuffix(block.Type, "PRIVATE KEY") && part == partKey:
			found = append(found, pem.EncodeToMemory(block)...)
		}
	}
	return found
}

// unbundle reads a pair that is whole and fits together.
func unbundle(text []byte) (pair, error) {
	var p pair
	total := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			p.chain = append(p.chain, block.Bytes)
			total += len(block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && p.key == nil:
			key, f := parseKey(block, "")
			clear(block.Bytes)
			if f.what != "" {
				return pair{}, errors.New(f.what)
			}
			p.key = key
		}
	}
	switch {
	case p.key == nil:
		return pair{}, errors.New("holds no private key")
	case len(p.chain) == 0:
		return pair{}, errors.New("holds no certificate")
	case len(p.chain) > keywire.ChainLenMax || total > keywire.ChainBytesMax:
		return pair{}, fmt.Errorf("holds %d certificates of %d bytes", len(p.chain), total)
	}
	var err error
	if p.leaf, err = x509.ParseCertificate(p.chain[0]); err != nil {
		return pair{}, fmt.Errorf("the certificate is damaged: %w", err)
	}
	p.leaf = slim(p.leaf)
	public, ok := p.leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(p.key.Public()) {
		return pair{}, errors.New("key and certificate do not fit")
	}
	return p, nil
}

// slim is a certificate with no more than is asked of one from a CA: there may be fifty thousand,
// and what was parsed is most of their memory.
func slim(c *x509.Certificate) *x509.Certificate {
	return &x509.Certificate{
		Raw: c.Raw, RawSubjectPublicKeyInfo: c.RawSubjectPublicKeyInfo,
		PublicKeyAlgorithm: c.PublicKeyAlgorithm, PublicKey: c.PublicKey,
		SerialNumber: c.SerialNumber, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		Issuer:   pkix.Name{CommonName: unique.Make(c.Issuer.CommonName).Value()},
		Subject:  pkix.Name{CommonName: c.Subject.CommonName},
		DNSNames: c.DNSNames, IPAddresses: c.IPAddresses,
	}
}
