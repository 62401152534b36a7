package keeper

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"testing"

	"sallyport/conf"
	"sallyport/tlsload"
	"sallyport/tlsload/keywire"
)

// certificateVerify is what a TLS 1.3 server signs.
func certificateVerify(hashBytes int) []byte {
	message := append(bytes.Repeat([]byte{' '}, 64), "TLS 1.3, server CertificateVerify\x00"...)
	return append(message, random(hashBytes)...)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// A group is a key exchange of TLS 1.2: its number, and a point of it.
type group struct {
	id    uint16
	point []byte
}

var (
	x25519 = group{0x001d, publicOf(ecdh.X25519())}
	p256   = group{0x0017, publicOf(ecdh.P256())}
	p384   = group{0x0018, publicOf(ecdh.P384())}
)

func publicOf(curve ecdh.Curve) []byte {
	key, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key.PublicKey().Bytes()
}

func (g group) parameters() []byte {
	return append([]byte{3, byte(g.id >> 8), byte(g.id), byte(len(g.point))}, g.point...)
}

// serverKeyExchange is what a TLS 1.2 server signs. Its first byte is not that
// of a document.
func serverKeyExchange(g group) []byte {
	randoms := append(append([]byte{0}, random(55)...), "DOWNGRD\x01"...)
	return append(randoms, g.parameters()...)
}

func TestIsHandshake(t *testing.T) {
	changed := func(message []byte, at int, b byte) []byte {
		message = bytes.Clone(message)
		message[at] ^= b
		return message
	}
	v32, x, p := certificateVerify(32), serverKeyExchange(x25519), serverKeyExchange(p256)
	compressed := append(append(p[:64:64], 3, 0, 0x17, 33), 2+p[132]&1)
	cases := []struct {
		name    string
		message []byte
		want    version // 0: refused
	}{
		{"TLS 1.3, SHA-256", v32, tls13},
		{"TLS 1.3, SHA-384", certificateVerify(48), tls13},
		{"TLS 1.2, X25519", x, tls12},
		{"TLS 1.2, P-256", p, tls12},

		{"nothing", nil, 0},
		{"TLS 1.3, first space changed", changed(v32, 0, 1), 0},
		{"TLS 1.3, last space changed", changed(v32, 63, 1), 0},
		{"TLS 1.3, one space less", v32[1:], 0},
		{"TLS 1.3, one space more", append([]byte{' '}, v32...), 0},
		{"TLS 1.3, client's context", bytes.Replace(v32, []byte("server"), []byte("client"), 1), 0},
		{"TLS 1.3, separator changed", changed(v32, 64+33, 1), 0},
		{"TLS 1.3, hash of 20", certificateVerify(20), 0},
		{"TLS 1.3, hash of 31", certificateVerify(31), 0},
		{"TLS 1.3, hash of 64", certificateVerify(64), 0},
		{"TLS 1.3, no hash", certificateVerify(0), 0},
		{"TLS 1.2, randoms only", x[:64], 0},
		{"TLS 1.2, no sign of a server that speaks 1.3", changed(x, 63, 1), 0},
		{"TLS 1.2, no point", x[:68], 0},
		{"TLS 1.2, X25519, curve type 1", changed(x, 64, 3^1), 0},
		{"TLS 1.2, X25519, high byte of curve", changed(x, 65, 1), 0},
		{"TLS 1.2, X25519 called X448", changed(x, 66, 0x1d^0x1e), 0},
		{"TLS 1.2, X25519 called P-256", changed(x, 66, 0x1d^0x17), 0},
		{"TLS 1.2, X25519, length 33", changed(x, 67, 1), 0},
		{"TLS 1.2, X25519, one byte less", x[:99], 0},
		{"TLS 1.2, X25519, one byte more", append(x[:100:100], 0), 0},
		{"TLS 1.2, P-256, one byte less", p[:132], 0},
		{"TLS 1.2, P-256, one byte more", append(p[:133:133], 0), 0},
		{"TLS 1.2, P-256, not on the curve", changed(p, 132, 1), 0},
		{"TLS 1.2, P-256, infinity", append(append(p[:67:67], 65), make([]byte, 65)...), 0},
		{"TLS 1.2, P-256, hybrid form", changed(p, 68, 4^6), 0},
		{"TLS 1.2, P-256, compressed", append(compressed, p[69:101]...), 0},
		{"TLS 1.2, P-384", serverKeyExchange(p384), 0},
		{"TLS 1.2, explicit curve", append(append(x[:64:64], 1), random(35)...), 0},
	}
	for _, c := range cases {
		got, ok := isHandshake(c.message)
		if got != c.want || ok != (c.want != 0) {
			t.Errorf("%s: got %d, %v", c.name, got, ok)
		}
	}
}

// plainRequest is the part of a certificate request that its key signs.
func plainRequest(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return request.RawTBSCertificateRequest
}

func tlv(tag byte, parts ...[]byte) []byte {
	value, err := asn1.Marshal(asn1.RawValue{FullBytes: nil, Class: int(tag >> 6), IsCompound: tag&0x20 != 0, Tag: int(tag & 0x1f), Bytes: bytes.Join(parts, nil)})
	if err != nil {
		panic(err)
	}
	return value
}

// craftedRequest is the signed part of a certificate request that has, where a
// TLS 1.2 message has it, a point of a group: inside an attribute.
func craftedRequest(t *testing.T, key crypto.Signer, g group) []byte {
	t.Helper()
	return crafted(t, key, g, nil)
}

// crafted puts tail behind the last field of the request. Behind the parameters
// it is part of the point, so that the length stays.
func crafted(t *testing.T, key crypto.Signer, g group, tail []byte) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	begin := func(oidBytes int, text []byte) []byte {
		oid := append([]byte{0x2a}, bytes.Repeat([]byte{3}, oidBytes-1)...)
		attribute := tlv(0x30, tlv(0x06, oid), tlv(0x31, tlv(0x0c, text)))
		return tlv(0x30, tlv(0x02, []byte{0}), tlv(0x30), spki, tlv(0xa0, attribute), tail)
	}
	for oidBytes := 1; oidBytes < 20; oidBytes++ {
		parameters := g.parameters()
		message := begin(oidBytes, parameters[:len(parameters)-len(tail)])
		copy(message[len(message)-len(tail):], parameters[len(parameters)-len(tail):])
		if bytes.Equal(message[64:], parameters) {
			return message
		}
	}
	t.Fatal("no place for the parameters")
	return nil
}

