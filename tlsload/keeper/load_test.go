package keeper

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
)

func duplicate(t *testing.T, fd int) int {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// loadOne loads one pair of files and returns what is logged, too.
func loadOne(t *testing.T, cert, key []byte) (store *Store, log string, err error) {
	t.Helper()
	where := conf.Place{File: "sallyport.toml", Line: 4, Key: "site.tls"}
	plan := conf.Keeper{Certificates: []conf.Certificate{{Cert: "/etc/shop.pem", Key: "/etc/shop.key", Where: where}}}
	var text bytes.Buffer
	store, err = Load(plan, []Files{{given(t, cert), given(t, key)}}, AuthorityFiles{}, zerolog.New(&text))
	return store, text.String(), err
}

func TestFormsOfKeys(t *testing.T) {
	ec, rsaKey := keys()["P-256"].(*ecdsa.PrivateKey), keys()["RSA-2048"].(*rsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	sec1PEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	forms := map[string]struct {
		key  crypto.Signer
		text []byte
	}{
		"PKCS 8 EC":       {ec, pkcs8(t, ec)},
		"PKCS 8 RSA":      {rsaKey, pkcs8(t, rsaKey)},
		"PKCS 8 Ed25519":  {keys()["Ed25519"], pkcs8(t, keys()["Ed25519"])},
		"SEC 1":           {ec, sec1PEM},
		"SEC 1 of old":    {ec, append(parameters, sec1PEM...)},
		"PKCS 1":          {rsaKey, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})},
		"text in front":   {ec, append([]byte("Key of the shop\n"), pkcs8(t, ec)...)},
		"Windows' CR, LF": {ec, bytes.ReplaceAll(pkcs8(t, ec), []byte("\n"), []byte("\r\n"))},
	}
	for name, form := range forms {
		cert, _ := issue(t, form.key)
		store, _, err := loadOne(t, append(cert, form.text...), form.text) // the key in both files
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if public, ok := form.key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(store.pairs[0].key.Public()) {
			t.Errorf("%s: got another key", name)
		}
		if len(store.pairs[0].chain) != 1 {
			t.Errorf("%s: got a chain of %d", name, len(store.pairs[0].chain))
		}
	}
}

func TestMistakes(t *testing.T) {
	key := keys()["P-256"]
	cert, private := issue(t, key)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, headers map[string]string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: []byte{1, 2, 3}})
	}
	const ofCert, ofKey = "site.tls.cert", "site.tls.key"
	cases := map[string]struct {
		cert, key  []byte
		of         string // what names the file that is wrong
		what, hint string // parts of the message
	}{
		"exchanged":           {private, cert, ofCert, "/etc/shop.pem: holds no certificate", "exchanged"},
		"no key":              {cert, cert, ofKey, "/etc/shop.key: holds no private key", "exchanged"},
		"empty":               {cert, nil, ofKey, "holds no private key", "BEGIN PRIVATE KEY"},
		"encrypted PKCS 8":    {cert, block("ENCRYPTED PRIVATE KEY", nil), ofKey, "is encrypted", "openssl pkey -in /etc/shop.key"},
		"encrypted of old":    {cert, block("RSA PRIVATE KEY", map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}), ofKey, "is encrypted", "openssl pkey"},
		"OpenSSH":             {cert, block("OPENSSH PRIVATE KEY", nil), ofKey, "is a OPENSSH PRIVATE KEY", "PKCS 8"},
		"damaged key":         {cert, block("PRIVATE KEY", nil), ofKey, "the private key is damaged", ""},
		"damaged certificate": {block("CERTIFICATE", nil), private, ofCert, "the first certificate is damaged", ""},
		"another key":         {cert, pkcs8(t, keys()["Ed25519"]), ofKey, "/etc/shop.key: is not the key of the first certificate in /etc/shop.pem", "must be the first"},
		"RSA of 1024":         {cert, pkcs8(t, weak), ofKey, "an RSA key of 1024 bits", "P-256"},
		"P-224":               {cert, pkcs8(t, p224), ofKey, "P-224, which TLS does not know", "P-256"},
		"too many":            {bytes.Repeat(cert, 17), private, ofCert, "holds 17 certificates", "intermediate"},
		"too large":           {append(cert, make([]byte, fileBytesMax)...), private, ofCert, "at most 1048576 are read", ""},
	}
	for name, c := range cases {
		store, _, err := loadOne(t, c.cert, c.key)
		var mistake conf.Mistake
		if store != nil || !errors.As(err, &mistake) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if mistake.Line != 4 || mistake.Key != c.of || !strings.Contains(mistake.What, c.what) || !strings.Contains(mistake.Hint, c.hint) {
			t.Errorf("%s: got %v", name, mistake)
		}
		if strings.Contains(err.Error(), "MII") {
			t.Errorf("%s: the message holds key text: %v", name, err)
		}
	}
}

func TestAllMistakesAreSaid(t *testing.T) {
	_, _, err := loadOne(t, nil, nil)
	if got := strings.Count(err.Error(), "sallyport.toml:4: site.tls."); got != 2 {
		t.Errorf("got %d mistakes, want 2:\n%v", got, err)
	}
	if f := checkKey(notForTLS{}); f.what == "" {
		t.Error("a key of an unknown kind is taken")
	}
	if _, err := readFile(-1); err == nil {
		t.Error("a closed descriptor is read")
	}
	pipe, _ := linked(t)
	if _, err := readFile(pipe); err == nil {
		t.Error("a socket is read")
	}
}

// notForTLS is a key of a kind that crypto/x509 might know one day.
type notForTLS struct{ crypto.Signer }

func TestWarnings(t *testing.T) {
	key := keys()["P-256"]
	from := func(begin, end time.Duration) []byte {
		return issueFrom(t, &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{host},
			NotBefore: time.Now().Add(begin), NotAfter: time.Now().Add(end),
		}, key)
	}
	slow, _ := issue(t, keys()["P-384"])
	cases := map[string]struct {
		cert []byte
		key  crypto.Signer
		want string
	}{
		"good":    {from(-time.Hour, time.Hour), key, ""},
		"expired": {from(-2*time.Hour, -time.Hour), key, "expired 20"},
		"early":   {from(time.Hour, 2*time.Hour), key, "not valid before 20"},
		"P-384":   {slow, keys()["P-384"], "P-384 signs 7 to 24 times slower"},
	}
	for name, c := range cases {
		_, log, err := loadOne(t, c.cert, pkcs8(t, c.key))
		if err != nil || c.want == "" && log != "" || !strings.Contains(log, c.want) {
			t.Errorf("%s: got %q, %v", name, log, err)
		}
	}
}
