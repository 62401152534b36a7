package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMemory reads all memory of the core after many full handshakes: no key
// may be in it. The same scan must find every key in the keeper, or it would
// show nothing.
func TestMemory(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	needles := map[string]map[string][]byte{}
	conf := "listen = { http = [], https = [\"127.0.0.1:0\"] }\n"
	for kind, key := range threeKeys(t) {
		s.certificate(kind, key, kind+".test")
		text, err := os.ReadFile(s.path(kind + ".key"))
		s.must(err)
		needles[kind] = secrets(t, key, string(text))
		conf += "[[site]]\nhost = \"" + kind + ".test\"\napp = \"unix:{dir}/app.sock\"\n" +
			"tls = { cert = \"" + kind + ".pem\", key = \"" + kind + ".key\" }\n"
	}
	s.write("sallyport.toml", conf)
	h := s.start()
	for kind := range needles {
		s.handshakes(h.https, kind+".test", 100)
	}
	core, keeper := named(t, "sallyport-core"), named(t, "sallyport-keeper")
	for kind, secret := range needles {
		if found := scan(t, core.pid, secret); len(found) > 0 {
			t.Errorf("the core has the %s key: %v", kind, found)
		}
		found := scan(t, keeper.pid, secret)
		if len(found) == 0 {
			t.Errorf("the scan does not find the %s key in the keeper", kind)
		}
		t.Logf("%s: core 0 of %d forms, keeper %v", kind, len(secret), found)
	}
}

func threeKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	secret, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, seed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"p256": p256(t), "rsa": secret, "ed25519": seed}
}

// secrets returns the forms in which a private key may be in memory: its
// numbers in both byte orders, and the lines of its file.
func secrets(t *testing.T, key crypto.Signer, text string) map[string][]byte {
	t.Helper()
	numbers := map[string][]byte{}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		scalar, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		numbers["scalar"] = scalar
	case *rsa.PrivateKey:
		numbers["d"] = key.D.Bytes()
		numbers["p"], numbers["q"] = key.Primes[0].Bytes(), key.Primes[1].Bytes()
	case ed25519.PrivateKey:
		numbers["seed"] = key.Seed()
	default:
		t.Fatalf("what is secret in a %T?", key)
	}
	found := map[string][]byte{}
	for name, number := range numbers {
		found[name+" big-endian"] = number
		found[name+" little-endian"] = bytes.Clone(number)
		slices.Reverse(found[name+" little-endian"])
	}
	file := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range file[1 : len(file)-1] {
		found[fmt.Sprintf("line %d of its file", i+2)] = []byte(line)
	}
	return found
}

// handshakes makes full handshakes, by turns with TLS 1.2 and 1.3.
func (s *scene) handshakes(address, host string, count int) {
	s.t.Helper()
	for i := range count {
		client := s.client(host)
		client.MinVersion = tls.VersionTLS12 + uint16(i%2)
		client.MaxVersion = client.MinVersion
		conn, err := tls.Dial("tcp", address, client)
		if err != nil {
			s.t.Fatalf("handshake %d with %s: %v", i, host, err)
		}
		conn.Close()
	}
}
