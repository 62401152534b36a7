package sockets

import "testing"

func TestAdoption(t *testing.T) {
	for _, want := range []Adoption{{}, {Row: 17}, {Row: RowsMax - 1, Suspect: true}} {
		message := want.Append(nil)
		if got, err := ParseAdoption(message); got != want || err != nil {
			t.Errorf("%q: %v, %v", message, got, err)
		}
		if len(message) > AdoptionBytesMax || !IsAdoption(message) {
			t.Errorf("%q: %d bytes", message, len(message))
		}
	}
	for _, message := range []string{"", "stop", "adopt", "adopt ", "adopt -1", "adopt +1", "adopt 01", "adopt 1024", "adopt 1 ", "adopt  1", "adopt 1 suspect suspect", "17"} {
		if got, err := ParseAdoption([]byte(message)); err == nil {
			t.Errorf("%q: %v", message, got)
		}
	}
}

// FuzzParseAdoption: what is taken is what Append writes.
func FuzzParseAdoption(f *testing.F) {
	f.Add([]byte("adopt 17 suspect"))
	f.Fuzz(func(t *testing.T, message []byte) {
		a, err := ParseAdoption(message)
		if err == nil && string(a.Append(nil)) != string(message) {
			t.Errorf("%q is %+v", message, a)
		}
	})
}
