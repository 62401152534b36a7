package sockets

import (
	"math"
	"testing"
)

func TestAdoption(t *testing.T) {
	for _, want := range []Adoption{{Table: FirstTable}, {Row: 17, Table: 2}, {Row: RowsMax - 1, Table: math.MaxInt, Suspect: true}} {
		message := want.Append(nil)
		if got, err := ParseAdoption(message); got != want || err != nil {
			t.Errorf("%q: %v, %v", message, got, err)
		}
		if len(message) > AdoptionBytesMax || !IsAdoption(message) {
			t.Errorf("%q: %d bytes", message, len(message))
		}
	}
	for _, message := range []string{
		"", "stop", "adopt", "adopt ", "adopt 1", "adopt -1 1", "adopt +1 1", "adopt 01 1", "adopt 1024 1", "adopt 1 ", "adopt 1 1 ",
		"adopt  1 1", "adopt 1 0", "adopt 1 -1", "adopt 1 1 1", "adopt 1 1 suspect suspect", "17 1",
	} {
		if got, err := ParseAdoption([]byte(message)); err == nil {
			t.Errorf("%q: %v", message, got)
		}
	}
}

// FuzzParseAdoption: what is taken is what Append writes.
func FuzzParseAdoption(f *testing.F) {
	f.Add([]byte("adopt 17 2 suspect"))
	f.Fuzz(func(t *testing.T, message []byte) {
		a, err := ParseAdoption(message)
		if err == nil && string(a.Append(nil)) != string(message) {
			t.Errorf("%q is %+v", message, a)
		}
	})
}

func TestKeeping(t *testing.T) {
	for _, want := range []Keeping{{Table: FirstTable}, {Table: math.MaxInt, Forget: true}, {Table: math.MaxInt, Like: math.MaxInt}} {
		message := want.Append(nil)
		if got, err := ParseKeeping(message); got != want || err != nil {
			t.Errorf("%q: %v, %v", message, got, err)
		}
		if len(message) > AdoptionBytesMax || !IsKeeping(message) || IsAdoption(message) {
			t.Errorf("%q: %d bytes", message, len(message))
		}
	}
	for _, message := range []string{"", "keep", "keep ", "keep 0", "keep -1", "keep +1", "keep 01", "keep 1 ", "keep forget 1", "forget keep 1", "1", "keep 1 like", "keep 1 like 0", "keep 1 like -1", "forget 1 like 2"} {
		if got, err := ParseKeeping([]byte(message)); err == nil {
			t.Errorf("%q: %v", message, got)
		}
	}
}

// FuzzParseKeeping: what is taken is what Append writes.
func FuzzParseKeeping(f *testing.F) {
	f.Add([]byte("keep 17"))
	f.Add([]byte("forget 1"))
	f.Add([]byte("keep 3 like 2"))
	f.Fuzz(func(t *testing.T, message []byte) {
		k, err := ParseKeeping(message)
		if err == nil && string(k.Append(nil)) != string(message) {
			t.Errorf("%q is %+v", message, k)
		}
	})
}
