package h3

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/quic-go/qpack"

	"sallyport/proxy/message"
)

// TestVarint: integers come out as they went in, from every part of their range.
func TestVarint(t *testing.T) {
	for _, v := range []uint64{0, 1, 63, 64, 16383, 16384, 1<<30 - 1, 1 << 30, 1<<62 - 1} {
		b := appendVarint(nil, v)
		if got, n := parseVarint(b); got != v || n != len(b) {
			t.Errorf("%d: %d of %x", v, got, b)
		}
		if _, n := parseVarint(b[:len(b)-1]); n != 0 {
			t.Errorf("a part of %x is taken for all of it", b)
		}
	}
}

// TestSection: what is encoded is what a decoder of somebody else finds.
func TestSection(t *testing.T) {
	var f message.Fields
	want := []qpack.HeaderField{
		{Name: "content-type", Value: "text/plain"},
		{Name: "x-frame-options", Value: "deny"},
		{Name: "set-cookie", Value: "a=b"},
		{Name: "x-something-else", Value: ""},
		{Name: "access-control-allow-origin", Value: "*"},
		{Name: "x-a-name-that-is-longer-than-any-of-the-static-table", Value: string(bytes.Repeat([]byte("v"), 5000))},
	}
	for _, field := range want {
		f.Add(field.Name, []byte(field.Value))
	}
	for _, status := range []int{100, 103, 200, 201, 204, 206, 302, 304, 400, 403, 404, 418, 421, 425, 500, 502, 503} {
		b := endSection(appendFields(appendStatus(beginSection(make([]byte, sectionRoom)), status), &f), 0)
		kind, k := parseVarint(b)
		n, m := parseVarint(b[k:])
		if kind != kindHeaders || int(n) != len(b)-k-m {
			t.Fatalf("frame of kind %d, %d bytes of %d", kind, n, len(b)-k-m)
		}
		var got []qpack.HeaderField
		for next := qpack.NewDecoder().Decode(b[k+m:]); ; {
			field, err := next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, field)
		}
		digits := string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)})
		if got[0] != (qpack.HeaderField{Name: ":status", Value: digits}) || !slices.Equal(got[1:], want) {
			t.Errorf("%d: %v", status, got)
		}
	}
}

// TestLongSection: a section that two bytes cannot tell the length of has four.
func TestLongSection(t *testing.T) {
	section := bytes.Repeat([]byte("s"), 20000)
	b := endSection(append(make([]byte, sectionRoom), section...), 0)
	kind, k := parseVarint(b)
	n, m := parseVarint(b[k:])
	if kind != kindHeaders || n != 20000 || !bytes.Equal(b[k+m:], section) {
		t.Errorf("kind %d, %d bytes", kind, n)
	}
}
