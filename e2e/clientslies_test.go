package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A connection that was made for one name carries requests for others, in each way that HTTP has
// to name a host: none of them gets past a door.
func TestClientsByOtherNames(t *testing.T) {
	s, h := guard(t, "1.2")
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: staff.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: STAFF.TEST\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: staff.test.\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: staff.test:443\r\n\r\n",
		"GET https://staff.test/ HTTP/1.1\r\nHost: shop.test\r\n\r\n",
		"GET https://STAFF.test./ HTTP/1.1\r\nHost: shop.test\r\n\r\n",
		"GET http://staff.test/ HTTP/1.1\r\nHost: shop.test\r\n\r\n",
		"GET / HTTP/1.0\r\nHost: staff.test\r\n\r\n",
	} {
		conn, err := tls.Dial("tcp", h.https, s.client("shop.test"))
		s.must(err)
		_, err = io.WriteString(conn, request)
		s.must(err)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || answer.StatusCode != http.StatusMisdirectedRequest && answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %v, %v", request, answer, err)
		}
		conn.Close()
	}
}

// HTTP/2, whose clients use one connection for all names of a certificate.
func TestClientsCoalesced(t *testing.T) {
	s, h := guard(t, "1.2")
	config := s.client("shop.test")
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", h.https, config)
	s.must(err)
	client := http.Client{Transport: &http.Transport{DialTLSContext: onceDial(conn), ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		host string
		want int
	}{{"shop.test", 200}, {"staff.test", 421}, {"STAFF.test", 421}, {"door.test", 421}, {"shop.test", 200}} {
		request, err := http.NewRequest(http.MethodGet, "https://shop.test/", nil)
		s.must(err)
		request.Host = c.host // :authority
		answer, err := client.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", c.host, err)
		}
		if answer.Body.Close(); answer.StatusCode != c.want || answer.ProtoMajor != 2 {
			t.Errorf("HTTP/2, %s: %s over %s, want %d", c.host, answer.Status, answer.Proto, c.want)
		}
	}
}

// Handshakes by which a client could come to another door than its requests: names in capitals, that
// of a CA's challenge, and renegotiation, in which TLS 1.2 could ask for a certificate later.
func TestClientsHandshakes(t *testing.T) {
	s, h := guard(t, "1.2")
	for _, name := range []string{"STAFF.test", "Staff.Test"} {
		config := s.client("staff.test")
		config.ServerName, config.InsecureSkipVerify = name, true
		if conn, err := tls.Dial("tcp", h.https, config); err == nil { // TLS 1.3: the alert comes with the first byte
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: staff.test\r\n\r\n")
			if got, err := io.ReadAll(conn); err == nil || len(got) > 0 {
				t.Errorf("%s is let in without a certificate: %q", name, got)
			}
			conn.Close()
		}
	}
	config := s.client("staff.test")
	config.NextProtos = []string{"acme-tls/1"}
	if conn, err := tls.Dial("tcp", h.https, config); err == nil {
		t.Errorf("negotiates %q", conn.ConnectionState().NegotiatedProtocol)
		conn.Close()
	}
	openssl := s.as(exec.Command("/usr/bin/timeout", "10", "openssl", "s_client", "-connect", h.https, "-servername", "shop.test", "-tls1_2"))
	stdin, err := openssl.StdinPipe() // stays open: openssl would leave
	s.must(err)
	_, err = io.WriteString(stdin, "R\n")
	s.must(err)
	out, _ := openssl.CombinedOutput() // it ends with the refusal
	if !strings.Contains(string(out), "RENEGOTIATING") || !strings.Contains(string(out), "alert unexpected message") {
		t.Errorf("renegotiation: %s", out)
	}
}

