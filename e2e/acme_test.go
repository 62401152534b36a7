package e2e

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// oneSite is what an operator writes.
const oneSite = `[[site]]
host = "shop.test"
app = "unix:{dir}/app/app.sock"
`

// issuance starts a CA, an app and a house whose certificates come from that.
func issuance(t *testing.T, rest string, set func(*pebble)) (*scene, *pebble, *house) {
	t.Helper()
	s := newScene(t)
	p := newPebble(s)
	if set != nil {
		set(p)
	}
	p.start()
	p.configure(rest)
	s.app("gunicorn-sync")
	return s, p, s.start()
}

// The configuration of four lines is complete: a certificate is there within ten seconds,
// nonces that are bad notwithstanding.
func TestACMEObtains(t *testing.T) {
	s, p, h := issuance(t, oneSite, nil)
	began := time.Now()
	leaf := p.certified(h, "shop.test", patience)
	t.Logf("served %s after %v", leaf.SerialNumber.Text(16), time.Since(began))
	s.secret("state/certificates", 1)
	s.secret("state/account", 1)
	for _, l := range h.find("certificate obtained") {
		if fact(l, "host") != "shop.test" || fact(l, "serial") != leaf.SerialNumber.Text(16) {
			t.Errorf("the ledger says %s", l.text)
		}
	}
	out, code := s.shell("sallyport status -c sallyport.toml")
	if code != 0 || !strings.Contains(out, leaf.SerialNumber.Text(16)) || !strings.Contains(out, leaf.Issuer.CommonName) {
		t.Errorf("status: %d\n%s", code, out)
	}
	// A start with the same state asks the CA for nothing.
	if h.stop() != 0 {
		t.Error("the house did not end well")
	}
	again := s.start()
	if got := p.certified(again, "shop.test", patience); got.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
		t.Errorf("another certificate was obtained")
	}
}

// secret holds that a folder is its owner's alone, and so are its files, of which there are
// some.
func (s *scene) secret(name string, least int) {
	s.t.Helper()
	files := 0
	err := filepath.WalkDir(s.path(name), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			s.t.Errorf("%s has mode %v", path, info.Mode())
		}
		if !entry.IsDir() {
			files++
		}
		return nil
	})
	if err != nil || files < least {
		s.t.Errorf("%s: %d files, %v", name, files, err)
	}
}

func fact(l line, name string) string { return fmt.Sprint(l.facts[name]) }

// Each of the two ways is enough by itself, to obtain and to renew: the other port leads
// nowhere.
func TestACMEChallenges(t *testing.T) {
	for _, c := range []struct{ kind, other string }{{"http-01", "tls-alpn-01"}, {"tls-alpn-01", "http-01"}} {
		t.Run(c.kind, func(t *testing.T) {
			_, p, h := issuance(t, oneSite, func(p *pebble) {
				p.validity = 30
				if c.kind == "http-01" {
					p.wrongTLS = freePort(t)
				} else {
					p.wrongHTTP = freePort(t)
				}
			})
			first := p.certified(h, "shop.test", 2*patience)
			var next string
			if !until(4*patience, func() bool {
				if leaf := served(h, "shop.test"); leaf != nil {
					next = leaf.SerialNumber.Text(16)
				}
				return next != first.SerialNumber.Text(16)
			}) {
				t.Fatalf("not renewed:\n%s", h.tail())
			}
			if got := p.said("Authz: failed"); p.said("set VALID by completed challenge") == 0 {
				t.Errorf("nothing was validated, %d failed", got)
			}
			await(t, "a line of the renewal", func() bool { return len(h.find("certificate obtained", "renewed=true")) > 0 })
		})
	}
}

