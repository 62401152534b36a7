package e2e

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// keeperGroup is the group of the keeper of a house that root starts.
const keeperGroup = 60579

// put replaces NAME.pem and NAME.key by rename, the certificate first, as programs do that renew;
// the key may be read by who and its group.
func (s *scene) put(name, cert, key string, uid, gid int, mode os.FileMode) {
	s.t.Helper()
	for _, file := range []struct {
		name, text string
		mode       os.FileMode
	}{{name + ".pem", cert, 0o644}, {name + ".key", key, mode}} {
		next := s.path(file.name + ".next")
		s.must(os.WriteFile(next, []byte(file.text), file.mode))
		s.must(os.Chmod(next, file.mode))
		s.must(os.Chown(next, uid, gid))
		s.must(os.Rename(next, s.path(file.name)))
	}
}

// pair is a new certificate for shop.test, that begins to be valid and ends at times from now.
func (s *scene) pair(begins, ends time.Duration) (cert, key, serial string) {
	s.t.Helper()
	secret := p256(s.t)
	number := big.NewInt(time.Now().UnixNano())
	template := &x509.Certificate{
		SerialNumber: number, DNSNames: []string{"shop.test"},
		NotBefore: time.Now().Add(begins), NotAfter: time.Now().Add(ends),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca.Cert, secret.Public(), s.ca.key)
	s.must(err)
	text, err := x509.MarshalPKCS8PrivateKey(secret)
	s.must(err)
	return block("CERTIFICATE", der), block("PRIVATE KEY", text), number.String()
}

// TestRenewedFiles: a pair that another program renews is served by itself where the keeper
// may read it, also by the keeper's successor; what is wrong is said and the old one stays.
func TestRenewedFiles(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	cert, key, serial := s.pair(-time.Hour, time.Hour)
	s.put("shop", cert, key, 0, keeperGroup, 0o640)
	s.write("sallyport.toml", six)
	s.app("gunicorn-sync")
	h := s.start()
	serves := func() string {
		if leaf := served(h, "shop.test"); leaf != nil {
			return leaf.SerialNumber.String()
		}
		return "nothing"
	}
	if got := serves(); got != serial {
		t.Fatalf("serves %s, want %s", got, serial)
	}
	renew := func(how string, put func(cert, key string)) {
		t.Helper()
		var cert, key string
		cert, key, serial = s.pair(-time.Hour, time.Hour)
		put(cert, key)
		await(t, "the certificate that was renewed "+how, func() bool { return serves() == serial })
	}
	byRename := func(cert, key string) { s.put("shop", cert, key, 0, keeperGroup, 0o640) }
	inPlace := func(cert, key string) {
		for name, text := range map[string]string{"shop.pem": cert, "shop.key": key} {
			s.must(os.WriteFile(s.path(name), []byte(text), 0o600)) // the rights stay
		}
	}
	renew("by rename", byRename)
	renew("in place", inPlace)
	renew("by rename, once more", byRename)
	if out, code := s.shell("sallyport status -c sallyport.toml"); code != 0 || strings.Contains(out, "draining") {
		t.Errorf("exit code %d: %s", code, out)
	}

	refused := func(says string, put func()) {
		t.Helper()
		before := len(h.find("certificate not renewed"))
		put()
		await(t, "a refusal: "+says, func() bool { return len(h.find("certificate not renewed")) > before && h.says(says) })
		if got := serves(); got != serial {
			t.Errorf("%s: serves %s, want %s", says, got, serial)
		}
	}
	cert, key, _ = s.pair(-time.Hour, time.Hour)
	_, other, _ := s.pair(-time.Hour, time.Hour)
	refused("sallyport.toml:4: site.tls.key: "+s.path("shop.key")+": is not the key of the first certificate in", func() { byRename(cert, other) })
	old, oldKey, _ := s.pair(-2*time.Hour, -time.Hour)
	refused("sallyport.toml:4: site.tls.cert: "+s.path("shop.pem")+": has expired", func() { byRename(old, oldKey) })
	refused(s.path("shop.key")+": is a key and open to everybody (mode 0644)", func() { s.put("shop", cert, key, 0, keeperGroup, 0o644) })
	renew("after all these", byRename)

	keeper := named(t, "sallyport-keeper")
	s.must(syscall.Kill(keeper.pid, syscall.SIGKILL))
	await(t, "another keeper", func() bool { return named(t, "sallyport-keeper").pid != keeper.pid })
	if got := serves(); got != serial {
		t.Errorf("another keeper serves %s, want %s", got, serial)
	}

	cert, key, next := s.pair(-time.Hour, time.Hour)
	refused("sallyport reload, as root, opens it", func() { s.put("shop", cert, key, 0, 0, 0o600) })
	serial = next
	s.reread(2)
	await(t, "the certificate that was reloaded", func() bool { return serves() == serial }) // an old core may have one client more
	renew("after a reload", byRename)
}
