package conf

import "testing"

func TestOneID(t *testing.T) {
	for text, want := range map[string]bool{
		"         0      65534          1\n":                 true,
		"      1000       1000          1\n":                 true,
		"         0          0          1\n":                 false, // root itself
		"         0          0 4294967295\n":                 false, // no namespace
		"         0       1000          1\n1 100000 65536\n": false, // rootless podman
		"         0     100000      65536\n":                 false,
		"":                                                   false,
		"0 -1 1":                                             false,
		"0 99999999999999999999999999 1":                     false,
		"0 1000 1 0":                                         false,
		"0 1000\n":                                           false,
		"         0 4294967295          1":                   true, // who has no number here: nobody's root
	} {
		if got := oneID([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
