package proxy_test

import (
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/conf"
)

// shows is an app that replies with the head that it got.
func shows(a *appSide) {
	head, _, _ := a.request()
	a.say("HTTP/1.1 200 OK\r\n\r\n", head)
}

// asked says req and returns what the app got: its request line, and its fields
// by name, as net/http spells it.
func (c *clientSide) asked(req string) (line string, fields map[string][]string) {
	c.Helper()
	c.say(req)
	resp, head := c.reply("GET")
	if resp.StatusCode != 200 {
		c.fail("%v %q", resp, head)
	}
	line, rest, _ := strings.Cut(head, "\r\n")
	fields = map[string][]string{}
	for field := range strings.SplitSeq(strings.TrimSuffix(rest, "\r\n\r\n"), "\r\n") {
		key, value, _ := strings.Cut(field, ": ")
		key = http.CanonicalHeaderKey(key)
		fields[key] = append(fields[key], value)
	}
	return line, fields
}

func (c *clientSide) same(what string, got map[string][]string, want map[string]string) {
	c.Helper()
	for key, value := range want {
		if list := got[http.CanonicalHeaderKey(key)]; value == "" && list != nil || value != "" && !slices.Equal(list, []string{value}) {
			c.Errorf("%s: %s is %q, want %q; all: %q", what, key, list, value, got)
		}
	}
}

var (
	isUUID  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	isStart = regexp.MustCompile(`^t=[0-9]{13}$`)
)

// version is how Via names the protocol.
func (p protocol) version() string {
	if p.h3 {
		return "3"
	}
	if p.h2 {
		return "2"
	}
	return "1.1"
}

func TestForwardedSet(t *testing.T) {
	spoofed := get("X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 7.7.7.7", "X-Forwarded-Host: evil", "X-Forwarded-Port: 1",
		"X-Forwarded-Proto: gopher", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6", "X-Request-Id: mine", "X-Request-Start: t=1",
		"Proxy: evil", "X-Sendfile-Type: X-Accel-Redirect", "X-Accel-Mapping: a=b", "X_Forwarded_For: 6.6.6.6", "X.Real.IP: 6.6.6.6",
		"X-Forwarded-Prefix: /x", "X-Forwarded-Ssl: on", "X-Forwarded-Anything: x", "Client-IP: 6.6.6.6", "SCRIPT_NAME: /x")
	run(t, story{name: "of a stranger", app: shows, client: func(c *clientSide) {
		scheme, port := "http", "80"
		if c.secure {
			scheme, port = "https", "443"
		}
		for range 2 {
			line, got := c.asked(spoofed)
			if line != "GET / HTTP/1.1" || len(got) != 10 || !isUUID.MatchString(got["X-Request-Id"][0]) || !isStart.MatchString(got["X-Request-Start"][0]) {
				c.Errorf("%q %d %q", line, len(got), got)
			}
			c.same("stranger", got, map[string]string{
				"Host": "app.test", "Connection": "close", "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "X-Forwarded-Host": "app.test",
				"X-Forwarded-Port": port, "X-Forwarded-Proto": scheme, "Forwarded": "", "Via": c.version() + " sallyport",
			})
		}
	}})
	trust := func(plan *conf.Core) {
		plan.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	}
	run(t, story{name: "of a trusted proxy", app: shows, change: trust, client: func(c *clientSide) {
		_, got := c.asked(get("X-Forwarded-For: 6.6.6.6, 1.2.3.4", "X-Forwarded-For:10.0.0.7", "X-Forwarded-Host: shop.test", "X-Forwarded-Proto: https",
			"Forwarded: for=1.2.3.4", "X-Real-IP: 6.6.6.6", "X-Request-Id: abc-1_Z", "X-Request-Start: t=1234567890123"))
		c.same("walk", got, map[string]string{
			"X-Forwarded-For": "6.6.6.6, 1.2.3.4, 10.0.0.7, 127.0.0.1", "X-Real-IP": "1.2.3.4", "X-Forwarded-Host": "shop.test",
			"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443", "Forwarded": "for=1.2.3.4", "X-Request-Id": "abc-1_Z", "X-Request-Start": "t=1234567890123",
		})
		c.logged(`"client":"1.2.3.4"`, `"peer":"127.0.0.1:`, `"request_id":"abc-1_Z"`)
		for chain, client := range map[string]string{
			"":                             "127.0.0.1",
			"10.0.0.1":                     "10.0.0.1",
			"10.0.0.1,10.0.0.2":            "10.0.0.1",
			"nonsense":                     "127.0.0.1",
			"1.2.3.4, nonsense":            "127.0.0.1",
			"nonsense, 10.0.0.2":           "10.0.0.2",
			"2001:db8::1, ::ffff:10.0.0.3": "2001:db8::1",
			"1.2.3.4\t,  10.0.0.2 ,":       "127.0.0.1",
		} {
			_, got := c.asked(get("X-Forwarded-For: " + chain))
			c.same(chain, got, map[string]string{"X-Real-IP": client})
		}
		_, got = c.asked(get("X-Forwarded-Port: 8443", "X-Forwarded-Proto: HTTPS"))
		c.same("port", got, map[string]string{"X-Forwarded-Port": "8443", "X-Forwarded-Proto": map[bool]string{false: "http", true: "https"}[c.secure]})
		for _, id := range []string{"", "a b", "a;b", strings.Repeat("x", 129), "\xc3\xa9"} {
			if _, got := c.asked(get("X-Request-Id: " + id)); len(got["X-Request-Id"]) != 1 || !isUUID.MatchString(got["X-Request-Id"][0]) {
				c.Errorf("%q became %q", id, got["X-Request-Id"])
			}
		}
	}})
	run(t, story{name: "of a stranger on a unix socket", unix: true, app: shows, client: func(c *clientSide) {
		_, got := c.asked(spoofed)
		c.same("unix", got, map[string]string{"X-Forwarded-For": "", "X-Real-IP": "", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "app.test"})
	}})
	run(t, story{name: "of a trusted unix socket", unix: true, app: shows, change: func(plan *conf.Core) { trust(plan); plan.TrustUnix = true }, client: func(c *clientSide) {
		_, got := c.asked(get("X-Forwarded-For: 1.2.3.4, 10.0.0.7"))
		c.same("unix", got, map[string]string{"X-Forwarded-For": "1.2.3.4, 10.0.0.7", "X-Real-IP": "1.2.3.4"})
		_, got = c.asked(get())
		c.same("unix", got, map[string]string{"X-Forwarded-For": "", "X-Real-IP": ""})
	}})
	run(t, story{name: "ports", app: shows, client: func(c *clientSide) {
		_, got := c.asked("GET /a?b=c HTTP/1.1\r\nHost: APP.test:8080\r\n\r\n")
		c.same("port", got, map[string]string{"Host": "APP.test:8080", "X-Forwarded-Host": "APP.test:8080", "X-Forwarded-Port": "8080"})
	}})
}

