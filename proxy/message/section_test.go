package message

import (
	"strings"
	"testing"
)

var wide = Bounds{HeadBytes: 1000, LineBytes: 500, Fields: 4}

// opened takes a head, whose fields are "name: value", and returns the request.
func opened(end bool, fields ...string) (*Request, *Opening, *Refusal) {
	req, s, o := &Request{Secure: true}, new(Section), new(Opening)
	s.Begin(&req.Fields, wide)
	for _, f := range fields {
		at := strings.Index(f[1:], ": ") + 1
		if !s.Add(f[:at], f[at+2:]) {
			break
		}
	}
	return req, o, o.Take(req, s, end)
}

const plain = ":method: GET|:scheme: https|:authority: Shop.test|:path: /x"

// TestOpening: what breaks a rule is refused by its name.
func TestOpening(t *testing.T) {
	for text, want := range map[string]*Refusal{
		plain:                                     nil,
		plain + "|cookie: a|cookie: b":            nil,
		plain + "|te: trailers":                   nil,
		plain + "|te: gzip":                       ErrConnectionField,
		plain + "|connection: close":              ErrConnectionField,
		plain + "|Upper: x":                       ErrUpperCase,
		plain + "|x:  y":                          ErrFieldValue,
		plain + "|x: y|:path: /":                  ErrPseudo,
		plain + "|:path: /":                       ErrPseudo,
		plain + "|:status: 200":                   ErrPseudo,
		plain + "|host: other.test":               ErrHostDisagrees,
		plain + "|host: shop.test":                nil,
		plain + "|content-length: x":              ErrLength,
		plain + "|content-length: 5":              ErrLengthDisagrees,
		plain + "|content-length: 0":              nil,
		plain + "|a: 1|b: 2|c: 3|d: 4|e: 5":       ErrTooManyFields,
		plain + "|a: " + strings.Repeat("x", 501): ErrFieldTooLong,
		plain + "|a: " + strings.Repeat("x", 450) + "|b: " + strings.Repeat("x", 450) + "|c: " + strings.Repeat("x", 200): ErrHeadTooLong,
		":method: GET|:scheme: https|:authority: shop.test|:path: /" + strings.Repeat("x", 500):                           ErrRequestLineLong,
		":method: GET|:scheme: https|:path: /":                                          ErrHostMissing,
		":method: GET|:scheme: https|:authority: a b|:path: /":                          ErrHost,
		":method: GET|:scheme: https|:authority: shop.test|:path: http://x/":            ErrTarget,
		":method: GET|:scheme: ftp|:authority: shop.test|:path: /":                      ErrPseudo,
		":method: TRACE|:scheme: https|:authority: shop.test|:path: /":                  ErrMethodNotServed,
		":method: CONNECT|:authority: shop.test:443":                                    ErrMethodNotServed,
		":method: GET|:protocol: websocket|:scheme: https|:authority: a.test|:path: /":  ErrPseudo,
		":scheme: https|:authority: shop.test|:path: /":                                 ErrPseudo,
		":method: CONNECT|:protocol: h2c|:scheme: https|:authority: shop.test|:path: /": ErrPseudo,
	} {
		if _, _, refusal := opened(true, strings.Split(text, "|")...); refusal != want {
			t.Errorf("%.100q: %v, want %v", text, refusal, want)
		}
	}
}

// TestOpeningTaken: a request is what its fields say.
func TestOpeningTaken(t *testing.T) {
	req, o, refusal := opened(false, strings.Split(plain+"|cookie: a|cookie: b|expect: 100-continue", "|")...)
	cookie := ""
	for i := range req.Fields.Len() {
		if _, key, value := req.Fields.Line(i); string(key) == "cookie" {
			cookie += string(value) + "|"
		}
	}
	if refusal != nil || string(req.Method) != "GET" || string(req.Authority) != "shop.test" || string(req.Host) != "Shop.test" ||
		string(req.Target) != "/x" || req.Length != -1 || cookie != "a; b|" || !o.Expect || o.Connect {
		t.Errorf("%+v, %v, cookie %q", req, refusal, cookie)
	}
}

// TestOpeningConnect: a WebSocket has a key that only the right answer opens.
func TestOpeningConnect(t *testing.T) {
	req, o, refusal := opened(false, ":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: shop.test", ":path: /ws")
	if refusal != nil || string(req.Method) != "GET" || string(req.Upgrade) != "websocket" || !o.Connect {
		t.Fatalf("%+v, %v", req, refusal)
	}
	resp := &Response{Status: 101}
	if o.Accepts(resp) {
		t.Error("an answer without a key is taken")
	}
	resp.Fields.Add("Sec-WebSocket-Accept", []byte("nonsense"))
	if o.Accepts(resp) {
		t.Error("any key is taken")
	}
}

// FuzzSection: whatever fields come, nothing panics, no bound is passed, and what is not refused has a
// host, a target and a method.
func FuzzSection(f *testing.F) {
	f.Add(strings.ReplaceAll(plain, "|", "\n"), true)
	f.Add(":method: CONNECT\n:protocol: websocket\n:scheme: https\n:authority: a.test\n:path: /", false)
	f.Fuzz(func(t *testing.T, text string, end bool) {
		var fields []string
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if len(line) > 1 && strings.Contains(line[1:], ": ") {
				fields = append(fields, line)
			}
		}
		req, _, refusal := opened(end, fields...)
		if refusal == nil && (len(req.Method) == 0 || len(req.Target) == 0 || len(req.Authority) == 0) {
			t.Errorf("%q: %+v", text, req)
		}
		if req.Fields.Len() > wide.Fields+3 { // Host goes, Cookie and the key come
			t.Errorf("%d fields", req.Fields.Len())
		}
	})
}
