package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// spoofed are the fields by which apps and their servers go when they ask who the client
// is, how it came, and where they are. SCRIPT_NAME and PATH_INFO are what gunicorn takes
// from a proxy, and it trusts everybody on a unix socket.
func spoofed() []string {
	return []string{
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme",
		"X-Forwarded-Ssl", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-By", "X-Forwarded-User", "X-Real-IP", "Forwarded",
		"Client-IP", "X-Request-Id", "X-Request-Start", "X-Sendfile-Type", "X-Accel-Mapping", "Proxy",
		"Client-Cert", "Client-Cert-Chain", "X-Client-Cert", "X-Client-Cert-Subject", "X-SSL-Client-Verify", "X-SSL-Cert", "SSL-Client-Subject-DN",
		"SCRIPT_NAME", "PATH_INFO", "REMOTE_USER", "REMOTE_ADDR", "CONTENT_LENGTH", "HTTP_HOST",
	}
}

// spellings are the ways to write a name that some server reads as the same.
func spellings(name string) []string {
	all := []string{name, strings.ToLower(name), strings.ToUpper(name)}
	if strings.ContainsAny(name, "-_") {
		all = append(all, strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(strings.ToUpper(name), "-", "_"),
			strings.Replace(name, "-", "_", 1), strings.ReplaceAll(strings.ReplaceAll(name, "_", "."), "-", "."))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(s string) bool { return strings.Contains(name, "_") && !strings.ContainsAny(s, "_.") })
}

// A spoofer is somebody who is not a proxy of ours.
type spoofer struct {
	name  string
	dial  func() (net.Conn, error)
	peer  string // who it is; "" where nobody can tell
	proto string
}

// spoofingHouse starts a house in front of a recorder.
func (s *scene) spoofingHouse(name, head string, rest ...string) (*house, *recorder) {
	s.t.Helper()
	app := new(recorder)
	listener, err := app.listen(s.path(name + ".sock"))
	s.must(err)
	s.t.Cleanup(func() { listener.Close() })
	s.write("sallyport.toml", head+"[[site]]\nhost = \"shop.test\"\ntls = { cert = \"shop.pem\", key = \"shop.key\" }\nredirect = false\napp = \"unix:{dir}/"+name+".sock\"\n"+strings.Join(rest, ""))
	return s.start(), app
}

// TestSpoofing: nothing of what a stranger says of others reaches the app, under no
// spelling, in no place of a message, and whatever way it comes.
func TestSpoofing(t *testing.T) {
	t.Run("strangers", func(t *testing.T) {
		s := newScene(t)
		s.certificate("shop", p256(t), "shop.test")
		h, app := s.spoofingHouse("shop", "listen = { http = [\"127.0.0.1:0\", \"unix:{dir}/front.sock\"], https = [\"127.0.0.1:0\"] }\n")
		plain := func() (net.Conn, error) { return net.Dial("tcp", h.http) }
		secure := func() (net.Conn, error) { return tls.Dial("tcp", h.https, s.client("shop.test")) }
		unix := func() (net.Conn, error) { return net.Dial("unix", s.path("front.sock")) }
		s.spoof(t, spoofer{"plain", plain, "127.0.0.1", "http"}, app)
		s.spoof(t, spoofer{"TLS", secure, "127.0.0.1", "https"}, app)
		s.spoof(t, spoofer{"unix socket", unix, "", "http"}, app)
		if lines := h.find("request answered", "dropped=1"); len(lines) == 0 {
			t.Errorf("no line counts what was dropped:\n%s", h.tail())
		}
	})
	t.Run("strangers whose bodies are not buffered", func(t *testing.T) { // so that trailers come through
		s := newScene(t)
		s.certificate("shop", p256(t), "shop.test")
		h, app := s.spoofingHouse("shop", "listen = { http = [\"127.0.0.1:0\"], https = [\"127.0.0.1:0\"] }\n",
			"[[site.route]]\npath = \"/\"\napp = \"unix:{dir}/shop.sock\"\nbuffer = false\n")
		s.spoof(t, spoofer{"plain", func() (net.Conn, error) { return net.Dial("tcp", h.http) }, "127.0.0.1", "http"}, app)
	})
	t.Run("behind a balancer", func(t *testing.T) { // which says no more than who they are
		s := newScene(t)
		s.certificate("shop", p256(t), "shop.test")
		h, app := s.spoofingHouse("shop",
			"trusted_proxies = [\"127.0.0.0/8\"]\nlisten = { http = [\"127.0.0.1:0\"], https = [\"127.0.0.1:0\"], proxy_protocol = true }\n")
		introduced := func(header string) func() (net.Conn, error) {
			return func() (net.Conn, error) {
				conn, err := net.Dial("tcp", h.http)
				if err == nil {
					_, err = io.WriteString(conn, header)
				}
				return conn, err
			}
		}
		s.spoof(t, spoofer{"a client", introduced("PROXY TCP4 9.9.9.9 127.0.0.1 99 80\r\n"), "9.9.9.9", "http"}, app)
		s.spoof(t, spoofer{"nobody", introduced("PROXY UNKNOWN\r\n"), "127.0.0.1", "http"}, app)
	})
}

