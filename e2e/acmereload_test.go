package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// siteOf is a site of the app whose certificate comes from the CA.
func siteOf(host string) string { return strings.Replace(oneSite, "shop.test", host, 1) }

// reread has a service follow its file.
func (s *scene) reread(generation int) {
	s.t.Helper()
	out, code := s.shell("sallyport reload -c sallyport.toml")
	if code != 0 || !strings.HasPrefix(out, fmt.Sprintf("reloaded: generation %d, core", generation)) {
		s.t.Fatalf("reload: exit code %d, %s", code, out)
	}
}

// Names come and go with reloads: what stays keeps its certificate, under whichever handle it
// is now, what is new gets one, and a keeper that starts later has all of them.
func TestACMEReload(t *testing.T) {
	s, p, h := issuance(t, oneSite, nil)
	shop := p.certified(h, "shop.test", 2*patience)
	p.configure(siteOf("new.test") + oneSite)
	s.reread(2)
	if got := served(h, "shop.test"); got == nil || got.SerialNumber.Cmp(shop.SerialNumber) != 0 {
		t.Fatalf("shop.test has %v, want the certificate of before", got)
	}
	added := p.certified(h, "new.test", 2*patience)
	keeper := named(t, "sallyport-keeper")
	s.must(syscall.Kill(keeper.pid, syscall.SIGKILL))
	await(t, "another keeper", func() bool { return named(t, "sallyport-keeper").pid != keeper.pid })
	for name, want := range map[string]string{"shop.test": shop.SerialNumber.String(), "new.test": added.SerialNumber.String()} {
		if got := p.certified(h, name, patience); got.SerialNumber.String() != want {
			t.Errorf("%s has another certificate after the death of the keeper", name)
		}
	}
	p.configure(siteOf("new.test"))
	s.reread(3)
	await(t, "a status without shop.test", func() bool {
		out, code := s.shell("sallyport status -c sallyport.toml")
		return code == 0 && strings.Contains(out, "new.test") && !strings.Contains(out, "shop.test")
	})
	p.configure(oneSite)
	s.reread(4)
	if got := p.certified(h, "shop.test", patience); got.SerialNumber.Cmp(shop.SerialNumber) != 0 {
		t.Error("shop.test was ordered again, and its certificate is in the folder")
	}
	if got := len(h.find("certificate obtained", "host=shop.test")); got != 1 {
		t.Errorf("shop.test was obtained %d times, want once", got)
	}
}

// What the registrar was started with takes a restart, and so does the first name of all.
func TestACMEReloadRefuses(t *testing.T) {
	s, p, h := issuance(t, oneSite, nil)
	p.certified(h, "shop.test", 2*patience)
	refused := func(says, hint string) {
		t.Helper()
		out, code := s.shell("sallyport reload -c sallyport.toml")
		if code != 1 || !strings.Contains(out, says) || !strings.Contains(out, hint) {
			t.Errorf("exit code %d, %s\nwant %s", code, out, says)
		}
	}
	p.tls = `, email = "ops@example.com"`
	p.configure(oneSite)
	refused(`sallyport.toml:3: tls.email: is "ops@example.com", and the registrar was started with ""`, "it needs a restart")
	p.tls = ""
	p.configure(oneSite)
	text := s.read("sallyport.toml")
	s.write("sallyport.toml", strings.Replace(text, `http = ["127.0.0.1:`+p.http+`"]`, "http = []", 1))
	refused("sallyport.toml:2: listen: leaves no listener for a challenge", "it needs a restart")
	p.configure(oneSite)
	s.reread(2)
}

// A service that was started without a CA gets none by a reload.
func TestACMEReloadFirst(t *testing.T) {
	internal := strings.Replace(oneSite, "app =", "tls = \"internal\"\napp =", 1)
	s, p, _ := issuance(t, internal, nil)
	p.configure(oneSite)
	out, code := s.shell("sallyport reload -c sallyport.toml")
	if code != 1 || !strings.Contains(out, "site.tls: is the first certificate from a CA") || !strings.Contains(out, "sallyport.toml:4: ") {
		t.Errorf("exit code %d, %s", code, out)
	}
}
