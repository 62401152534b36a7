package message

import (
	"slices"
	"strings"
	"testing"
)

// fieldsOf is the Fields of lines like "Key: value".
func fieldsOf(lines ...string) *Fields {
	f := new(Fields)
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ":")
		f.Add(key, []byte(strings.TrimPrefix(value, " ")))
	}
	return f
}

func linesOf(f *Fields) []string {
	lines := []string{}
	for i := range f.Len() {
		_, key, value := f.Line(i)
		lines = append(lines, string(key)+": "+string(value))
	}
	return lines
}

func TestFields(t *testing.T) {
	f := fieldsOf("old: 1")
	held := f.Hold([]byte("Host: a\r\nX: b\r\nhOST: c\r\n\r\n"))
	f.Mark(0, 4, 6, 7)
	f.Mark(9, 10, 12, 13)
	f.Mark(15, 19, 21, 22)
	value, ok := f.Value(Host)
	if !ok || string(value) != "a" || f.Count(Host) != 2 || f.Len() != 3 {
		t.Errorf("%q %v %d", value, ok, f.Count(Host))
	}
	if _, ok := f.Value(Expect); ok {
		t.Error("a field that is not there")
	}
	f.Add("Y", value) // of the same buffer, which may move
	f.Add("Z", held[12:13])
	_, key, _ := f.Line(0)
	_ = append(key, "overrun"...) // must not reach the bytes behind
	if got := linesOf(f); !slices.Equal(got, []string{"Host: a", "X: b", "hOST: c", "Y: a", "Z: b"}) {
		t.Errorf("%q", got)
	}
	f.Remove(SetOf(Host, Expect))
	if got := linesOf(f); !slices.Equal(got, []string{"X: b", "Y: a", "Z: b"}) {
		t.Errorf("%q", got)
	}
	f.Reset()
	if f.Len() != 0 {
		t.Error("not empty")
	}
}

func TestRemoveUnclear(t *testing.T) {
	f := fieldsOf("A-B: 1", "A_B: 2", "a.b: 3", "_: 4", "C: _.")
	if n := f.RemoveUnclear(); n != 3 {
		t.Errorf("removed %d", n)
	}
	if got := linesOf(f); !slices.Equal(got, []string{"A-B: 1", "C: _."}) {
		t.Errorf("%q", got)
	}
}

func TestElements(t *testing.T) {
	for list, want := range map[string][]string{
		"":                    nil,
		",":                   nil,
		" \t,, ":              nil,
		"a":                   {"a"},
		"a,b":                 {"a", "b"},
		" a b ,\tc\t,,d e\t ": {"a b", "c", "d e"},
	} {
		var got []string
		for element := range Elements([]byte(list)) {
			got = append(got, string(element))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
	for element := range Elements([]byte("a, b")) {
		if string(element) == "b" {
			t.Error("break was not obeyed")
		}
		break
	}
}

// TestKnown holds the table of name.go against the spelling of each name.
func TestKnown(t *testing.T) {
	names := map[Name]string{
		Connection: "Connection", ContentLength: "Content-Length", ContentType: "Content-Type", Date: "Date", Expect: "Expect", Forwarded: "Forwarded", Host: "Host",
		KeepAlive: "Keep-Alive", ClientIP: "Client-IP", MaxForwards: "Max-Forwards", Via: "Via", XForwardedOther: "X-Forwarded-Server", Proxy: "Proxy", ProxyConnection: "Proxy-Connection", TE: "TE", Trailer: "Trailer",
		TransferEncoding: "Transfer-Encoding", Upgrade: "Upgrade", XAccelBuffering: "X-Accel-Buffering", XAccelMapping: "X-Accel-Mapping", XForwardedFor: "X-Forwarded-For",
		XForwardedHost: "X-Forwarded-Host", XForwardedPort: "X-Forwarded-Port", XForwardedProto: "X-Forwarded-Proto", XRealIP: "X-Real-IP",
		ClientCert: "Client-Cert", StrictTransportSecurity: "Strict-Transport-Security",
		XRequestID: "X-Request-Id", XRequestStart: "X-Request-Start", XSendfileType: "X-Sendfile-Type",
	}
	for name := Other + 1; name <= XSendfileType; name++ {
		key := names[name]
		if key == "" {
			t.Errorf("name %d is not in this table", name)
		}
		for _, spelling := range []string{key, strings.ToLower(key), strings.ToUpper(key)} {
			if got := known([]byte(spelling)); got != name {
				t.Errorf("%s is %d, want %d", spelling, got, name)
			}
		}
		for _, near := range []string{key + "x", key[1:], "q" + key[1:], strings.ReplaceAll(key, "-", "_") + "_", key[:len(key)-1] + "\xff"} {
			want := Other
			if strings.HasPrefix(strings.ToLower(near), "x-forwarded-") {
				want = XForwardedOther
			}
			if got := known([]byte(near)); got != want {
				t.Errorf("%q is %d", near, got)
			}
		}
	}
	for key, want := range map[string]Name{
		"Client-Cert-Chain": ClientCert, "X-Client-Cert": ClientCert, "X-Client-Cert-Subject": ClientCert, "X-Client-Verify": ClientCert, "X-Client-DN": ClientCert, "X-ARR-ClientCert": ClientCert,
		"X-SSL-Client-Verify": ClientCert, "x-ssl-client-s-dn": ClientCert, "SSL-CLIENT-VERIFY": ClientCert,
		"X-SSL": Other, "SSL-Client": Other, "X-Client-Name": Other, "abc-client-x": Other,
	} {
		if got := known([]byte(key)); got != want {
			t.Errorf("%s is %d, want %d", key, got, want)
		}
	}
}