// Renewals while clients come and go, with two cores and a reload in between: nobody is
// turned away.
func TestACMERenewsUnderLoad(t *testing.T) {
	_, p, h := issuance(t, "workers = 2\n"+oneSite, func(p *pebble) { p.validity = 20 })
	p.certified(h, "shop.test", 2*patience)
	var failed, done atomic.Int64
	serials := sync.Map{}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", h.https, &tls.Config{ServerName: "shop.test", InsecureSkipVerify: true})
				if err != nil {
					failed.Add(1)
					t.Logf("handshake: %v", err)
					continue
				}
				serials.Store(conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), true)
				done.Add(1)
				conn.Close()
			}
		})
	}
	renewals := func() int { return len(h.find("certificate obtained", "renewed=true")) }
	leave := sync.OnceFunc(func() { close(stop); clients.Wait() })
	defer leave()
	if !until(4*patience, func() bool { return renewals() >= 1 }) {
		t.Fatalf("no renewal:\n%s", h.tail())
	}
	h.signal(syscall.SIGHUP)
	await(t, "the reload", func() bool { return len(h.find("reloaded")) > 0 })
	seen := renewals()
	if !until(4*patience, func() bool { return renewals() >= seen+2 }) {
		t.Errorf("no renewal after the reload:\n%s", h.tail())
	}
	leave()
	if said, err := os.ReadFile(p.log); err != nil || strings.Count(string(said), "is a replacement of") < 2 {
		t.Errorf("the CA was not told what was renewed: %v", err)
	}
	different := 0
	serials.Range(func(any, any) bool { different++; return true })
	t.Logf("%d handshakes, %d certificates", done.Load(), different)
	if failed.Load() > 0 || different < 3 {
		t.Errorf("%d of %d handshakes failed, %d certificates were seen", failed.Load(), done.Load(), different)
	}
}

// Whoever is killed in the middle of an order, it comes to its end.
func TestACMESurvivesDeaths(t *testing.T) {
	for _, victim := range []string{"keeper", "registrar", "core"} {
		t.Run(victim, func(t *testing.T) {
			_, p, h := issuance(t, oneSite, func(p *pebble) { p.env[0] = "PEBBLE_VA_SLEEPTIME=1" })
			await(t, "an order", func() bool { return p.said("Added order") > 0 })
			h.kill("sallyport-" + victim)
			if len(h.find("certificate obtained")) > 0 {
				t.Error("the order was over already")
			}
			p.certified(h, "shop.test", 3*patience)
		})
	}
}

// of are the processes of one program.
func of(program string) (found []process) {
	for _, p := range ours() {
		if p.name == program {
			found = append(found, p)
		}
	}
	return found
}

// kill kills all processes of a program, once.
func (h *house) kill(program string) {
	h.t.Helper()
	killed := 0
	for _, p := range of(program) {
		p.kill()
		killed++
	}
	if killed == 0 {
		h.t.Fatalf("no %s runs", program)
	}
}

// Killed at any moment, the keeper leaves whole pairs: every file that is there is one.
func TestACMEStorageSurvivesKills(t *testing.T) {
	hosts := make([]string, 30)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("%q", fmt.Sprintf("h%d.test", i))
	}
	rest := "[[site]]\nhost = [" + strings.Join(hosts, ", ") + "]\napp = \"unix:{dir}/app/app.sock\"\n"
	s, p, h := issuance(t, rest, func(p *pebble) { p.env = []string{"PEBBLE_VA_NOSLEEP=1"} })
	whole := func() int {
		found := 0
		files, err := filepath.Glob(s.path("state/certificates/certificates,*"))
		s.must(err)
		for _, file := range files {
			if strings.HasSuffix(file, ".new") {
				continue
			}
			text, err := os.ReadFile(file)
			if os.IsNotExist(err) {
				continue
			}
			s.must(err)
			if _, err := tls.X509KeyPair(text, text); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			found++
		}
		return found
	}
	for range 3 { // each one waits longer; the storage by itself has sixty in package keeper
		await(t, "a keeper", func() bool { return len(of("sallyport-keeper")) > 0 })
		obtained := len(h.find("certificate obtained"))
		until(6*patience, func() bool { return len(h.find("certificate obtained")) > obtained })
		h.kill("sallyport-keeper")
		whole()
	}
	if !until(6*patience, func() bool { return whole() == len(hosts) }) {
		t.Errorf("%d of %d pairs:\n%s", whole(), len(hosts), h.tail())
	}
	if bad := h.find("certificate not used"); len(bad) > 0 {
		t.Errorf("a broken pair: %s", bad[0].text)
	}
	p.certified(h, "h0.test", 3*patience)
}
