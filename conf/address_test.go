package conf

import (
	"strings"
	"testing"
)

// A reading is a text and what is to become of it: its normal form, or, after
// "hint: ", the hint of its fault.
type reading struct{ written, want string }

// read holds readings to a function.
func readAll(t *testing.T, parse func(string) (string, fault), readings []reading) {
	t.Helper()
	for _, r := range readings {
		got, f := parse(r.written)
		if !f.none() {
			got = "hint: " + f.hint
		}
		if got != r.want {
			t.Errorf("%q is %q, want %q", r.written, got, r.want)
		}
	}
}

func TestParseListen(t *testing.T) {
	const any = `hint: write ":80", "127.0.0.1:8080", "[::1]:8080", "unix:/run/x.sock" or "fd:NAME"; names are not looked up`
	readAll(t, parseListen, []reading{
		{":80", ":80"},
		{":0", ":0"},
		{"127.0.0.1:8080", "127.0.0.1:8080"},
		{"[0:0::1]:443", "[::1]:443"},
		{"fd:web", "fd:web"},
		{"unix:/run/x.sock", "unix:/run/x.sock"},
		{"unix:/run/../run/x.sock", "unix:/run/x.sock"},
		{"80", `hint: write ":80"`},
		{"*:80", `hint: write ":80"`},
		{"/run/x.sock", "hint: write unix:/run/x.sock"},
		{"unix:x.sock", "hint: write unix:/run/shop/x.sock"},
		{"fd:", `hint: write "fd:NAME" with a name of LISTEN_FDNAMES`},
		{"fd:a:b", `hint: write "fd:NAME" with a name of LISTEN_FDNAMES`},
		{"192.0.2.1", "hint: add a port"},
		{"[::1]", "hint: add a port"},
		{"localhost:80", any},
		{":http", any},
		{":65536", any},
		{"tcp://:80", any},
		{"", any},
	})
}

func TestParseSocket(t *testing.T) {
	const shop = "hint: apps answer on unix sockets only: write unix:/run/shop/web.sock"
	readAll(t, parseSocket, []reading{
		{"unix:/run/shop/web.sock", "/run/shop/web.sock"},
		{"unix:///run/shop/web.sock", "/run/shop/web.sock"},
		{"unix:/" + strings.Repeat("a", 106), "/" + strings.Repeat("a", 106)},
		{"unix:/" + strings.Repeat("a", 107), "hint: move the socket to a shorter path, as /run/shop/web.sock"},
		{"unix:tmp/web.sock", "hint: write unix:/run/shop/web.sock"},
		{"unix:", "hint: write unix:/run/shop/web.sock"},
		{"unix:../..", "hint: write unix:/run/shop/web.sock"},
		{"unix:@name", "hint: write unix:/run/shop/web.sock"},
		{"unix:/run/", "hint: write unix:/run/web.sock"},
		{"/run/web.sock", "hint: write unix:/run/web.sock"},
		{"web.sock", shop},
		{"127.0.0.1:3000", "hint: " + tcpHint},
		{"8000", "hint: " + tcpHint},
		{"http://app", "hint: " + tcpHint},
	})
}

func TestParseHost(t *testing.T) {
	const name = `hint: write a name, as "example.com", "*.example.com", "*" or an IP address`
	readAll(t, parseHost, []reading{
		{"example.com", "example.com"},
		{"Example.COM", "example.com"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"my_app", "my_app"},
		{"*", "*"},
		{"*.example.com", "*.example.com"},
		{"192.0.2.1", "192.0.2.1"},
		{"2001:DB8::1", "[2001:db8::1]"},
		{"[2001:db8:0:0::1]", "[2001:db8::1]"},
		{"bücher.example", "hint: write the name in punycode, as xn--bcher-kva.example"},
		{"example.com:443", `hint: write "example.com", and the port in [listen]`},
		{"https://example.com:1/a", `hint: write "example.com"`},
		{"example.com.", `hint: write "example.com"`},
		{"a.*.example", `hint: a * stands alone or for one label, the first: "*.example.com"`},
		{"*example.com", `hint: a * stands alone or for one label, the first: "*.example.com"`},
		{"1.2.3", "hint: a name that ends in a number is an IPv4 address, and this is none"},
		{"256.1.1.1", "hint: a name that ends in a number is an IPv4 address, and this is none"},
		{"[::1", `hint: write it as "[2001:db8::1]"`},
		{"[1.2.3.4]", `hint: write it as "[2001:db8::1]"`},
		{"fe80::1%eth0", `hint: write it as "[2001:db8::1]"`},
		{"a..b", name},
		{"-a.example", name},
		{"a-.example", name},
		{"a b", name},
		{"a/b", name},
		{strings.Repeat("a", 64) + ".example", name},
		{strings.Repeat("a.", 130) + "example", "hint: "},
	})
}

func TestIsInternal(t *testing.T) {
	for host, want := range map[string]bool{
		"example.com": false, "*.example.com": false, "shop.test": false, "mylocal": true, "my.locals": false,
		"*": true, "localhost": true, "192.0.2.1": true, "[::1]": true, "[::ffff:192.0.2.1]": true,
		"a.localhost": true, "*.local": true, "db.internal": true, "nas.home.arpa": true, "local.example": false,
	} {
		if got := isInternal(host); got != want {
			t.Errorf("isInternal(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestCheckRoutePath(t *testing.T) {
	check := func(path string) (string, fault) { return path, checkRoutePath(path) }
	readAll(t, check, []reading{
		{"/", "/"},
		{"/*", "/*"},
		{"/live", "/live"},
		{"/live/", "/live/"},
		{"/live/*", "/live/*"},
		{"/a%20b/~c", "/a%20b/~c"},
		{"", `hint: write "/"`},
		{"live/*", `hint: write "/live/*"`},
		{"/a?b", "hint: routes look at the path alone"},
		{"/a b", "hint: write it as %XX, as the client sends it"},
		{"/ü", "hint: write it as %XX, as the client sends it"},
		{"/a//b", `hint: write "/a/b"`},
		{"/a/./b", `hint: write "/a/b"`},
		{"/a/..", `hint: write "/"`},
		{"/a/*/b", `hint: write "/live/*" for /live and all below it`},
		{"/a*", `hint: write "/live/*" for /live and all below it`},
	})
}

func TestParseTrusted(t *testing.T) {
	parse := func(written string) (string, fault) {
		prefix, f := parseTrusted(written)
		return prefix.String(), f
	}
	readAll(t, parse, []reading{
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"192.0.2.7", "192.0.2.7/32"},
		{"::ffff:192.0.2.7", "192.0.2.7/32"},
		{"2001:db8::1", "2001:db8::1/128"},
		{"10.0.0.1/8", `hint: write "10.0.0.0/8"`},
		{"::ffff:10.0.0.0/104", "hint: write it as IPv4: peers are compared in that form"},
		{"private", `hint: write "10.0.0.0/8", an address, or "unix:"`},
	})
}

func TestNear(t *testing.T) {
	words := []string{"http", "https", "h3", "advertise_port"}
	for word, want := range map[string]string{
		"htps": "https", "htpt": "http", "advertise-port": "advertise_port", "advertiseport": "advertise_port",
		"h2": "", "x": "", "proxy": "",
	} {
		if got := near(word, words); got != want {
			t.Errorf("near(%q) = %q, want %q", word, got, want)
		}
	}
}