// An ancestor is a CA for clients, with whatever a template has.
func (s *scene) ancestor(name string, parent *x509.Certificate, by *ecdsa.PrivateKey, set func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.t.Helper()
	key, _ := p256(s.t).(*ecdsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if set != nil {
		set(template)
	}
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	s.must(err)
	made, err := x509.ParseCertificate(der)
	s.must(err)
	return made, key
}

// visitor is a client's certificate, with the chain that it sends.
func (s *scene) visitor(by *x509.Certificate, key *ecdsa.PrivateKey, set func(*x509.Certificate), sent ...*x509.Certificate) tls.Certificate {
	s.t.Helper()
	made, secret := s.ancestor("visitor", by, key, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = false, false, x509.KeyUsageDigitalSignature
		c.ExtKeyUsage, c.DNSNames = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []string{"visitor.good.test"}
		if set != nil {
			set(c)
		}
	})
	chain := [][]byte{made.Raw}
	for _, c := range sent {
		chain = append(chain, c.Raw)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: secret}
}

// Who has issued a client's certificate is in a file of several, which may be old, too new, or
// bound to some names; between them and the client there may be others, which the client sends.
func TestClientsIssuers(t *testing.T) {
	s := newScene(t)
	s.certificate("site", p256(t), "staff.test")
	good, goodKey := s.ancestor("good", nil, nil, nil)
	second, secondKey := s.ancestor("second", nil, nil, nil)
	old, oldKey := s.ancestor("old", nil, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	new, newKey := s.ancestor("new", nil, nil, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	bound, boundKey := s.ancestor("bound", nil, nil, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"good.test"}, true
	})
	middle, middleKey := s.ancestor("middle", good, goodKey, nil)
	late, lateKey := s.ancestor("late", good, goodKey, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	none, noneKey := s.ancestor("none", good, goodKey, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	own, ownKey := s.ancestor("good", nil, nil, nil) // of the same name
	file := ""
	for _, ca := range []*x509.Certificate{old, good, second, new, bound} {
		file += block("CERTIFICATE", ca.Raw)
	}
	s.write("staff.pem", file)
	s.write("sallyport.toml", `listen = { http = ["127.0.0.1:0"], https = ["127.0.0.1:0"], advertise_port = 443 }
[[site]]
host = "staff.test"
tls = { cert = "site.pem", key = "site.key" }
clients = { ca = "staff.pem" }
app = "unix:{dir}/app/app.sock"
`)
	s.app("gunicorn-sync")
	h := s.start()
	otherName := func(c *x509.Certificate) { c.DNSNames = []string{"visitor.bad.test"} }
	for _, c := range []struct {
		who  string
		cert tls.Certificate
		want bool
	}{
		{"of the second in the file", s.visitor(good, goodKey, nil), true},
		{"of the third", s.visitor(second, secondKey, nil), true},
		{"of one that has expired", s.visitor(old, oldKey, nil), false},
		{"of one that is not valid yet", s.visitor(new, newKey, nil), false},
		{"within the names of its issuer", s.visitor(bound, boundKey, nil), true},
		{"outside of them", s.visitor(bound, boundKey, otherName), false},
		{"of an intermediate one, sent", s.visitor(middle, middleKey, nil, middle), true},
		{"of an intermediate one, not sent", s.visitor(middle, middleKey, nil), false},
		{"of an intermediate one that has expired", s.visitor(late, lateKey, nil, late), false},
		{"of who is no CA", s.visitor(none, noneKey, nil, none), false},
		{"of one of the same name", s.visitor(own, ownKey, nil, own), false},
		{"expired", s.visitor(good, goodKey, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), false},
		{"not valid yet", s.visitor(good, goodKey, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), false},
		{"for servers", s.visitor(good, goodKey, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
		{"for nothing in particular", s.visitor(good, goodKey, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), true},
		{"larger than a field may be", s.visitor(good, goodKey, func(c *x509.Certificate) { c.Subject.Organization = []string{strings.Repeat("x", 4<<10)} }), false},
		{"the CA itself", tls.Certificate{Certificate: [][]byte{good.Raw}, PrivateKey: goodKey}, true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			err := s.visit(h, version, c.cert)
			if (err == nil) != c.want {
				t.Errorf("%s, %s: %v, want %v", tls.VersionName(version), c.who, err, c.want)
			}
		}
	}
	if out, code := s.shell("sallyport reload -c sallyport.toml"); code != 0 {
		t.Errorf("a file with one that has expired, and others: %s", out)
	}
	s.write("staff.pem", block("CERTIFICATE", old.Raw))
	if out, code := s.shell("sallyport reload -c sallyport.toml"); code == 0 || !strings.Contains(out, "has expired") {
		t.Errorf("a file with nothing else: exit code %d, %s", code, out)
	}
}

// visit asks as a client with a certificate.
func (s *scene) visit(h *house, version uint16, cert tls.Certificate) error {
	config := s.client("staff.test")
	config.MaxVersion = version
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil } // whatever is asked for
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: patience}
	request, err := http.NewRequest(http.MethodGet, "https://"+h.https+"/", nil)
	if err != nil {
		return err
	}
	request.Host = "staff.test"
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", answer.Status)
	}
	return nil
}

// A trusted proxy may say whose certificate it has seen, but not to a site that asks for them
// itself: there is no way in but by its door.
func TestClientsBehindProxies(t *testing.T) {
	s, h := guard(t, "1.2")
	if h.stop() != 0 {
		t.Error("the house did not end well")
	}
	s.write("sallyport.toml", "trusted_proxies = [\"127.0.0.0/8\"]\n"+s.read("sallyport.toml"))
	s.start()
	lie := `-H "X-Forwarded-Proto: https" -H "Client-Cert: :AAAA:" -H "X-Client-Cert-Subject: CN=root" -H "X-SSL-Client-Verify: SUCCESS" `
	for _, c := range []struct{ command, status, says string }{
		{"http://staff.test/", "421", ""},
		{"http://door.test/", "421", ""},
		{"https://door.test/", "200", ""},
		{"--cert alice.pem --key alice.key https://staff.test/", "200", `X-Admin: yes,O=Shop`},
		{"https://shop.test/", "200", "CN=root"},
		{"http://shop.test/", "200", "CN=root"},
	} {
		out, _ := s.shell(`curl -w '\n%{http_code}' ` + lie + c.command)
		if !strings.HasSuffix(out, "\n"+c.status) || !strings.Contains(out, c.says) || c.says != "CN=root" && strings.Contains(out, "CN=root") {
			t.Errorf("%s: got %s, want %s with %q", c.command, out, c.status, c.says)
		}
	}
}

// With who has issued them go the sessions of those who were let in.
func TestClientsSessionsEnd(t *testing.T) {
	s, h := guard(t, "1.2")
	alice, err := tls.LoadX509KeyPair(s.path("alice.pem"), s.path("alice.key"))
	s.must(err)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := s.client("staff.test")
		config.MaxVersion, config.Certificates, config.ClientSessionCache = version, []tls.Certificate{alice}, tls.NewLRUClientSessionCache(4)
		ask := func() (resumed bool, err error) {
			conn, err := tls.Dial("tcp", h.https, config)
			if err != nil {
				return false, err
			}
			defer conn.Close()
			if _, err = io.WriteString(conn, "GET / HTTP/1.0\r\nHost: staff.test\r\n\r\n"); err == nil {
				_, err = io.ReadAll(conn)
			}
			return conn.ConnectionState().DidResume, err
		}
		for _, want := range []bool{false, true} {
			if resumed, err := ask(); resumed != want || err != nil {
				t.Errorf("%s: resumed %v, %v", tls.VersionName(version), resumed, err)
			}
		}
		swap := func(from, who string) {
			s.must(os.WriteFile(s.path("staff.new"), []byte(s.read(from)), 0o644))
			s.must(os.Rename(s.path("staff.new"), s.path("staff.pem")))
			s.must(os.Chmod(s.path("staff.pem"), 0o644))
			await(t, "another issuer", func() bool {
				_, code := s.shell("curl --cert " + who + ".pem --key " + who + ".key https://staff.test/")
				return code == 0
			})
		}
		s.must(os.WriteFile(s.path("staff.old"), []byte(s.read("staff.pem")), 0o644))
		swap("others.pem", "mallory")
		if resumed, err := ask(); err == nil || resumed {
			t.Errorf("%s: with another issuer: resumed %v, %v", tls.VersionName(version), resumed, err)
		}
		swap("staff.old", "alice")
	}
}