func TestHopByHop(t *testing.T) {
	run(t, story{name: "request", app: shows, client: func(c *clientSide) {
		_, got := c.asked(get("Connection: keep-alive, Foo,,  bar\t", "Foo: 1", "BAR: 2", "foo: 3", "Keep-Alive: timeout=5", "Proxy-Connection: close",
			"TE: trailers", "Upgrade: websocket", "Connection: baz", "Baz: 4", "Close: 5", "Cookie: a", "Cookie: b"))
		c.same("request", got, map[string]string{
			"Connection": "close", "Foo": "", "BAR": "", "foo": "", "Keep-Alive": "", "Proxy-Connection": "", "TE": "", "Upgrade": "", "Baz": "", "Close": "5",
		})
		cookies := []string{"a", "b"}
		if c.h2 {
			cookies = []string{"a; b"} // as HTTP/1 has to have what HTTP/2 may have apart
		}
		if !slices.Equal(got["Cookie"], cookies) {
			c.Errorf("cookies: %q", got)
		}
	}})
	run(t, story{name: "reply", app: replies("HTTP/1.1 200 OK\r\nConnection: close, Foo\r\nFoo: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n" +
		"Upgrade: h2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX-Request-Id: other\r\nX_Y: z\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"), client: func(c *clientSide) {
		c.say(get("X-Request-Id: spoofed"), get())
		head := c.head()
		want := regexp.MustCompile(`^HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX_[Yy]: z\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n` +
			`X-Request-Id: [-0-9a-f]{36}\r\nContent-Length: 0\r\n\r\n$`)
		if !want.MatchString(head) {
			c.Errorf("head %q", head)
		}
		c.head()
	}})
}

