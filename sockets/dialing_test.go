package sockets

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDialing(t *testing.T) {
	for _, d := range []Dial{{0, 0}, {7, 2}, {TagHello - 1, 1}} {
		if got, err := ParseDial(d.Append(nil), 3); err != nil || got != d {
			t.Errorf("%+v became %+v, %v", d, got, err)
		}
	}
	for _, d := range []Dial{{0, 3}, {1, ^uint32(0)}, {TagHello, 0}} {
		if got, err := ParseDial(d.Append(nil), 3); err == nil {
			t.Errorf("%+v was taken for %+v", d, got)
		}
	}
	for _, d := range []Dialed{{1, 0}, {TagHello, 0}, {9, unix.ECONNREFUSED}} {
		if got, err := ParseDialed(d.Append(nil)); err != nil || got != d {
			t.Errorf("%+v became %+v, %v", d, got, err)
		}
	}
	for _, message := range []string{"", "1234567", "123456789", "\x00\x00\x00\x00\x00\x00\x10\x00"} {
		if got, err := ParseDialed([]byte(message)); err == nil {
			t.Errorf("%q was taken for %+v", message, got)
		}
		if got, err := ParseDial([]byte(message), 3); err == nil {
			t.Errorf("%q was taken for %+v", message, got)
		}
	}
}

// FuzzDialing: whatever is taken is what Append would have written.
func FuzzDialing(f *testing.F) {
	f.Add(Dial{1, 2}.Append(nil))
	f.Add(Dialed{TagHello, 0}.Append(nil))
	f.Add([]byte("dial 1 2"))
	f.Fuzz(func(t *testing.T, message []byte) {
		if d, err := ParseDial(message, 5); err == nil && (d.Member >= 5 || !bytes.Equal(d.Append(nil), message)) {
			t.Errorf("%q was taken for %+v", message, d)
		}
		if d, err := ParseDialed(message); err == nil && (d.Errno > errnoMost || !bytes.Equal(d.Append(nil), message)) {
			t.Errorf("%q was taken for %+v", message, d)
		}
	})
}
