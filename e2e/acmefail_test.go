package e2e

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// twoSites have one certificate from a file, and one from a CA.
const twoSites = `[[site]]
host = "files.test"
tls = { cert = "files.pem", key = "files.key" }
app = "unix:{dir}/app/app.sock"
` + oneSite

// refusedBy waits until an order has failed, and holds that its line says which name, what
// the CA said of which challenge, and when the next try is; and that another site goes on.
func (s *scene) refusedBy(h *house, facts map[string]string) {
	s.t.Helper()
	await(s.t, "an order that fails", func() bool { return len(h.find("certificate not obtained")) > 0 })
	l := h.find("certificate not obtained")[0]
	for name, part := range facts {
		if got := fact(l, name); !strings.Contains(got, part) || got == "" {
			s.t.Errorf("%s is %q, without %q: %s", name, got, part, l.text)
		}
	}
	if next, err := time.Parse(time.RFC3339, fact(l, "next")); err != nil || !next.After(time.Now().Add(-patience)) {
		s.t.Errorf("the next try is not said: %s", l.text)
	}
	if fact(l, "host") != "shop.test" {
		s.t.Errorf("another name: %s", l.text)
	}
	if served(h, "files.test") == nil {
		s.t.Error("a site that has a certificate does not go on")
	}
	if c, found := s.certificates()["shop.test"]; !found || c.Source != "acme" || c.Serial != "" || c.Error == "" || !c.Next.After(time.Now().Add(-patience)) {
		s.t.Errorf("status: %v, %+v", found, c)
	}
	if served(h, "shop.test") != nil {
		s.t.Error("a site without one serves another")
	}
}

// begun starts a house whose CA is at an address of the test's choice.
func begun(t *testing.T, set func(*pebble), beforehand func(*pebble)) (*scene, *pebble, *house) {
	t.Helper()
	s := newScene(t)
	s.certificate("files", p256(t), "files.test")
	p := newPebble(s)
	if set != nil {
		set(p)
	}
	p.configure(twoSites)
	beforehand(p)
	s.app("gunicorn-sync")
	return s, p, s.start()
}

// A CA that cannot be reached is asked again soon, and issues once it is there.
func TestACMEUnreachable(t *testing.T) {
	s, p, h := begun(t, nil, func(*pebble) {})
	s.refusedBy(h, map[string]string{"ca": "localhost:", "cause": "connection refused", "hint": "network, DNS and firewall", "attempts": "1"})
	p.start()
	p.certified(h, "shop.test", 4*patience)
}

// A CA whose name the registrar has to look up, at a name server that there is none of: what
// it takes to ask is in its jail.
func TestACMEUnresolved(t *testing.T) {
	s, _, h := begun(t, nil, func(p *pebble) {
		text := strings.Replace(twoSites, "[[site]]", "\n[[site]]", 1)
		p.s.write("sallyport.toml", "state = \"{dir}/state\"\nlisten = { http = [\"127.0.0.1:0\"], https = [\"127.0.0.1:0\"] }\n"+
			"tls = { ca = \"https://ca.sallyport.invalid/dir\" }\n"+text)
	})
	s.refusedBy(h, map[string]string{"cause": "lookup ca.sallyport.invalid", "hint": "network, DNS and firewall", "attempts": "1"})
}

// A CA whose server nobody certifies.
func TestACMEStranger(t *testing.T) {
	s, _, h := begun(t, nil, func(p *pebble) {
		p.start()
		other, err := NewAuthority()
		p.s.must(err)
		p.s.write("ca.pem", other.PEM)
	})
	s.refusedBy(h, map[string]string{"cause": "unknown authority", "hint": "ca_root"})
}

// The CA looks where nobody answers: by both ways, and the name leads elsewhere.
func TestACMEValidatesWrongly(t *testing.T) {
	s, _, h := begun(t, func(p *pebble) { p.wrongHTTP, p.wrongTLS = freePort(t), freePort(t) }, (*pebble).start)
	s.refusedBy(h, map[string]string{
		"challenge": "-01", "problem": "urn:ietf:params:acme:error:", "cause": "onnect", "hint": "of the name, from outside", "status": "4",
	})
}

// A name that leads nowhere.
func TestACMENameServerFails(t *testing.T) {
	s, _, h := begun(t, nil, func(p *pebble) {
		p.start()
		p.lead("shop.test", "")
	})
	s.refusedBy(h, map[string]string{"challenge": "-01", "problem": "urn:ietf:params:acme:error:", "status": "4"})
}

// What a CA says that refuses, or has enough, is what the operator reads.
func TestACMERefuses(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		status       int
		facts        map[string]string
	}{
		{
			"refuses", `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy forbids issuing for it"}`, 400,
			map[string]string{"problem": "rejectedIdentifier", "cause": "policy forbids", "hint": `tls = "internal"`, "status": "400"},
		},
		{
			"limits", `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates, retry after 2037-01-02 03:04:05 UTC"}`, 429,
			map[string]string{"problem": "rateLimited", "cause": "too many certificates", "hint": "wait", "status": "429"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			s.certificate("files", p256(t), "files.test")
			p := newPebble(s)
			p.configure(twoSites)
			p.front(c.status, c.answer)
			s.app("gunicorn-sync")
			h := s.start()
			s.refusedBy(h, c.facts)
			l := h.find("certificate not obtained")[0]
			next, err := time.Parse(time.RFC3339, fact(l, "next"))
			if err != nil {
				t.Fatal(err)
			}
			if wait := time.Until(next); c.status == 429 && wait < 24*time.Hour || c.status != 429 && wait > 2*time.Minute {
				t.Errorf("the next try is in %v", wait)
			}
		})
	}
}

// front is a CA that has a directory, nonces and accounts, and answers each order the same.
func (p *pebble) front(status int, answer string) {
	p.t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		base := "https://" + server.Listener.Addr().String()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Replay-Nonce", "n"+time.Now().Format("150405.000000000"))
		switch r.URL.Path {
		case "/dir":
			_, _ = io.WriteString(w, `{"newNonce":"`+base+`/nonce","newAccount":"`+base+`/account","newOrder":"`+base+`/order"}`)
		case "/nonce":
		case "/account":
			w.Header().Set("Location", base+"/account/1")
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"status":"valid"}`)
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, answer)
		}
	})
	p.s.certificate("front", p256(p.t), "127.0.0.1", "localhost")
	pair, err := tls.LoadX509KeyPair(p.s.path("front.pem"), p.s.path("front.key"))
	p.s.must(err)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	p.t.Cleanup(server.Close)
	p.address = server.Listener.Addr().String()
	p.configure(twoSites)
}
