package keeper

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
)

// This file is the internal CA: keys that come from a secret, a root, and leaves
// for them. How secret and root outlive the keeper is in kept.go.

const (
	rootLife = 10 * 365 * 24 * time.Hour
	// A root with less than this before it is followed, at a start, by one of the same
	// key and name: who trusts the old one has a year for the new one.
	rootSpare = 365 * 24 * time.Hour

	leafLife  = 7 * 24 * time.Hour
	leafSpare = leafLife / 3

	backdate = time.Hour // for clients whose clocks are behind
)

// What keys are derived for. A change of these texts, or of derive, is another CA on
// every machine.
const (
	rootPurpose = "sallyport internal CA, root key"
	leafPurpose = "sallyport internal CA, leaf key of " // and the names, with commas between them
)

// An authority is the internal CA. Nobody can ask for a signature of its key,
// which has no handle; it signs what newRoot and issue make.
type authority struct {
	secret []byte // all keys come from it, the leaves' too
	key    *ecdsa.PrivateKey
	root   *x509.Certificate
}

// openAuthority makes the authority of what is kept of it, and whatever is missing:
// everything at the first start.
func openAuthority(plan conf.Authority, files AuthorityFiles, now time.Time, log zerolog.Logger) (*authority, flaw) {
	secret, f := keptSecret(files.Secret, plan.Secret).secret()
	if f.what != "" {
		return nil, f
	}
	key, err := derive(secret, rootPurpose)
	if err != nil {
		return nil, flaw{what: err.Error()}
	}
	a := &authority{secret: secret, key: key}
	file := keptRoot(files.Root, plan.Root)
	text, f := file.read()
	if f.what != "" {
		return nil, f
	}
	cause := a.takeRoot(text, now)
	if cause == "" {
		return a, flaw{}
	}
	level := zerolog.InfoLevel
	if len(text) > 0 {
		level = zerolog.WarnLevel // somebody may have to be told, or asked
	}
	if text, err = a.newRoot(now); err != nil {
		return nil, flaw{what: err.Error()}
	}
	if f := file.write(text); f.what != "" {
		return nil, f
	}
	log.WithLevel(level).Str("file", plan.Root).Str("name", a.root.Subject.CommonName).Str("cause", cause).Msg("root certificate written")
	return a, flaw{}
}

// takeRoot makes the root of the text that is kept of it, or says why not. The
// text has to be exactly what newRoot has made: who copies the file trusts all
// that is in it.
func (a *authority) takeRoot(text []byte, now time.Time) (cause string) {
	if len(text) == 0 {
		return "is empty"
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "is no certificate"
	}
	root, err := x509.ParseCertificate(block.Bytes)
	switch {
	case err != nil:
		return "is no certificate"
	case !bytes.Equal(text, pemOf(root)):
		return "holds more than one certificate"
	case !a.key.PublicKey.Equal(root.PublicKey) || root.CheckSignatureFrom(root) != nil:
		return "is not of this CA"
	case now.Add(rootSpare).After(root.NotAfter):
		return "ends " + root.NotAfter.UTC().Format(time.RFC3339)
	}
	a.root = root
	return ""
}

// newRoot gives the authority another root and returns what is to be kept of it.
// Its name has a part of its own: a machine may trust the CAs of several others.
func (a *authority) newRoot(now time.Time) (text []byte, err error) {
	public, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		return nil, fmt.Errorf("keeper: public key of the root: %w", err)
	}
	digest := sha256.Sum256(public)
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "sallyport internal CA " + hex.EncodeToString(digest[:4])},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if a.root, err = a.certify(template, template, a.key.Public()); err != nil {
		return nil, fmt.Errorf("keeper: make the root: %w", err)
	}
	return pemOf(a.root), nil
}

// pair is a key for names and its first certificate. The key is always the same
// for the same names: a core may still have a certificate of a keeper before this one.
func (a *authority) pair(names []string, now time.Time) (pair, error) {
	key, err := derive(a.secret, leafPurpose+strings.Join(names, ","))
	if err != nil {
		return pair{}, err
	}
	p := pair{key: key, issuedFor: names}
	return p, a.issue(&p, now)
}

// issue gives a pair a new certificate. The root signs it, so that nothing has to
// be sent beside it.
func (a *authority) issue(p *pair, now time.Time) error {
	template := &x509.Certificate{
		// "If the subject field contains an empty sequence", clients look at the
		// names below, as they do anyway. RFC 5280, section 4.2.1.6.
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(leafLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range p.issuedFor {
		if address, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, address.Unmap().AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	leaf, err := a.certify(template, a.root, p.key.Public())
	if err != nil {
		return fmt.Errorf("keeper: issue for %s: %w", strings.Join(p.issuedFor, ", "), err)
	}
	p.leaf, p.chain = leaf, [][]byte{leaf.Raw}
	return nil
}

// certify is the only use of the authority's key. The serial number is random,
// as crypto/x509 draws it.
func (a *authority) certify(template, parent *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// isDue reports whether a certificate of the authority is to be issued anew: near
// its end, or when the clock was set back behind its beginning.
func (p *pair) isDue(now time.Time) bool {
	return p.issuedFor != nil && (now.Before(p.leaf.NotBefore) || now.After(p.leaf.NotAfter.Add(-leafSpare)))
}

// derive makes the P-256 key for a purpose from the secret.
func derive(secret []byte, purpose string) (*ecdsa.PrivateKey, error) {
	return firstKey(func(try int) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, purpose+"\x00"+strconv.Itoa(try), 32)
	})
}

// firstKey is the first of the candidates that is a key: any 32 bytes are a
// number from 1 to below the order of P-256, but for one in 2^32.
func firstKey(candidate func(try int) ([]byte, error)) (*ecdsa.PrivateKey, error) {
	for try := range 8 {
		number, err := candidate(try)
		if err != nil {
			return nil, fmt.Errorf("keeper: derive a key: %w", err)
		}
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), number)
		clear(number)
		if err == nil {
			return key, nil
		}
	}
	return nil, errors.New("keeper: derive a key: none of 8 numbers is one")
}

// pemOf is a certificate as a file holds it.
func pemOf(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}
