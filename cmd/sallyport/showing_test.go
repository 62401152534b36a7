package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// certificatePEM is one with a serial number.
func certificatePEM(t testing.TB, serial *big.Int) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestSerialOf: as package x509 has it, behind whatever stands before, and nothing of what is none.
func TestSerialOf(t *testing.T) {
	for _, serial := range []*big.Int{big.NewInt(1), big.NewInt(127), big.NewInt(128), big.NewInt(0xabcdef), new(big.Int).Lsh(big.NewInt(0xff), 150)} {
		text := append([]byte("key and so on\n"), certificatePEM(t, serial)...)
		if got := serialOf(text); got != serial.Text(16) {
			t.Errorf("got %s, want %x", got, serial)
		}
		if got := serialOf(text[:len(text)-40]); got != "" {
			t.Errorf("half of it has %s", got)
		}
	}
	if got := serialOf([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----")); got != "" {
		t.Errorf("an empty one has %s", got)
	}
}

// FuzzSerialOf: whatever the file is, and the same as package x509 where that takes it.
func FuzzSerialOf(f *testing.F) {
	f.Add(certificatePEM(f, big.NewInt(4711)))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := serialOf(text)
		block, _ := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && c.SerialNumber.Sign() > 0 && got != "" && got != c.SerialNumber.Text(16) {
			t.Errorf("got %s, want %x", got, c.SerialNumber)
		}
	})
}

// TestReadShowing: what is being written is not read, nor what is no list.
func TestReadShowing(t *testing.T) {
	fd, err := sockets.Sealable("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := sockets.Fix(fd, showingBytes); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	write := func(number, length uint64, text string) {
		t.Helper()
		head := binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, number), length)
		if _, err := unix.Pwrite(fd, append(head, text...), 0); err != nil {
			t.Fatal(err)
		}
	}
	const list = `[{"host":"a.test","serial":"1"}]`
	for _, c := range []struct {
		number, length uint64
		text           string
		want           int
	}{
		{2, uint64(len(list)), list, 1},
		{3, uint64(len(list)), list, 0},
		{4, 1 << 60, list, 0},
		{4, 5, list, 0},
		{0, 0, "", 0},
	} {
		write(c.number, c.length, c.text)
		if got := readShowing(fd); len(got) != c.want {
			t.Errorf("%+v: got %+v", c, got)
		}
	}
	if err := unix.Ftruncate(fd, 1); err == nil {
		t.Error("the memory is made smaller")
	}
}
