package message

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestCheckFraming(t *testing.T) {
	for _, test := range []struct {
		lines []string
		minor int
		want  error
		how   Framing // where want is nil; Upgrade apart
		left  []string
	}{
		{lines: nil, minor: 1, how: Framing{Length: -1}},
		{lines: []string{"Content-Length: 0"}, minor: 1, how: Framing{}},
		{lines: []string{"CONTENT-LENGTH: 42", "A: b"}, minor: 0, how: Framing{Length: 42}, left: []string{"A: b"}},
		{lines: []string{"Content-Length: 999999999999999999"}, minor: 1, how: Framing{Length: 999999999999999999}},
		{lines: []string{"Content-Length: 1000000000000000000"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: 18446744073709551617"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length:"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: +5"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: -5"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: 5 5"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: 5,5"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: 0x5"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: 5_0"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: \uff15"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: 5.0"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: \v5"}, minor: 1, want: ErrLength},
		{lines: []string{"Content-Length: 5", "Content-Length: 5"}, minor: 1, want: ErrLengthTwice},
		{lines: []string{"Content-Length: 0", "content-length: 5"}, minor: 1, want: ErrLengthTwice},
		{lines: []string{"Transfer-Encoding: chunked"}, minor: 1, how: Framing{Length: -1, Chunked: true}},
		{lines: []string{"transfer-encoding: CHUNKED"}, minor: 1, how: Framing{Length: -1, Chunked: true}},
		{lines: []string{"Transfer-Encoding: chunked"}, minor: 0, want: ErrCodingVersion},
		{lines: []string{"Transfer-Encoding: chunked", "Transfer-Encoding: chunked"}, minor: 1, want: ErrCodingTwice},
		{lines: []string{"Transfer-Encoding: chunked", "Transfer-Encoding: identity"}, minor: 1, want: ErrCodingTwice},
		{lines: []string{"Transfer-Encoding: identity", "Transfer-Encoding: chunked"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding:"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: identity"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: gzip, chunked"}, minor: 1, want: ErrCoding},
		{lines: []string{"Transfer-Encoding: gzip,deflate , Chunked"}, minor: 1, want: ErrCoding},
		{lines: []string{"Transfer-Encoding: chunked, gzip"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: chunked, gzip, chunked"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: chunked, chunked"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: chunked,"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: ,chunked"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: xchunked"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: chunked;a=b"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: \"chunked\""}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: \vchunked"}, minor: 1, want: ErrCodingEnd},
		{lines: []string{"Transfer-Encoding: chun\u212aed"}, minor: 1, want: ErrCodingEnd}, // the Kelvin sign folds to k
		{lines: []string{"Transfer-Encoding: chunked", "Content-Length: 0"}, minor: 1, want: ErrLengthAndCoding},
		{lines: []string{"Content-Length: 5", "Transfer-Encoding: chunked"}, minor: 1, want: ErrLengthAndCoding},
		{lines: []string{"Expect: 100-Continue"}, minor: 1, how: Framing{Length: -1, Continue: true}},
		{lines: []string{"Expect: 100-continue, x"}, minor: 1, want: ErrExpect},
		{lines: []string{"Expect:"}, minor: 1, want: ErrExpect},
		{lines: []string{"Connection: close"}, minor: 1, how: Framing{Length: -1, Close: true}},
		{lines: []string{"Connection: a, CLOSE,"}, minor: 1, how: Framing{Length: -1, Close: true}},
		{lines: []string{"Connection: Keep-Alive"}, minor: 0, how: Framing{Length: -1, Keep: true}},
		{lines: []string{"Connection: keep-alive", "Connection: close"}, minor: 1, how: Framing{Length: -1, Keep: true, Close: true}},
		{lines: []string{"Connection: closed"}, minor: 1, how: Framing{Length: -1}},
		{lines: []string{"Connection: a b"}, minor: 1, want: ErrConnection},
		{lines: []string{"Connection: a;b"}, minor: 1, want: ErrConnection},
		{lines: []string{"Connection: host"}, minor: 1, want: ErrConnectionNames},
		{lines: []string{"Connection: close, Content-Length"}, minor: 1, want: ErrConnectionNames},
		{lines: []string{"Connection: transfer-encoding"}, minor: 1, want: ErrConnectionNames},
		{lines: []string{"Connection: X-Forwarded-For"}, minor: 1, want: ErrConnectionNames},
		{lines: []string{"Connection: close, x-real-ip"}, minor: 1, want: ErrConnectionNames},
		{lines: []string{"Connection: x-forwarded-whatever"}, minor: 1, want: ErrConnectionNames},
		{lines: []string{"Connection: via"}, minor: 1, want: ErrConnectionNames},
		{lines: []string{"Connection: connection"}, minor: 1, want: ErrConnectionNames},
		{
			lines: []string{"B: 1", "Connection: a,b", "A: 2", "C: 3", "a: 4", "TE: x", "Keep-Alive: 5", "Proxy-Connection: x", "Connection: c", "D: 6"},
			minor: 1, how: Framing{Length: -1}, left: []string{"D: 6"},
		},
	} {
		f := fieldsOf(test.lines...)
		how, err := CheckFraming(f, test.minor)
		if err != test.want {
			t.Errorf("%q: %v, want %v", test.lines, err, test.want)
		}
		if err != nil {
			continue
		}
		if how.Upgrade = nil; how.Length != test.how.Length || how.Chunked != test.how.Chunked || how.Close != test.how.Close ||
			how.Keep != test.how.Keep || how.Continue != test.how.Continue {
			t.Errorf("%q: %+v, want %+v", test.lines, how, test.how)
		}
		if got := linesOf(f); !slices.Equal(got, test.left) && len(got)+len(test.left) > 0 {
			t.Errorf("%q: left %q, want %q", test.lines, got, test.left)
		}
	}
}

func TestUpgradeNeedsItsOption(t *testing.T) {
	for want, lines := range map[string][]string{
		"websocket": {"Upgrade: websocket", "Connection: x, UPGRADE"},
		"":          {"Upgrade: websocket", "Connection: x"},
	} {
		if how, err := CheckFraming(fieldsOf(lines...), 1); err != nil || string(how.Upgrade) != want {
			t.Errorf("%q: %q %v", lines, how.Upgrade, err)
		}
	}
}

func TestCheckTrailer(t *testing.T) {
	for _, line := range []string{
		"Content-Length: 5", "transfer-encoding: chunked", "Host: x", "Connection: x", "Trailer: x", "TE: x", "Upgrade: x", "Expect: x",
		"X-Forwarded-For: x", "Forwarded: x", "X-Real-IP: x", "X-Request-Id: x", "Proxy: x", "X-Forwarded-Prefix: x", "Client-IP: x", "Via: x",
		"Max-Forwards: 1", "X-Sendfile-Type: x",
	} {
		if err := CheckTrailer(fieldsOf("A: b", line)); err != ErrTrailer {
			t.Errorf("%s: %v", line, err)
		}
	}
	if err := CheckTrailer(fieldsOf("Grpc-Status: 0", "Digest: x")); err != nil {
		t.Error(err)
	}
}

// TestTrailerOfNamed: what Connection names is taken out of the trailer too.
func TestTrailerOfNamed(t *testing.T) {
	head := fieldsOf("A: 1", "Connection: close, Foo", "connection: BAR,x", "Foo: 2")
	if _, err := CheckFraming(head, 1); err != nil {
		t.Fatal(err)
	}
	trailer := fieldsOf("foo: 1", "Bar: 2", "B: 3", "FOO: 4", "X: 5")
	trailer.RemoveNamed(head)
	if got := linesOf(trailer); !slices.Equal(got, []string{"B: 3"}) || !slices.Equal(linesOf(head), []string{"A: 1"}) {
		t.Errorf("%q behind %q", got, linesOf(head))
	}
	head.Reset()
	trailer = fieldsOf("foo: 1")
	if trailer.RemoveNamed(head); trailer.Len() != 1 {
		t.Error("names of an earlier head")
	}
}

func TestCheckMethod(t *testing.T) {
	for method, want := range map[string]error{
		"GET": nil, "POST": nil, "get": nil, "M-SEARCH": nil, "!": nil,
		"": ErrMethod, "G T": ErrMethod, "GET\t": ErrMethod, "G\x00": ErrMethod, "G\xc3\x89T": ErrMethod, "GET:": ErrMethod, "\"GET\"": ErrMethod, "\rGET": ErrMethod,
		"CONNECT": ErrMethodNotServed, "TRACE": ErrMethodNotServed,
	} {
		if err := CheckMethod([]byte(method)); err != want {
			t.Errorf("%q: %v, want %v", method, err, want)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for _, test := range []struct {
		method, target, authority, path string
		want                            error
	}{
		{"GET", "/", "", "/", nil},
		{"GET", "/a?b=c&d=%20", "", "/a?b=c&d=%20", nil},
		{"GET", "//evil.test/", "", "//evil.test/", nil},
		{"GET", "/http://evil.test/", "", "/http://evil.test/", nil},
		{"OPTIONS", "*", "", "*", nil},
		{"GET", "http://a", "a", "/", nil},
		{"GET", "http://a/", "a", "/", nil},
		{"GET", "HtTpS://a:1/b?c", "a:1", "/b?c", nil},
		{"OPTIONS", "http://a", "a", "*", nil},
		{"OPTIONS", "http://a/", "a", "/", nil},
		{"GET", "http://u@a/", "u@a", "/", nil}, // no Host can agree with it
		{"GET", "", "", "", ErrTarget},
		{"GET", "*", "", "", ErrTarget},
		{"OPTIONS", "**", "", "", ErrTarget},
		{"GET", "a", "", "", ErrTarget},
		{"GET", "a:80", "", "", ErrTarget},
		{"GET", "?a", "", "", ErrTarget},
		{"GET", "http://", "", "", ErrTarget},
		{"GET", "http:/a", "", "", ErrTarget},
		{"GET", "http://a?b", "", "", ErrTarget},
		{"GET", "ftp://a/", "", "", ErrTarget},
		{"GET", "/a#b", "", "", ErrTarget},
		{"GET", "/a b", "", "", ErrTarget},
		{"GET", "/a\tb", "", "", ErrTarget},
		{"GET", "/a\x00", "", "", ErrTarget},
		{"GET", "/a\x7f", "", "", ErrTarget},
		{"GET", "/\xc3\xa9", "", "", ErrTarget},
		{"GET", "/a\r", "", "", ErrTarget},
	} {
		authority, path, err := ParseTarget([]byte(test.method), []byte(test.target))
		if err != test.want || string(authority) != test.authority || string(path) != test.path {
			t.Errorf("%s %q: %q %q %v", test.method, test.target, authority, path, err)
		}
	}
}

func TestCheckAuthority(t *testing.T) {
	for _, good := range []string{
		"a", "example.com", "EXAMPLE.com.", "a_b.c-d", "a:1", "a:80", "a:65535", "127.0.0.1", "127.0.0.1:8080", "xn--e1afmkfd.test",
		"[::1]", "[::1]:80", "[2001:db8::1]", "[::ffff:1.2.3.4]:1", "0x7f.1", strings.Repeat("a", 253),
	} {
		if err := CheckAuthority([]byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", ":", ":80", "a:", "a:0", "a:65536", "a:080808", "a:abc", "a:-80", "a:+80", "a:80:80", "a: 80", "a :80", "a b", "a\tb", "a,b", "a/b", "a@b",
		"u:p@a", "a%20b", "a\x00", "a\r", "a\n", "a\x80", "\u00e9.test", "a..b", ".a", "-a", "a?b", "a#b", "a\\b", "\"a\"", "a;b", "a&b", "http://a",
		"[::1", "::1]", "::1", "[::1]evil.test", "[::1]:", "[::1]:abc", "[::1]80", "[]", "[]:80", "[:]", "[g::1]", "[::1%25eth0]", "[[::1]]", "[127.0.0.1]",
		"[" + strings.Repeat("1:", 30) + "]", "a:\uff18\uff10", strings.Repeat("a", 254),
	} {
		if err := CheckAuthority([]byte(bad)); err != ErrHost {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestCheckLine tries every byte in a name and in a value.
func TestCheckLine(t *testing.T) {
	for c := range 256 {
		b := byte(c)
		name := strings.IndexByte("-_.", b) >= 0 || '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
		if err := CheckLine([]byte{'a', b}, nil); (err == nil) != name || err != nil && err != ErrFieldName {
			t.Errorf("%q in a name: %v", b, err)
		}
		value := b == '\t' || b >= ' ' && b != 0x7f
		if err := CheckLine([]byte("a"), []byte{'x', b, 'y'}); (err == nil) != value || err != nil && err != ErrFieldValue {
			t.Errorf("%q in a value: %v", b, err)
		}
	}
	if err := CheckLine(nil, []byte("x")); err != ErrFieldName {
		t.Errorf("no name: %v", err)
	}
}

func TestScheme(t *testing.T) {
	for target, want := range map[string]error{
		"https://a.test/": ErrScheme, "hTTps://a.test": ErrScheme, "http://a.test/": nil, "/https://a.test/": nil, "*": nil, "": nil,
	} {
		if err := CheckScheme([]byte(target), false); err != want {
			t.Errorf("%q: %v, want %v", target, err, want)
		}
		if err := CheckScheme([]byte(target), true); err != nil {
			t.Errorf("%q over TLS: %v", target, err)
		}
	}
}

// TestEveryRefusalIsProduced holds the list of rules.go against the tables of the
// tests that produce refusals: here, in h1, in h2 and in the stories of package proxy.
func TestEveryRefusalIsProduced(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "rules.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, pattern := range []string{"*_test.go", "../h1/*_test.go", "../h2/*_test.go", "../*_test.go"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
	}
	names := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Err") {
			return true
		}
		names++
		name := spec.Names[0].Name
		cause := spec.Values[0].(*ast.UnaryExpr).X.(*ast.CompositeLit).Elts[1].(*ast.BasicLit).Value
		if !regexp.MustCompile(`\b`+name+`\b`).MatchString(tests.String()) && !strings.Contains(tests.String(), `"cause":`+cause) {
			t.Errorf("%s: no test produces it", name)
		}
		return true
	})
	if names < 30 {
		t.Errorf("found %d refusals", names)
	}
}

func FuzzAuthority(f *testing.F) {
	for _, seed := range []string{"a", "example.com:80", "[::1]:80", "[::1]evil", "a:80:80", "A.", "[::", ":"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if CheckAuthority(b) != nil {
			return
		}
		host, port, ok := SplitPort(b)
		joined := string(host)
		if port != nil {
			joined += ":" + string(port)
		}
		if !ok || joined != string(b) || len(host) == 0 || strings.ContainsAny(joined, " \t\r\n\x00/@,?#%") {
			t.Fatalf("%q is %q and %q", b, host, port)
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"/", "*", "http://a", "http://a/b?c", "https://", "a:80", "/\x00"} {
		f.Add("GET", seed)
		f.Add("OPTIONS", seed)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		authority, path, err := ParseTarget([]byte(method), []byte(target))
		if err != nil {
			return
		}
		if len(path) == 0 || path[0] != '/' && string(path) != "*" || strings.ContainsAny(string(path)+string(authority), " \r\n\t\x00#") {
			t.Fatalf("%s %q is %q and %q", method, target, authority, path)
		}
		if again, same, err := ParseTarget([]byte(method), path); err != nil || again != nil || string(same) != string(path) {
			t.Fatalf("%q again is %q and %q: %v", path, again, same, err)
		}
	})
}
