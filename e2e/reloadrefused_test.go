package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This file is reloads that are refused, and change nothing.

// expired writes a certificate of last year.
func (s *scene) expired(name string, key *ecdsa.PrivateKey) {
	s.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".test"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, 0, -1),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	s.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	s.must(err)
	s.write(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	s.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

// TestReloadRefuses shows that whatever is wrong with the file, or cannot be done by a
// reload, is said by file and line with its fix, and changes nothing.
func TestReloadRefuses(t *testing.T) {
	s, h := reloadable(t, "", "gunicorn-gthread")
	content, err := os.ReadFile(s.path("sallyport.toml"))
	s.must(err)
	text := string(content)
	core, first := named(t, "sallyport-core"), s.shown(h.https, "shop.test")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	defer taken.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	s.expired("old", key)
	s.certificate("other", p256(t), "shop.test")
	s.must(os.Chmod(s.path("other.key"), 0o644))
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path("file")})
	s.must(err)
	defer socket.Close()
	type change struct{ from, to, says, hint string }
	cases := map[string]change{
		"a typo":            {"redirect = false", "redirects = false", "sallyport.toml:7: site.redirects: ", "hint: "},
		"an expired pair":   {`"shop.pem", key = "shop.key"`, `"old.pem", key = "old.key"`, "sallyport.toml:6: site.tls.cert: {dir}/old.pem: has expired ", "renew it"},
		"another key":       {`key = "shop.key"`, `key = "old.key"`, "sallyport.toml:6: site.tls.key: {dir}/old.key: is not the key of ", "hint: "},
		"a loose key":       {`key = "shop.key"`, `key = "other.key"`, "sallyport.toml:6: site.tls.key: {dir}/other.key: is a key and open to everybody (mode 0644)", "chmod u=rw,g=,o= "},
		"no key":            {`key = "shop.key"`, `key = "none.key"`, "sallyport.toml:6: site.tls.key: {dir}/none.key: no such file", ""},
		"a port of another": {`http = ["127.0.0.1:0"]`, `http = ["` + taken.Addr().String() + `"]`, "sallyport.toml:3: listen.http: sockets: bind tcp " + taken.Addr().String() + ": address already in use", "ss -ltnp"},
		"our own port":      {`http = ["127.0.0.1:0"]`, `http = ["` + h.http + `"]`, "address already in use", "that needs a restart"},
		"the sandbox":       {"control = ", "sandbox = \"best-effort\"\ncontrol = ", "sallyport.toml:1: sandbox: is \"best-effort\"", "it needs a restart"},
		"the log":           {"control = ", "log.target = \"udp:127.0.0.1:514\"\ncontrol = ", "sallyport.toml:1: log.target: is \"udp:127.0.0.1:514\", and the service was started with \"stderr\"", "it needs a restart"},
		"the pid file":      {"control = ", "pid_file = \"pid\"\ncontrol = ", "sallyport.toml:1: pid_file: is ", "it needs a restart"},
		"the limit":         {"control = ", "max_open_files = 5000\ncontrol = ", "sallyport.toml:1: max_open_files: is 5000, and the service was started with 0", "it needs a restart"},
	}
	if os.Getuid() == 0 {
		cases["users"] = change{
			"control = ", "user = \"60591\"\nkeeper_user = \"60592\"\ncontrol = ",
			"sallyport.toml:2: keeper_user: is uid 60592", "it needs a restart",
		}
	}
	for name, c := range cases {
		if !strings.Contains(text, c.from) {
			t.Fatalf("%s: %q is not in the file", name, c.from)
		}
		s.write("sallyport.toml", strings.Replace(text, c.from, c.to, 1))
		out, code := s.shell("sallyport reload -c sallyport.toml --control control.sock")
		if code != 1 || !strings.Contains(out, strings.ReplaceAll(c.says, "{dir}", s.dir)) || !strings.Contains(out, c.hint) {
			t.Errorf("%s: exit code %d, %s", name, code, out)
		}
	}
	s.write("sallyport.toml", "sandbox = \"best-effort\"\ncontrol = \"other.sock\"\n"+without(t, text, "control = \"control.sock\"\n"))
	if out, _ := s.shell("sallyport reload --control control.sock -c sallyport.toml"); !strings.Contains(out, ":1: sandbox: ") || !strings.Contains(out, ":2: control: ") {
		t.Errorf("not in one go: %s", out)
	}
	s.write("sallyport.toml", text)
	if now := named(t, "sallyport-core"); now != core || s.shown(h.https, "shop.test").Cmp(first) != 0 {
		t.Errorf("%v serves, want %v", now, core)
	}
	s.follows(2)
	if out, code := s.shell("sallyport reload --control control.sock"); code != 0 || !strings.HasPrefix(out, "reloaded: generation 3") {
		t.Errorf("by its socket alone: %d, %s", code, out)
	}
}

// TestReloadByOthers shows that nobody else may reload: not even if the socket lets him
// in.
func TestReloadByOthers(t *testing.T) {
	needRoot(t)
	s, h := reloadable(t, "", "gunicorn-gthread")
	s.must(os.Chmod(s.path("sallyport.toml"), 0o644))
	for _, mode := range []os.FileMode{0o600, 0o666} {
		s.must(os.Chmod(s.path("control.sock"), mode))
		reload := s.as(exec.Command(bin("sallyport"), "reload", "-c", "sallyport.toml"))
		reload.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := reload.CombinedOutput()
		if err == nil || reload.ProcessState.ExitCode() != 1 || mode == 0o600 && !strings.Contains(string(out), "permission denied") {
			t.Errorf("mode %o: %v, %s", mode, err, out)
		}
	}
	h.wait(t, "order refused")
	if n := len(h.find("reloaded")); n > 0 {
		t.Errorf("%d reloads", n)
	}
}