// The attack is real: a CA would accept what isDocument refuses, and without the
// eight bytes of RFC 8446 it has the shape of a handshake too.
func TestCraftedRequestsAreRequests(t *testing.T) {
	key := keys()["Ed25519"]
	for name, message := range map[string][]byte{
		"100 bytes":              craftedRequest(t, key, x25519),
		"133 bytes":              craftedRequest(t, key, p256),
		"165 bytes":              craftedRequest(t, key, p384),
		"100 bytes, broken tail": crafted(t, key, x25519, []byte{1, 1, 1}),
	} {
		if want := fmt.Sprintf("%d bytes", len(message)); name[:9] != want {
			t.Errorf("%s: has %s", name, want)
		}
		if _, ok := isHandshake(message); ok {
			t.Errorf("%s: is seen to be a handshake", name)
		}
		marked := append(append(bytes.Clone(message[:56]), "DOWNGRD\x01"...), message[64:]...)
		if _, ok := isHandshake(marked); ok != (len(message) != 165) {
			t.Errorf("%s: with the eight bytes, isHandshake is %v", name, ok)
		}
		if !isDocument(message) {
			t.Errorf("%s: is not seen to be a document", name)
		}
		signature, err := key.Sign(rand.Reader, message, crypto.Hash(0))
		if err != nil {
			t.Fatal(err)
		}
		algorithm := tlv(0x30, tlv(0x06, []byte{0x2b, 0x65, 0x70})) // id-Ed25519, RFC 8410
		der := tlv(0x30, message, algorithm, tlv(0x03, append([]byte{0}, signature...)))
		request, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := request.CheckSignature(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// shapedDocument is one ASN.1 structure and has, in a string of it, all that makes
// a message of TLS 1.2.
func shapedDocument(t *testing.T, g group) []byte {
	t.Helper()
	tail := append([]byte("DOWNGRD\x01"), g.parameters()...)
	for filler := range 64 {
		message := tlv(0x30, tlv(0x02, []byte{0}), tlv(0x30), tlv(0x04, make([]byte, filler), tail))
		if _, ok := isHandshake(message); ok {
			return message
		}
	}
	t.Fatal("no place for the parameters")
	return nil
}

func TestIsDocument(t *testing.T) {
	integer, sequence := tlv(0x02, []byte{0}), tlv(0x30, []byte{5, 0})
	cases := []struct {
		name    string
		message []byte
		want    bool
	}{
		{"empty sequence", tlv(0x30), true},
		{"sequence", tlv(0x30, integer, sequence), true},
		{"set, as CMS signs", tlv(0x31, sequence, sequence), true},
		{"long form", tlv(0x30, integer, make([]byte, 0), tlv(0x04, make([]byte, 200))), true},
		{"length longer than need be", append([]byte{0x30, 0x83, 0, 0, byte(len(integer))}, integer...), true},
		{"indefinite length", []byte{0x30, 0x80, 2, 1, 0, 0, 0}, true},
		{"three values and rubbish", tlv(0x30, integer, sequence, sequence, []byte{1, 9}), true},

		{"nothing", nil, false},
		{"one byte", []byte{0x30}, false},
		{"octet string", tlv(0x04, integer), false},
		{"two values and rubbish", tlv(0x30, integer, sequence, []byte{1, 9}), false},
		{"one byte more", append(tlv(0x30, integer), 0), false},
		{"one byte less", tlv(0x30, integer, integer)[:7], false},
		{"length of more bytes than there are", []byte{0x30, 0x84, 0}, false},
		{"huge length", []byte{0x30, 0x88, 255, 255, 255, 255, 255, 255, 255, 255, 0}, false},
	}
	for _, c := range cases {
		if got := isDocument(c.message); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// Honest randoms are no documents. Where the first bytes are those of a sequence
// of the right length, which is once in 65,000, nearly all fail later.
func TestRandomsAreNoDocuments(t *testing.T) {
	const runs = 100_000
	seeded := mathrand.NewChaCha8([32]byte{})
	message := serverKeyExchange(x25519)
	var plain, led int
	for range runs {
		seeded.Read(message[:64])
		if isDocument(message) {
			plain++
		}
		message[0], message[1] = tagSequence, byte(len(message)-2)
		if isDocument(message) {
			led++
		}
	}
	if plain > 0 || led > runs/30 {
		t.Errorf("%d of %d randoms are documents, %d with a fitting header", plain, runs, led)
	}
	t.Logf("with a fitting header: %.2f %%", 100*float64(led)/runs)
}

func TestSchemes(t *testing.T) {
	allowed := map[string][]keywire.Scheme{
		"P-256 1.2":    {keywire.ECDSAWithSHA256, keywire.ECDSAWithSHA384, keywire.ECDSAWithSHA512},
		"P-384 1.2":    {keywire.ECDSAWithSHA256, keywire.ECDSAWithSHA384, keywire.ECDSAWithSHA512},
		"P-521 1.2":    {keywire.ECDSAWithSHA256, keywire.ECDSAWithSHA384, keywire.ECDSAWithSHA512},
		"RSA-2048 1.2": {keywire.PKCS1WithSHA256, keywire.PKCS1WithSHA384, keywire.PKCS1WithSHA512, keywire.PSSWithSHA256, keywire.PSSWithSHA384, keywire.PSSWithSHA512},
		"Ed25519 1.2":  {keywire.Ed25519},
		"P-256 1.3":    {keywire.ECDSAWithSHA256},
		"P-384 1.3":    {keywire.ECDSAWithSHA384},
		"P-521 1.3":    {keywire.ECDSAWithSHA512},
		"RSA-2048 1.3": {keywire.PSSWithSHA256, keywire.PSSWithSHA384, keywire.PSSWithSHA512},
		"Ed25519 1.3":  {keywire.Ed25519},
	}
	messages := map[string][]byte{" 1.2": serverKeyExchange(p256), " 1.3": certificateVerify(48)}
	for name, key := range keys() {
		store := stocked(t, key)
		for version, message := range messages {
			signed := map[keywire.Scheme]bool{}
			for scheme := range 1 << 16 { // SHA-1 and whatever else there is included
				request := keywire.Sign{ID: 1, Scheme: keywire.Scheme(scheme), Message: message}
				if _, ok := optionsFor(request.Scheme, versionOf(message), key.Public()); !ok && scheme%251 != 0 {
					continue // the whole way for a sample is enough
				}
				signature, reason, err := store.sign(request)
				switch {
				case err != nil:
					t.Errorf("%s%s: %v", name, version, err)
				case reason == 0:
					signed[request.Scheme] = verify(key.Public(), request.Scheme, message, signature)
				case reason != keywire.WrongScheme:
					t.Errorf("%s%s, scheme %#x: got %v", name, version, scheme, reason)
				}
			}
			for _, scheme := range allowed[name+version] {
				if !signed[scheme] {
					t.Errorf("%s%s, scheme %#x: not signed, or wrongly", name, version, scheme)
				}
				delete(signed, scheme)
			}
			if len(signed) > 0 {
				t.Errorf("%s%s: signed with %v", name, version, signed)
			}
		}
	}
}

func versionOf(message []byte) version {
	v, _ := isHandshake(message)
	return v
}

// verify checks a signature as a client would.
func verify(public crypto.PublicKey, scheme keywire.Scheme, message, signature []byte) bool {
	sum := func(hash crypto.Hash) []byte {
		h := hash.New()
		h.Write(message)
		return h.Sum(nil)
	}
	switch public := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, message, signature)
	case *ecdsa.PublicKey:
		hash, _ := ecdsaHash(scheme)
		return ecdsa.VerifyASN1(public, sum(hash), signature)
	case *rsa.PublicKey:
		if hash := pssHash(scheme); hash != 0 {
			return rsa.VerifyPSS(public, hash, sum(hash), signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		hash := pkcs1Hash(scheme)
		return rsa.VerifyPKCS1v15(public, hash, sum(hash), signature) == nil
	default:
		return false
	}
}

// Whatever is accepted is one of the two shapes, read in another way.
func FuzzIsHandshake(f *testing.F) {
	for _, message := range [][]byte{
		certificateVerify(32), certificateVerify(48), serverKeyExchange(x25519),
		serverKeyExchange(p256), serverKeyExchange(p384), bytes.Repeat([]byte{' '}, 130), tlv(0x30, make([]byte, 98)),
	} {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		isDocument(message)
		v, ok := isHandshake(message)
		if !ok {
			return
		}
		switch v {
		case tls13:
			hash, found := bytes.CutPrefix(message, []byte(fmt.Sprintf("%64s%s\x00", "", "TLS 1.3, server CertificateVerify")))
			if !found || len(hash) != 32 && len(hash) != 48 {
				t.Errorf("accepted %x", message)
			}
		case tls12:
			curve := map[[4]byte]ecdh.Curve{{3, 0, 29, 32}: ecdh.X25519(), {3, 0, 23, 65}: ecdh.P256()}[[4]byte(message[64:68])]
			if curve == nil {
				t.Fatalf("accepted %x", message)
			}
			if _, err := curve.NewPublicKey(message[68:]); err != nil {
				t.Errorf("accepted %x: %v", message, err)
			}
		default:
			t.Errorf("accepted %x as version %d", message, v)
		}
	})
}

// Real handshakes: every key, version and key exchange, over a real link.
func TestHandshakes(t *testing.T) {
	curves := map[string]tls.CurveID{"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384, "X25519MLKEM768": tls.X25519MLKEM768, "SecP256r1MLKEM768": tls.SecP256r1MLKEM768}
	fails := map[string]bool{ // by version and curve, for all keys
		"1.2 P-384": true, "1.3 P-384": true, // not offered
		"1.2 X25519MLKEM768": true, "1.2 SecP256r1MLKEM768": true, // TLS 1.3 only
	}
	for keyName, key := range keys() {
		keys, roots := opened(t, key)
		config := keys.Config(conf.Core{Sites: []conf.Site{{Hosts: []string{host}}}})
		for versionName, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
			for curveName, curve := range curves {
				t.Run(keyName+" "+versionName+" "+curveName, func(t *testing.T) {
					client := &tls.Config{
						ServerName: host, RootCAs: roots, CurvePreferences: []tls.CurveID{curve},
						MinVersion: version, MaxVersion: version,
					}
					if err := shake(config, client); (err != nil) != fails[versionName+" "+curveName] {
						t.Error(err)
					}
				})
			}
		}
	}
}

// opened is a core's key ring with one certificate, and what a client trusts.
func opened(t *testing.T, key crypto.Signer) (*tlsload.Keyring, *x509.CertPool) {
	t.Helper()
	store := stocked(t, key)
	core, link := linked(t)
	serve(t, store, link)
	keys, err := tlsload.Open(duplicate(t, core), 1, func(message string, err error) { t.Errorf("%s: %v", message, err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	roots := x509.NewCertPool()
	roots.AddCert(store.pairs[0].leaf)
	return keys, roots
}

// shake makes one handshake over a pipe.
func shake(core, client *tls.Config) error {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	shaken := make(chan error, 1)
	go func() {
		shaken <- tls.Server(far, core).Handshake()
		far.Close()
	}()
	err := tls.Client(near, client).Handshake()
	if err != nil {
		near.Close()
		return errors.Join(err, <-shaken)
	}
	return nil
}
