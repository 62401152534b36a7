package h2

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"sallyport/proxy/message"
)

// decoded is a field section as another decoder has it.
func decoded(t *testing.T, b []byte) (lines []string) {
	t.Helper()
	fields, err := hpack.NewDecoder(0, nil).DecodeFull(b)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	for _, f := range fields {
		lines = append(lines, f.Name+": "+f.Value)
	}
	return lines
}

func TestEncode(t *testing.T) {
	var f message.Fields
	want := []string{}
	for _, line := range []string{
		"Content-Type: text/html", "X-Long-" + strings.Repeat("Name-", 40) + ": v", "set-cookie: a", "Set-Cookie: b", "ETag: \"x\"", "Empty: ",
		"Access-Control-Allow-Origin: *", "Strict-Transport-Security: max-age=1", "V: " + strings.Repeat("v", 126), "W: " + strings.Repeat("w", 127),
		"X: " + strings.Repeat("x", 128), "Y: " + strings.Repeat("y", 70000), "Date: now", "Accept-Ranges: bytes", "WWW-Authenticate: Basic",
	} {
		name, value, _ := strings.Cut(line, ": ")
		f.Add(name, []byte(value))
		want = append(want, strings.ToLower(name)+": "+value)
	}
	if got := decoded(t, appendFields(nil, &f)); !slices.Equal(got, want) {
		t.Errorf("got %.2000q, want %.2000q", got, want)
	}
	for status := 100; status < 600; status++ {
		if got := decoded(t, appendStatus(nil, status)); len(got) != 1 || got[0] != ":status: "+string(statusText(status)) {
			t.Errorf("%d: %q", status, got)
		}
	}
}

// TestStaticIndexes holds the table against the one of another implementation.
func TestStaticIndexes(t *testing.T) {
	names := 0
	for i := 1; i <= 61; i++ {
		fields, err := hpack.NewDecoder(0, nil).DecodeFull([]byte{0x80 | byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		if index := staticIndex([]byte(fields[0].Name)); index != 0 {
			names++
			if index != i {
				t.Errorf("%s is %d, want %d", fields[0].Name, index, i)
			}
		}
	}
	if names != 24 {
		t.Errorf("%d names", names)
	}
}

// TestLongHead: a head that is longer than a frame may be goes on in others.
func TestLongHead(t *testing.T) {
	long := strings.Repeat("v", 50000)
	w := start(t, testLimits(), func(ex *message.Exchange) {
		resp := &message.Response{Status: 200}
		resp.Fields.Add("Date", []byte("d"))
		resp.Fields.Add("Long", []byte(long))
		if err := ex.Stream.Reply(resp); err != nil {
			t.Error(err)
		}
		if err := ex.Stream.Finish(nil); err != nil {
			t.Error(err)
		}
	})
	w.greet()
	w.say(w.head(1, flagEndStream, get()...))
	var section bytes.Buffer
	frames := 0
	for ended := false; !ended; frames++ {
		a := w.hearRaw()
		if want := [...]kind{kindHeaders, kindContinuation}[min(frames, 1)]; a.kind != want || a.length > frameBytesLeast {
			t.Fatalf("frame %d: %q", frames, a)
		}
		section.Write(a.payload)
		ended = a.has(flagEndHeaders)
	}
	fields, err := w.dec.DecodeFull(section.Bytes())
	if err != nil || frames != 4 || fields[len(fields)-2].Value != long {
		t.Errorf("%d frames, %d fields: %v", frames, len(fields), err)
	}
}