func TestRouting(t *testing.T) {
	run(t, story{name: "targets", app: shows, client: func(c *clientSide) {
		for target, want := range map[string]string{
			"GET /": "GET / HTTP/1.1", "GET //a/../b%2f?c=/d?": "GET //a/../b%2f?c=/d? HTTP/1.1", "OPTIONS *": "OPTIONS * HTTP/1.1",
			"GET http://App.Test": "GET / HTTP/1.1", "GET HTTP://app.test/x?y": "GET /x?y HTTP/1.1", "OPTIONS http://app.test": "OPTIONS * HTTP/1.1",
		} {
			if line, _ := c.asked(request(target + " HTTP/1.1")); line != want {
				c.Errorf("%s became %q", target, line)
			}
		}
		for _, host := range []string{"APP.TEST", "app.test.", "app.test:1", "app.test.:65535"} {
			c.asked("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		}
	}})
	run(t, story{name: "no such site", client: func(c *clientSide) {
		for _, host := range []string{"other.test", "x.app.test", "127.0.0.1", "[::1]:80"} {
			c.say("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
			if resp, _ := c.reply("GET"); resp.StatusCode != 421 || resp.Close || resp.Header.Get("X-Request-Id") == "" {
				c.Errorf("%s: %v", host, resp)
			}
		}
		c.logged(`"status":421`, `"host":"other.test"`, `"cause":"no site for host"`)
	}})
	run(t, story{name: "patterns", app: shows, change: func(plan *conf.Core) {
		plan.Sites[0].Hosts = []string{"*.app.test", "[::1]"}
		plan.Sites[0].Routes = []conf.Route{{Path: "/live/*"}, {Path: "/exact"}}
	}, client: func(c *clientSide) {
		for _, test := range []struct {
			host, path string
			status     int
		}{
			{"a.app.test", "/live", 200},
			{"A.App.Test:80", "/live/x", 200},
			{"[::1]:80", "/live?x", 200},
			{"a.app.test", "/exact?x", 200},
			{"a.app.test", "/lively", 404},
			{"a.app.test", "/exact/", 404},
			{"a.app.test", "/", 404},
			{"a.b.app.test", "/live", 421},
			{"app.test", "/live", 421},
			{".app.test", "/live", 400},
		} {
			c := c.dial()
			c.say("GET " + test.path + " HTTP/1.1\r\nHost: " + test.host + "\r\n\r\n")
			if resp, _ := c.reply("GET"); resp.StatusCode != test.status {
				c.Errorf("%v: %v", test, resp)
			}
			c.Close()
		}
	}})
	redirect := func(plan *conf.Core) { plan.Sites[0].Redirect = true }
	run(t, story{name: "redirect", app: shows, change: redirect, client: func(c *clientSide) {
		if c.secure {
			c.asked(get())
			return
		}
		for line, location := range map[string]string{
			"GET /a?b=//c": "https://App.test/a?b=//c", "OPTIONS *": "https://App.test", "POST //evil.test/": "https://App.test//evil.test/",
		} {
			c.say(line + " HTTP/1.1\r\nHost: App.test:8080\r\n\r\n")
			if resp, _ := c.reply("GET"); resp.StatusCode != 308 || resp.Header.Get("Location") != location || resp.Close {
				c.Errorf("%s: %v", line, resp)
			}
		}
	}})
	run(t, story{name: "redirect to a port", app: shows, change: func(plan *conf.Core) { redirect(plan); plan.AdvertisePort = 8443 }, client: func(c *clientSide) {
		if c.secure {
			return
		}
		c.say(get())
		if resp, _ := c.reply("GET"); resp.Header.Get("Location") != "https://app.test:8443/" {
			c.Errorf("%v", resp)
		}
	}})
}

// TestMaxForwards: RFC 9110, section 7.6.2, for the one method of the two that is served.
func TestMaxForwards(t *testing.T) {
	options := func(fields ...string) string { return request("OPTIONS / HTTP/1.1", fields...) }
	run(t, story{name: "more", app: shows, client: func(c *clientSide) {
		_, got := c.asked(options("Max-Forwards: 10"))
		c.same("ten", got, map[string]string{"Max-Forwards": "9"})
		_, got = c.asked(get("Max-Forwards: 0", "Max-Forwards: x")) // a recipient may ignore it elsewhere
		c.same("GET", got, map[string]string{"Host": "app.test"})
	}})
	run(t, story{name: "none", client: func(c *clientSide) {
		c.say(options("Max-Forwards: 0"))
		c.want("OPTIONS", 200, "200 OK\n")
	}})
	for _, wrong := range []string{"Max-Forwards:", "Max-Forwards: -1", "Max-Forwards: 1, 2", "Max-Forwards: 1\r\nMax-Forwards: 1"} {
		run(t, story{name: wrong, client: func(c *clientSide) {
			c.say(options(wrong))
			if resp, _ := c.reply("OPTIONS"); resp.StatusCode != 400 {
				c.fail("%v", resp)
			}
			c.logged(`"cause":"max-forwards malformed"`)
		}})
	}
}

// TestPrefix: what a route takes off its path is what the app is told, whatever a client
// says; other routes of the same app are as they were.
func TestPrefix(t *testing.T) {
	routes := []conf.Route{
		{Path: "/live/*", Prefix: "/live"}, {Path: "/live/sub/*", Prefix: "/live"}, {Path: "/up", Prefix: "/up"}, {Path: "/*"},
	}
	run(t, story{
		name:   "prefix",
		change: func(plan *conf.Core) { plan.Sites[0].Routes = routes },
		app:    shows,
		client: func(c *clientSide) {
			for target, want := range map[string][2]string{
				"/live":          {"/", "/live"},
				"/live/":         {"/", "/live"},
				"/live?a=/live":  {"/?a=/live", "/live"},
				"/live/x/live":   {"/x/live", "/live"},
				"/live/sub/y?z":  {"/sub/y?z", "/live"},
				"/live//other":   {"//other", "/live"},
				"/up":            {"/", "/up"},
				"/up/":           {"/up/", ""},
				"/lives":         {"/lives", ""},
				"/%6cive/x":      {"/%6cive/x", ""},
				"/other/../live": {"/other/../live", ""},
			} {
				line, fields := c.asked(request("GET "+target+" HTTP/1.1", "X-Forwarded-Prefix: /evil", "SCRIPT_NAME: /evil"))
				if line != "GET "+want[0]+" HTTP/1.1" {
					c.Errorf("%s became %q", target, line)
				}
				c.same(target, fields, map[string]string{"X-Forwarded-Prefix": want[1], "SCRIPT_NAME": "", "Script-Name": ""})
			}
		},
	})
}