// spoof sends every field in every spelling and place, each in a request of its own.
func (s *scene) spoof(t *testing.T, from spoofer, app *recorder) {
	t.Run(from.name, func(t *testing.T) {
		conn, err := from.dial()
		s.must(err)
		defer func() { conn.Close() }()
		r := bufio.NewReader(conn)
		for _, name := range spoofed() {
			for _, spelling := range spellings(name) {
				for place, request := range map[string]string{
					"head":             "GET / HTTP/1.1\r\nHost: shop.test\r\n" + spelling + ": spoof\r\n\r\n",
					"head, two times":  "GET / HTTP/1.1\r\n" + spelling + ": spoof\r\nHost: shop.test\r\n" + spelling + ":spoof2\r\n\r\n",
					"head, and an IP":  "GET / HTTP/1.1\r\nHost: shop.test\r\n" + spelling + ": 6.6.6.6, 127.0.0.1\r\n\r\n",
					"named by another": "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: " + spelling + "\r\n" + spelling + ": spoof\r\n\r\n",
					"trailer":          "POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + spelling + ": spoof\r\n\r\n",
				} {
					log := app.begin(new(record))
					s.must(conn.SetDeadline(time.Now().Add(patience)))
					_, err := io.WriteString(conn, request)
					s.must(err)
					m := new(wireMessage)
					s.must(m.readHead(r))
					s.must(m.readBody(r, false))
					if status := statusOfLine(m.start); status != "200" {
						if status != "400" || place != "trailer" && place != "named by another" {
							t.Errorf("%s in %s: answer %q", spelling, place, m.start)
						}
						conn.Close()
						if conn, err = from.dial(); err != nil {
							t.Fatal(err)
						}
						r = bufio.NewReader(conn)
					}
					if err := from.unspoofed(log); err != nil {
						t.Errorf("%s in %s: %v", spelling, place, err)
					}
				}
			}
		}
	})
}

// unspoofed says what the app should not have got.
func (from spoofer) unspoofed(log *record) error {
	log.mu.Lock()
	defer log.mu.Unlock()
	for _, m := range log.messages {
		for _, field := range append(m.fields, m.trailer...) {
			if strings.Contains(field, "spoof") || strings.Contains(field, "6.6.6.6") {
				return fmt.Errorf("the app got %q", field)
			}
		}
		port := map[string]string{"http": "80", "https": "443"}[from.proto]
		for name, want := range map[string]string{
			"X-Forwarded-For": from.peer, "X-Real-IP": from.peer, "X-Forwarded-Proto": from.proto, "X-Forwarded-Host": "shop.test", "X-Forwarded-Port": port,
		} {
			got := m.all(name)
			if want == "" && got != nil || want != "" && !slices.Equal(got, []string{want}) {
				return fmt.Errorf("the app got %s %q, want %q", name, got, want)
			}
		}
	}
	return nil
}

// TestChains: the client is the first address from the right that is no proxy of ours,
// and what the proxies wrote is passed on with the last of them behind it.
func TestChains(t *testing.T) {
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test")
	h, app := s.spoofingHouse("shop",
		"trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\", \"fd00::/8\", \"unix:\"]\nlisten = { http = [\"127.0.0.1:0\", \"unix:{dir}/front.sock\"], https = [\"127.0.0.1:0\"] }\n")
	for _, network := range []string{"tcp", "unix"} {
		conn, err := net.Dial(network, map[string]string{"tcp": h.http, "unix": s.path("front.sock")}[network])
		s.must(err)
		defer conn.Close()
		r := bufio.NewReader(conn)
		for chain, client := range map[string]string{
			"1.2.3.4":                             "1.2.3.4",
			"6.6.6.6, 1.2.3.4":                    "1.2.3.4",
			"6.6.6.6, 1.2.3.4, 10.0.0.7":          "1.2.3.4",
			"6.6.6.6,1.2.3.4\t,10.0.0.7,10.0.0.8": "1.2.3.4",
			"10.0.0.1, 10.0.0.2":                  "10.0.0.1",
			"10.0.0.1, 2001:db8::1, fd00::1":      "2001:db8::1",
			"6.6.6.6, ::ffff:1.2.3.4":             "1.2.3.4",
			"6.6.6.6, garbage, 10.0.0.7":          "10.0.0.7", // who wrote what cannot be read
			"6.6.6.6, 1.2.3.4:80, 10.0.0.7":       "10.0.0.7",
		} {
			log := app.begin(new(record))
			s.must(conn.SetDeadline(time.Now().Add(patience)))
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: "+chain+"\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Prefix: /x\r\n\r\n")
			s.must(err)
			m := new(wireMessage)
			s.must(m.readHead(r))
			s.must(m.readBody(r, false))
			log.mu.Lock()
			got := log.messages[0]
			log.mu.Unlock()
			want := chain
			if network == "tcp" {
				want += ", 127.0.0.1"
			}
			if real, all := got.all("X-Real-IP"), got.all("X-Forwarded-For"); !slices.Equal(real, []string{client}) || !slices.Equal(all, []string{want}) || got.all("X-Forwarded-Prefix") != nil {
				t.Errorf("%s of %q: client %q, chain %q, want %q", network, chain, real, all, client)
			}
		}
	}
}
