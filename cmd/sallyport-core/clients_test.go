package main

import (
	"crypto/x509/pkix"
	"testing"
)

func TestPrintable(t *testing.T) {
	for name, want := range map[string]string{
		"alice":           "CN=alice",
		"a,b":             `CN=a\,b`,
		"Zoë":             `CN=Zo\c3\ab`,
		"x\r\nX-Admin: 1": `CN=x\0d\0aX-Admin: 1`,
		"\x7f":            `CN=\7f`,
	} {
		if got := string(printable(pkix.Name{CommonName: name}.String())); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
	if got := string(byteSequence([]byte{0xfb, 0xff})); got != ":+/8=:" {
		t.Errorf("got %s", got)
	}
}
