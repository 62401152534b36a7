package e2e

import (
	"strings"
	"testing"
)

// An account that the CA has given out elsewhere, and a profile of certificates.
func TestACMEAccountAndProfile(t *testing.T) {
	s := newScene(t)
	p := newPebble(s)
	p.more = map[string]any{
		"externalAccountBindingRequired": true,
		"externalAccountMACKeys":         map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"},
		"profiles": map[string]any{
			"default":    map[string]any{"description": "d", "validityPeriod": 7776000},
			"shortlived": map[string]any{"description": "s", "validityPeriod": 600},
		},
	}
	p.start()
	s.write("eab.key", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n")
	p.tls = `, profile = "shortlived", email = "ops@example.com", eab = { id = "kid-1", key = "eab.key" }`
	p.configure(oneSite)
	s.app("gunicorn-sync")
	h := s.start()
	leaf := p.certified(h, "shop.test", 2*patience)
	if life := leaf.NotAfter.Sub(leaf.NotBefore).Seconds(); life > 700 {
		t.Errorf("the certificate is of another profile: it lives %v s", life)
	}
	if !h.gone() && len(h.find("certificate not obtained")) > 0 {
		t.Errorf("refused first:\n%s", h.tail())
	}
}

// Where there is no address for plain HTTP, names are proved by TLS alone.
func TestACMEWithoutHTTP(t *testing.T) {
	s := newScene(t)
	p := newPebble(s)
	p.start()
	p.configure(oneSite)
	text := s.read("sallyport.toml")
	s.write("sallyport.toml", strings.Replace(text, `http = ["127.0.0.1:`+p.http+`"]`, "http = []", 1))
	s.app("gunicorn-sync")
	h := s.start()
	p.certified(h, "shop.test", 2*patience)
	if p.said("http-01 challenge") > 0 && p.said("set VALID by completed challenge") == 0 || h.http != "" {
		t.Error("the other challenge was tried")
	}
}

// After a failure the CA for tests comes first, so that the one that counts is spared.
func TestACMETestsFirst(t *testing.T) {
	s := newScene(t)
	p, staging := newPebble(s), newPebble(s)
	staging.http, staging.https = p.http, p.https
	staging.start()
	p.tls = `, test_ca = "https://` + strings.Replace(staging.address, "127.0.0.1", "localhost", 1) + `/dir"`
	p.configure(oneSite)
	s.app("gunicorn-sync")
	h := s.start()
	await(t, "a failure", func() bool { return len(h.find("certificate not obtained")) > 0 })
	if staging.said("Issued certificate") > 0 {
		t.Error("the CA for tests was asked before there was a failure")
	}
	if !until(2*patience, func() bool { return staging.said("Issued certificate") > 0 }) {
		t.Fatalf("the CA for tests was not asked:\n%s", h.tail())
	}
	p.start()
	p.certified(h, "shop.test", 6*patience)
}
