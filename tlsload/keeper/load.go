package keeper

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// fileBytesMax bounds a certificate or key file: a hundred times a long chain.
const fileBytesMax = 1 << 20

// A flaw is why a file of the operator cannot be used. It becomes a conf.Mistake.
type flaw struct {
	what, hint string
}

// A pairFlaw is a flaw of one of the two files of a pair.
type pairFlaw struct {
	key string // of the configuration, that names the file; "" for what has none
	flaw
}

// A pair is a certificate and its key.
type pair struct {
	chain [][]byte // DER, the site's own first
	leaf  *x509.Certificate
	// One value for all signatures: crypto/ecdsa remembers what it has computed for
	// a key by its pointer.
	key  crypto.Signer
	file string // path of the certificate, for people; "" without files
	// The names that the authority issues the certificate for; nil with files.
	issuedFor []string
	// Of the content of both files, so that a next table need not load what it has in
	// common with this one; zero without files.
	content [sha256.Size]byte
	// The name that it comes from a CA for; "" for all others. There is no leaf until it has.
	orderedFor string
	before     *pair // that this one has followed, with another key; nil for none
}

// contentOf is the digest of the content of both files of a pair, or of the one that there
// is; zero if they cannot be read.
func contentOf(named conf.Certificate, files Files) (digest [sha256.Size]byte) {
	hash := sha256.New()
	for _, file := range named.Files() {
		fd := files.Cert
		if file.Secret {
			fd = files.Key
		}
		text, err := readFile(fd)
		if err != nil {
			return digest
		}
		part := sha256.Sum256(text)
		clear(text)
		hash.Write(part[:])
	}
	hash.Sum(digest[:0])
	return digest
}

// load reads one pair. Both files are looked at before anything is said.
func load(named conf.Certificate, files Files) (pair, []pairFlaw) {
	const ofCert, ofKey = "site.tls.cert", "site.tls.key"
	var p pair
	var flaws []pairFlaw
	if f := p.readChain(files.Cert); f.what != "" {
		flaws = append(flaws, pairFlaw{ofCert, flaw{named.Cert + ": " + f.what, f.hint}})
	}
	if f := p.readKey(files.Key, named.Key); f.what != "" {
		flaws = append(flaws, pairFlaw{ofKey, flaw{named.Key + ": " + f.what, f.hint}})
	}
	if len(flaws) > 0 {
		return pair{}, flaws
	}
	public, ok := p.leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(p.key.Public()) {
		return pair{}, []pairFlaw{{ofKey, flaw{
			named.Key + ": is not the key of the first certificate in " + named.Cert,
			"the site's own certificate must be the first in its file, those of the CA follow",
		}}}
	}
	return p, nil
}

// loadClients reads those who have issued the certificates of clients.
func loadClients(named conf.Certificate, files Files) (pair, []pairFlaw) {
	const ofCA = "site.clients.ca"
	var p pair
	f := p.readChain(files.Cert)
	for i, der := range p.chain {
		if f.what != "" {
			break
		}
		ca, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			f = flaw{what: fmt.Sprintf("certificate %d is damaged: %v", i+1, err)}
		case !ca.BasicConstraintsValid || !ca.IsCA:
			f = flaw{
				fmt.Sprintf("certificate %d, %q, is none of a CA", i+1, ca.Subject),
				"write the certificate of who issues those of clients, not theirs",
			}
		}
	}
	if f.what != "" {
		return pair{}, []pairFlaw{{ofCA, flaw{named.Cert + ": " + f.what, f.hint}}}
	}
	return p, nil
}

// expired is the flaw of a certificate that no client takes any more, or of those who issue the
// certificates of clients when it is so of all of them: a file that has a new one has the old one for a while.
func (p pair) expired(named conf.Certificate, now time.Time) []pairFlaw {
	valid := func(der []byte) bool {
		ca, err := x509.ParseCertificate(der)
		return err == nil && !now.After(ca.NotAfter)
	}
	if !now.After(p.leaf.NotAfter) || named.Clients && slices.ContainsFunc(p.chain[1:], valid) {
		return nil
	}
	return []pairFlaw{{named.Files()[0].Key, flaw{
		named.Cert + ": has expired " + p.leaf.NotAfter.UTC().Format(time.RFC3339),
		"renew it, or take its site out of the file",
	}}}
}

