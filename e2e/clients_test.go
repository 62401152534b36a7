package e2e

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// guarded has a site for those who are issued by staff.pem, one where they need not be, one
// for those who are issued by others.pem, and one for all.
const guarded = `listen = { http = ["127.0.0.1:0"], https = ["127.0.0.1:0"], advertise_port = 443 }
[tls]
min = "%s"
[[site]]
host = "staff.test"
tls = { cert = "site.pem", key = "site.key" }
clients = { ca = "staff.pem" }
hsts = "8760h"
hsts_subdomains = true
app = "unix:{dir}/app/app.sock"
[[site]]
host = "door.test"
tls = { cert = "site.pem", key = "site.key" }
clients = { ca = "staff.pem", mode = "optional" }
app = "unix:{dir}/app/app.sock"
[[site]]
host = "others.test"
tls = { cert = "site.pem", key = "site.key" }
clients = { ca = "others.pem" }
app = "unix:{dir}/app/app.sock"
[[site]]
host = "shop.test"
tls = { cert = "site.pem", key = "site.key" }
app = "unix:{dir}/app/app.sock"
`

// openssl runs it in the scene's folder.
func (s *scene) openssl(args ...string) {
	s.t.Helper()
	if out, err := s.as(exec.Command("/usr/bin/openssl", args...)).CombinedOutput(); err != nil {
		s.t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

// issuer makes NAME.pem and NAME.key, a CA of openssl's.
func (s *scene) issuer(name string) {
	s.t.Helper()
	s.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN="+name+" CA", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", name+".key", "-out", name+".pem")
}

// issued makes NAME.pem and NAME.key for a subject, issued by a CA of issuer; use is that of
// the certificate.
func (s *scene) issued(name, subject, by, use string) {
	s.t.Helper()
	s.write(name+".ext", "extendedKeyUsage="+use+"\n")
	s.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-utf8", "-subj", subject, "-keyout", name+".key", "-out", name+".csr")
	s.openssl("x509", "-req", "-in", name+".csr", "-CA", by+".pem", "-CAkey", by+".key", "-CAcreateserial", "-days", "1",
		"-extfile", name+".ext", "-out", name+".pem")
}

// guard starts a house of guarded, with what its clients have.
func guard(t *testing.T, min string) (*scene, *house) {
	t.Helper()
	needProgram(t, "/usr/bin/openssl")
	s := newScene(t)
	s.certificate("site", p256(t), "staff.test", "door.test", "others.test", "shop.test")
	for _, ca := range []string{"staff", "others"} {
		s.issuer(ca)
	}
	s.issued("alice", "/O=Shop, Inc/CN=Zoë\r\nX-Admin: yes", "staff", "clientAuth")
	s.issued("mallory", "/CN=alice", "others", "clientAuth")
	s.issued("server", "/CN=alice", "staff", "serverAuth")
	s.write("sallyport.toml", fmt.Sprintf(guarded, min))
	s.app("gunicorn-sync")
	return s, s.start()
}

// told is what an app was told of a client, by the names of its fields in lower case.
func told(t *testing.T, body string) map[string]string {
	t.Helper()
	var facts struct{ Fields map[string]string }
	if err := json.Unmarshal([]byte(body), &facts); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	found := map[string]string{}
	for key, value := range facts.Fields {
		if strings.Contains(key, "cert") || strings.Contains(key, "ssl") || key == "x-admin" {
			found[key] = value
		}
	}
	return found
}

// Certificates of clients, by curl, with both versions of TLS.
func TestClients(t *testing.T) {
	s, _ := guard(t, "1.2")
	text, err := os.ReadFile(s.path("alice.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	alice := map[string]string{
		"client-cert":           ":" + base64.StdEncoding.EncodeToString(block.Bytes) + ":",
		"x-client-cert-subject": `CN=Zo\c3\ab\0d\0aX-Admin: yes,O=Shop\, Inc`,
	}
	nobody := map[string]string{}
	lies := `-H "Client-Cert: :AAAA:" -H "client-cert-chain: :AAAA:" -H "X-Client-Cert-Subject: CN=root" ` +
		`-H "X-SSL-Client-Verify: SUCCESS" -H "ssl-client-subject-dn: CN=root" -H "X-Client-Cert: x"`
	for _, version := range []string{"--tls-max 1.2", "--tlsv1.3"} {
		for _, c := range []struct {
			who, host string
			want      map[string]string // nil: nobody is let in
		}{
			{"alice", "staff", alice},
			{"", "staff", nil},
			{"mallory", "staff", nil},
			{"server", "staff", nil},
			{"alice", "door", alice},
			{"", "door", nobody},
			{"mallory", "door", nil},
			{"mallory", "others", map[string]string{"x-client-cert-subject": "CN=alice"}},
			{"alice", "others", nil},
			{"alice", "shop", nobody},
		} {
			command := "curl " + version + " " + lies
			if c.who != "" {
				command += " --cert " + c.who + ".pem --key " + c.who + ".key"
			}
			out, code := s.shell(command + " https://" + c.host + ".test/")
			if c.want == nil {
				if code == 0 {
					t.Errorf("%s, %q at %s: is let in: %s", version, c.who, c.host, out)
				}
				continue
			}
			if code != 0 {
				t.Errorf("%s, %q at %s: %s", version, c.who, c.host, out)
				continue
			}
			got := told(t, out)
			if c.who == "mallory" {
				delete(got, "client-cert")
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%s, %q at %s: the app was told %v, want %v", version, c.who, c.host, got, c.want)
			}
		}
	}
}

// A connection is for the site that it was made for: no other site's Host, and no ticket, gets a
// client past a door.
func TestClientsOfOtherSites(t *testing.T) {
	s, h := guard(t, "1.2")
	ask := func(config *tls.Config, host string) (status int, resumed bool, err error) {
		conn, err := tls.Dial("tcp", h.https, config)
		if err != nil {
			return 0, false, err
		}
		client := http.Client{Transport: &http.Transport{DialTLSContext: onceDial(conn)}}
		defer client.CloseIdleConnections()
		resp, err := client.Get("https://" + host + "/")
		if err != nil {
			return 0, false, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, conn.ConnectionState().DidResume, err
	}
	alice, err := tls.LoadX509KeyPair(s.path("alice.pem"), s.path("alice.key"))
	s.must(err)
	as := func(name string, version uint16, certificates ...tls.Certificate) *tls.Config {
		config := s.client(name)
		config.MaxVersion, config.Certificates = version, certificates
		return config
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			config *tls.Config
			host   string
			want   int
		}{
			{as("shop.test", version), "shop.test", 200},
			{as("shop.test", version), "staff.test", 421},
			{as("shop.test", version), "door.test", 421},
			{as("door.test", version, alice), "staff.test", 421},
			{as("staff.test", version, alice), "others.test", 421},
			{as("staff.test", version, alice), "shop.test", 200},
			{as("staff.test", version, alice), "staff.test", 200},
		} {
			if got, _, err := ask(c.config, c.host); got != c.want || err != nil {
				t.Errorf("%x, a connection for %s, %s: %d, %v, want %d", version, c.config.ServerName, c.host, got, err, c.want)
			}
		}
		// A client that keeps sessions for one name, and offers them for all.
		cache := tls.NewLRUClientSessionCache(8)
		kept := as("staff.test", version, alice)
		kept.ClientSessionCache = oneSession{cache}
		for _, want := range []bool{false, true} {
			if status, resumed, err := ask(kept, "staff.test"); status != 200 || resumed != want || err != nil {
				t.Errorf("%x: %d, resumed %v, %v", version, status, resumed, err)
			}
		}
		for _, name := range []string{"others.test", "door.test", "shop.test"} {
			other := as(name, version)
			other.ClientSessionCache = oneSession{cache}
			if _, resumed, _ := ask(other, name); resumed {
				t.Errorf("%x: a session of staff.test is resumed at %s", version, name)
			}
		}
	}
}

// HSTS is said over TLS alone, in answers of apps and of our own; an app's own goes before.
func TestHSTS(t *testing.T) {
	s, h := guard(t, "1.2")
	const want = "strict-transport-security: max-age=31536000; includesubdomains"
	alice := "--cert alice.pem --key alice.key "
	for _, c := range []struct{ command, want string }{
		{alice + "https://staff.test/", want},
		{alice + `-H "Max-Forwards: 0" -X OPTIONS https://staff.test/`, want},
		{"http://staff.test/", ""},
		{"https://door.test/", ""},
	} {
		out, code := s.shell("curl -o /dev/null -D - " + c.command)
		got := ""
		for line := range strings.Lines(out) {
			if line = strings.ToLower(line); strings.HasPrefix(line, "strict-transport-security:") { // HTTP/2 has it so
				got += strings.TrimSpace(line)
			}
		}
		if got != c.want || code != 0 {
			t.Errorf("%s: got %q, want %q\n%s", c.command, got, c.want, out)
		}
	}
	if code := h.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// tls.min is the least that is spoken, for clients with certificates too.
func TestMinTLS(t *testing.T) {
	s, h := guard(t, "1.3")
	for _, host := range []string{"shop.test", "staff.test"} {
		out, _ := s.shell("openssl s_client -connect " + h.https + " -servername " + host + " -tls1_2 </dev/null")
		if !strings.Contains(out, "alert protocol version") {
			t.Errorf("TLS 1.2 for %s: %s", host, out)
		}
	}
	if out, code := s.shell("curl --tlsv1.3 https://shop.test/"); code != 0 {
		t.Error(out)
	}
}

// A CA file that cannot be used is a mistake of its line; a reload of another one is in
// force at once.
func TestClientsFiles(t *testing.T) {
	s, _ := guard(t, "1.2")
	reload := func(want string) {
		t.Helper()
		out, code := s.shell("sallyport reload -c sallyport.toml")
		if want == "" && code != 0 || want != "" && (code != 1 || !strings.Contains(out, want)) {
			t.Errorf("exit code %d, want %q: %s", code, want, out)
		}
	}
	s.must(os.Rename(s.path("staff.pem"), s.path("staff.old")))
	for text, want := range map[string]string{
		s.read("alice.pem"):             "sallyport.toml:7: site.clients.ca: {dir}/staff.pem: certificate 1, \"CN=Zo",
		"nothing":                       "sallyport.toml:7: site.clients.ca: {dir}/staff.pem: holds no certificate in PEM",
		"-----BEGIN CERTIFICATE-----\n": "holds no certificate in PEM",
	} {
		s.write("staff.pem", text)
		reload(strings.ReplaceAll(want, "{dir}", s.dir))
	}
	s.write("staff.pem", s.read("staff.old"))
	s.must(os.Chmod(s.path("staff.pem"), 0o666))
	reload("may be written by everybody (mode 0666)")
	s.must(os.Remove(s.path("staff.pem")))
	reload("site.clients.ca: " + s.path("staff.pem") + ": no such file or directory")
	const knock = "curl --cert mallory.pem --key mallory.key https://staff.test/"
	if out, code := s.shell(knock); code == 0 {
		t.Errorf("before the reload: %s", out)
	}
	s.write("staff.pem", s.read("others.pem"))
	reload("")
	await(t, "the other CA", func() bool { _, code := s.shell(knock); return code == 0 })
	if out, code := s.shell("curl --cert alice.pem --key alice.key https://staff.test/"); code == 0 {
		t.Errorf("after the reload: %s", out)
	}
}

// onceDial gives one connection, once.
func onceDial(conn net.Conn) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return conn, nil }
}

// oneSession keeps one session for all names.
type oneSession struct{ tls.ClientSessionCache }

// Get is tls.ClientSessionCache's.
func (o oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.ClientSessionCache.Get("") }

// Put is tls.ClientSessionCache's.
func (o oneSession) Put(_ string, session *tls.ClientSessionState) {
	o.ClientSessionCache.Put("", session)
}
