package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// askQUIC asks for / of a host, on a connection over QUIC that is made with config.
func (s *scene) askQUIC(h *house, config *tls.Config, host string) (status int, resumed bool, body string, err error) {
	s.t.Helper()
	config = config.Clone()
	config.NextProtos = []string{"h3"}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, h.https, config, nil)
	if err != nil {
		return 0, false, "", err
	}
	defer conn.CloseWithError(0x100, "")
	resumed = conn.ConnectionState().TLS.DidResume
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	s.must(err)
	request.Header.Set("Client-Cert", ":AAAA:")
	resp, err := new(http3.Transport).NewClientConn(conn).RoundTrip(request)
	if err != nil {
		return 0, resumed, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resumed, string(text), err
}

// askTCP is askQUIC over TCP, which gets no further than an answer's first byte, behind which the
// tickets are.
func (s *scene) askTCP(h *house, config *tls.Config, host string) (resumed bool, err error) {
	s.t.Helper()
	conn, err := tls.Dial("tcp", h.https, config)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	resumed = conn.ConnectionState().DidResume
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return resumed, err
	}
	text, err := io.ReadAll(conn)
	if err == nil && !strings.HasPrefix(string(text), "HTTP/1.1 200") {
		err = io.ErrUnexpectedEOF
	}
	return resumed, err
}

// TestH3Doors: certificates of clients, over HTTP/3, as over TCP. No other site's name on the connection gets a
// client past a door, and no ticket, be it of TCP or of QUIC.
func TestH3Doors(t *testing.T) {
	s, h := guard(t, "1.2")
	pairs := map[string]tls.Certificate{}
	for _, who := range []string{"alice", "mallory", "server"} {
		pair, err := tls.LoadX509KeyPair(s.path(who+".pem"), s.path(who+".key"))
		s.must(err)
		pairs[who] = pair
	}
	as := func(who, name string, sessions tls.ClientSessionCache) *tls.Config {
		config := s.client(name)
		config.ClientSessionCache = sessions
		if pair, is := pairs[who]; is {
			// Whatever the server says that it wants.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return config
	}
	for _, c := range []struct {
		who, door, host string
		want            int // 0: no answer
		subject         string
	}{
		{"alice", "staff.test", "staff.test", 200, `CN=Zo\c3\ab\0d\0aX-Admin: yes,O=Shop\, Inc`},
		{"", "staff.test", "staff.test", 0, ""},
		{"mallory", "staff.test", "staff.test", 0, ""},
		{"server", "staff.test", "staff.test", 0, ""},
		{"alice", "door.test", "door.test", 200, `CN=Zo\c3\ab\0d\0aX-Admin: yes,O=Shop\, Inc`},
		{"", "door.test", "door.test", 200, ""},
		{"mallory", "door.test", "door.test", 0, ""},
		{"mallory", "others.test", "others.test", 200, "CN=alice"},
		{"alice", "others.test", "others.test", 0, ""},
		{"alice", "shop.test", "shop.test", 200, ""},
		{"", "shop.test", "staff.test", 421, ""},
		{"", "shop.test", "door.test", 421, ""},
		{"alice", "door.test", "staff.test", 421, ""},
		{"alice", "staff.test", "others.test", 421, ""},
		{"alice", "staff.test", "shop.test", 200, ""},
	} {
		status, _, body, err := s.askQUIC(h, as(c.who, c.door, nil), c.host)
		if status != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%q at %s asks for %s: %d, %v, want %d", c.who, c.door, c.host, status, err, c.want)
			continue
		}
		if status != 200 || c.door != c.host {
			continue
		}
		facts := told(t, body)
		if got := facts["x-client-cert-subject"]; got != c.subject || (facts["client-cert"] != "") != (c.subject != "") || facts["client-cert"] == ":AAAA:" {
			t.Errorf("%q at %s: the app was told %v, want %s", c.who, c.door, facts, c.subject)
		}
	}
	s.tickets(h, func(name string, cache tls.ClientSessionCache) *tls.Config {
		who := map[string]string{"staff.test": "alice"}[name]
		return as(who, name, cache)
	})
}

// tickets has a client offer those of one door at others. as has a certificate for staff.test alone.
func (s *scene) tickets(h *house, as func(name string, cache tls.ClientSessionCache) *tls.Config) {
	t := s.t
	quicly := func(name string, cache tls.ClientSessionCache) (resumed, answered bool) {
		status, resumed, _, _ := s.askQUIC(h, as(name, cache), name)
		return resumed, status == 200
	}
	tcply := func(name string, cache tls.ClientSessionCache) (resumed, answered bool) {
		resumed, err := s.askTCP(h, as(name, cache), name)
		return resumed, err == nil
	}
	ways := map[string]func(string, tls.ClientSessionCache) (bool, bool){"QUIC": quicly, "TCP": tcply}
	for from, first := range ways {
		for to, then := range ways {
			for _, name := range []string{"staff.test", "others.test", "door.test", "shop.test"} {
				cache := oneSession{tls.NewLRUClientSessionCache(8)}
				if _, answered := first("staff.test", cache); !answered {
					t.Fatalf("no answer of staff.test by %s", from)
				}
				resumed, answered := then(name, cache)
				switch same := name == "staff.test"; {
				case !same && resumed:
					t.Errorf("a session of staff.test, by %s, is resumed at %s by %s", from, name, to)
				case same && from == to && !resumed, same && !answered:
					t.Errorf("a session of %s, by %s, by %s: resumed %v, answered %v", name, from, to, resumed, answered)
				case name == "others.test" && answered:
					t.Errorf("nobody is let in at %s by %s", name, to)
				}
			}
			// The other way: who was nobody's guest has nothing that opens a door.
			for _, name := range []string{"shop.test", "door.test"} {
				cache := oneSession{tls.NewLRUClientSessionCache(8)}
				if _, answered := first(name, cache); !answered {
					t.Fatalf("no answer of %s by %s", name, from)
				}
				if resumed, _ := then("staff.test", cache); resumed {
					t.Errorf("a session of %s, by %s, is resumed at staff.test by %s", name, from, to)
				}
			}
		}
	}
}