// warnings say what works but should not stay so.
func (p pair) warnings(now time.Time) []string {
	var warnings []string
	if key, ok := p.key.(*ecdsa.PrivateKey); ok && key.Curve.Params().BitSize > 256 {
		warnings = append(warnings, key.Curve.Params().Name+" signs 7 to 24 times slower than P-256")
	}
	if now.After(p.leaf.NotAfter) {
		warnings = append(warnings, "expired "+p.leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(p.leaf.NotBefore) {
		warnings = append(warnings, "not valid before "+p.leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return warnings
}

func (p *pair) readChain(fd int) flaw {
	text, err := readFile(fd)
	if err != nil {
		return flaw{what: err.Error()}
	}
	total := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			clear(block.Bytes) // some keep the key in the same file
			continue
		}
		p.chain = append(p.chain, block.Bytes)
		total += len(block.Bytes)
	}
	clear(text)
	switch {
	case len(p.chain) == 0:
		return flaw{"holds no certificate in PEM", "it begins with -----BEGIN CERTIFICATE-----; are cert and key exchanged?"}
	case len(p.chain) > keywire.ChainLenMax || total > keywire.ChainBytesMax:
		return flaw{
			fmt.Sprintf("holds %d certificates of %d bytes, at most %d of %d are sent", len(p.chain), total, keywire.ChainLenMax, keywire.ChainBytesMax),
			"keep the site's certificate and the intermediate ones",
		}
	}
	if p.leaf, err = x509.ParseCertificate(p.chain[0]); err != nil {
		return flaw{what: "the first certificate is damaged: " + err.Error()}
	}
	return flaw{}
}

// readKey takes the first private key of a file, whatever stands before it:
// openssl writes EC PARAMETERS there. The text and its decoded form are zeroed.
func (p *pair) readKey(fd int, name string) flaw {
	text, err := readFile(fd)
	if err != nil {
		return flaw{what: err.Error()}
	}
	defer clear(text)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		defer clear(block.Bytes)
		key, f := parseKey(block, name)
		if f.what != "" {
			return f
		}
		p.key = key
		return checkKey(key)
	}
	return flaw{"holds no private key in PEM", "it begins with -----BEGIN PRIVATE KEY-----; are cert and key exchanged?"}
}

func parseKey(block *pem.Block, name string) (crypto.Signer, flaw) {
	var key any
	var err error
	switch {
	// The old form says so in a header. RFC 1421, section 4.6.1.1.
	case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, flaw{
			"is encrypted, and there is nobody to ask for the passphrase at a start",
			"umask 077; openssl pkey -in " + name + " -out plain.key",
		}
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, flaw{"is a " + block.Type + ", not known in TLS", "PKCS 8, as openssl genpkey writes it"}
	}
	if err != nil {
		return nil, flaw{what: "the private key is damaged: " + err.Error()}
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, flaw{what: fmt.Sprintf("is a %T, which does not sign", key)}
	}
	return signer, flaw{}
}

// checkKey refuses what TLS has no scheme for, and what is too weak to bother.
func checkKey(key crypto.Signer) flaw {
	const hint = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key, and a certificate for it"
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < 2048 || bits > 8*keywire.SignatureBytesMax {
			return flaw{fmt.Sprintf("is an RSA key of %d bits, from 2048 to %d are taken", bits, 8*keywire.SignatureBytesMax), hint}
		}
	case *ecdsa.PrivateKey:
		if bits := key.Curve.Params().BitSize; bits < 256 {
			return flaw{"is a key on " + key.Curve.Params().Name + ", which TLS does not know", hint}
		}
	case ed25519.PrivateKey:
	default:
		return flaw{fmt.Sprintf("is a %T, which TLS does not know", key), hint}
	}
	return flaw{}
}

// readFile reads a whole file from its beginning, wherever its offset is.
func readFile(fd int) ([]byte, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("is not a regular file")
	}
	if stat.Size > fileBytesMax {
		return nil, fmt.Errorf("has %d bytes, at most %d are read", stat.Size, fileBytesMax)
	}
	text := make([]byte, stat.Size)
	for done := 0; done < len(text); {
		n, err := unix.Pread(fd, text[done:], int64(done))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			clear(text)
			return nil, fmt.Errorf("cannot be read: %w", err)
		}
		done += n
	}
	return text, nil
}
