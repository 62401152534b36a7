package loop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"
)

// TestKeyUpdate: a client that asks for new keys long after the last answer gets them and
// the next answer, and the session is drained when it has read what came with them.
func TestKeyUpdate(t *testing.T) {
	near, far := pair(t, started(t))
	defer near.Close()
	records := NewRecords(near, near)
	session := tls.Server(records, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	var keys bytes.Buffer
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys}) // of this test's own making
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := session.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	if suite := client.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("SKIPPED, NOT TESTED: this machine's cipher is %s", tls.CipherSuiteName(suite))
	}
	secret := clientSecret(t, keys.String())
	asks := sealed(t, secret, 22, []byte{24, 0, 0, 1, 1}) // update_requested: RFC 8446, section 4.6.3
	says := sealed(t, expand(t, secret, "traffic upd", sha256.Size), 23, []byte("more"))
	records.Renew(time.Minute)
	near.LimitWrite(-1) // that of an answer, long ago
	for i, piece := range [][]byte{asks, says} {
		if _, err := far.Write(piece); err != nil {
			t.Fatal(err)
		}
		near.Look() // it is there
		near.Try(i == 0)
		got := make([]byte, 100)
		n, err := session.Read(got)
		if i == 0 && err != ErrWouldBlock || i == 1 && (err != nil || string(got[:n]) != "more") {
			t.Fatalf("read %d: %q, %v", i, got[:n], err)
		}
		if drained := records.Drained(); drained != (i == 1) {
			t.Errorf("drained after read %d: %v", i, drained)
		}
	}
	near.LimitWrite(time.Minute)
	if _, err := io.WriteString(session, "answer"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
}

// clientSecret is CLIENT_TRAFFIC_SECRET_0 of a key log.
func clientSecret(t *testing.T, log string) []byte {
	t.Helper()
	_, line, _ := strings.Cut(log, "CLIENT_TRAFFIC_SECRET_0 ")
	line, _, _ = strings.Cut(line, "\n")
	_, digits, _ := strings.Cut(line, " ")
	secret, err := hex.DecodeString(digits)
	if err != nil || len(secret) != sha256.Size {
		t.Fatal(log, err)
	}
	return secret
}

// sealed is the first record under a traffic secret (RFC 8446, section 5.2).
func sealed(t *testing.T, secret []byte, kind byte, text []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(expand(t, secret, "key", 16))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	header := []byte{23, 3, 3, 0, byte(len(text) + 1 + aead.Overhead())}
	return aead.Seal(header, expand(t, secret, "iv", 12), append(bytes.Clone(text), kind), header)
}

// expand is HKDF-Expand-Label without a context (RFC 8446, section 7.1).
func expand(t *testing.T, secret []byte, label string, length int) []byte {
	t.Helper()
	info := string([]byte{0, byte(length), byte(len("tls13 " + label))}) + "tls13 " + label + "\x00"
	key, err := hkdf.Expand(sha256.New, secret, info, length)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
