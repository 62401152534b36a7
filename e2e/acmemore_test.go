package e2e

import (
	"crypto/tls"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A state that does not outlive the machine is refused where a public CA counts, unless it is
// asked for.
func TestACMEVolatileState(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("/dev/shm", "sallyport-state-")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: there is no file system in memory")
	}
	defer os.RemoveAll(dir)
	s := newScene(t)
	text := "listen = { http = [\"127.0.0.1:0\"], https = [\"127.0.0.1:0\"] }\nstate = \"" + dir + "/state\"\n"
	s.write("sallyport.toml", text+oneSite)
	out, code := s.shell("sallyport run -c sallyport.toml")
	if code != 1 || !strings.Contains(out, "state: is on memory (tmpfs)") || !strings.Contains(out, "volatile_state = true") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	s.write("sallyport.toml", "volatile_state = true\n"+text+oneSite)
	h := s.start()
	if len(h.find("state is volatile")) == 0 {
		t.Error("nothing is said")
	}
}

// An address has a certificate from a CA where it is asked for; beside it is a name that no CA
// would certify.
func TestACMEAddress(t *testing.T) {
	_, p, h := issuance(t, `[[site]]
host = ["shop.internal", "127.0.0.2"]
app = "unix:{dir}/app/app.sock"
[[site]]
host = ["127.0.0.1", "shop.test"]
tls = "acme"
app = "unix:{dir}/app/app.sock"
`, nil)
	p.certified(h, "shop.test", 2*patience)
	await(t, "both", func() bool { return len(h.find("certificate obtained")) == 2 })
	conn, err := tls.Dial("tcp", h.https, &tls.Config{RootCAs: p.roots()}) // by its address, without a name
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if leaf := served(h, "shop.internal"); leaf == nil || !strings.Contains(leaf.Issuer.CommonName, "internal CA") {
		t.Errorf("the internal name: %v", leaf)
	}
}

// A plain user has all of it: folders, registrar and certificate, with one uid for all.
func TestACMEPlainUser(t *testing.T) {
	s := newSceneFor(t, plainUser())
	p := newPebble(s)
	p.start()
	p.configure(oneSite)
	s.app("gunicorn-sync")
	h := s.start()
	p.certified(h, "shop.test", 2*patience)
	s.secret("state/certificates", 1)
}

// Clients of other makes: each kind of key, with both versions of TLS.
func TestInterop(t *testing.T) {
	s, h := threeKinds(t, "/usr/bin/openssl")
	for _, kind := range []string{"p256", "rsa", "ed25519"} {
		name := kind + ".test"
		for flag, version := range map[string]uint16{"-tls1_2": tls.VersionTLS12, "-tls1_3": tls.VersionTLS13} {
			openssl := exec.Command("/usr/bin/openssl", "s_client", "-connect", h.https, "-servername", name, "-verify_hostname", name,
				"-verify_return_error", "-CAfile", s.path("ca.pem"), flag)
			if out, err := openssl.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verify return code: 0 (ok)") {
				t.Errorf("openssl %s of %s: %v\n%s", flag, kind, err, out)
			}
			config := s.client(name)
			config.MinVersion, config.MaxVersion = version, version
			conn, err := tls.Dial("tcp", h.https, config)
			if err != nil {
				t.Errorf("Go, %x, of %s: %v", version, kind, err)
				continue
			}
			conn.Close()
			curl := map[uint16]string{tls.VersionTLS12: "--tls-max=1.2", tls.VersionTLS13: "--tlsv1.3"}[version]
			args := strings.Split(curl, "=")
			if body := s.answered(append(args, "https://"+name+"/hello")...); !strings.Contains(body, `"path": "/hello"`) {
				t.Errorf("curl %s of %s: %s", curl, kind, body)
			}
		}
		for _, weak := range []string{"-tls1_1", "-tls1"} {
			out, _ := exec.Command("/usr/bin/openssl", "s_client", "-connect", h.https, "-servername", name, "-cipher", "DEFAULT@SECLEVEL=0", weak).CombinedOutput()
			if !strings.Contains(string(out), "Cipher is (NONE)") {
				t.Errorf("%s of %s: %s", weak, kind, out)
			}
		}
	}
}
