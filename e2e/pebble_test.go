package e2e

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A pebble is a CA for tests, Let's Encrypt's own, with a name server that leads every
// name to this machine. It validates at the ports of a scene's house.
type pebble struct {
	t           *testing.T
	s           *scene
	address     string // of its API
	management  string
	dns         string // of the other one's management
	http, https string // ports of the house
	wrongHTTP   string // a port that the CA looks at instead of that of the house; "" for none
	wrongTLS    string // likewise
	cmd         *exec.Cmd
	log         string // path
	env         []string
	validity    int            // seconds, of the certificates
	more        map[string]any // of its configuration
	tls         string         // more of [tls] in that of the house
	client      *http.Client
}

// pebbleVersion is in e2e/prepare too, which fetches it.
const pebbleVersion = "v2.10.1"

// pebblePrograms builds both programs, once, from the module cache, and returns their folder.
var pebblePrograms = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.Getenv(binEnv), "pebble") // which goes with the tests
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(strings.TrimSpace(string(cache)), "github.com/letsencrypt/pebble/v2@"+pebbleVersion)
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/pebble", "./cmd/pebble-challtestsrv")
	build.Dir, build.Env = source, append(os.Environ(), "GOFLAGS=-mod=readonly", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: sh e2e/prepare fetches pebble\n%s", err, out)
	}
	return dir, nil
})

// lastPort is the last that freePort has tried. They are below those that the kernel draws
// (ip_local_port_range), for a connection or a listener of somebody else.
var lastPort = sync.OnceValue(func() *atomic.Int32 {
	var last atomic.Int32
	last.Store(20_000 + rand.Int32N(10_000))
	return &last
})

// freePort is a port that nobody has at the moment, and no other call returns. Pebble has to be told
// where a house listens before that is there, and the house where pebble does.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(int(lastPort().Add(1)))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("a thousand ports are in use")
	return ""
}

// newPebble starts a name server and a CA for a scene.
func newPebble(s *scene) *pebble {
	s.t.Helper()
	p := &pebble{
		t: s.t, s: s, http: freePort(s.t), https: freePort(s.t), validity: 7776000,
		address: "127.0.0.1:" + freePort(s.t), management: "127.0.0.1:" + freePort(s.t), dns: "127.0.0.1:" + freePort(s.t),
		// A third of the nonces is bad; nobody waits.
		env: []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=30", "PEBBLE_AUTHZREUSE=0"},
		log: filepath.Join(s.t.TempDir(), "pebble.log"),
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.Cert)
	p.client = &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true},
		Timeout:   patience,
	}
	return p
}

// start starts both.
func (p *pebble) start() {
	p.t.Helper()
	dir, err := pebblePrograms()
	if err != nil {
		p.t.Fatal(err)
	}
	names := "127.0.0.1:" + freePort(p.t)
	p.run(exec.Command(filepath.Join(dir, "pebble-challtestsrv"), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-dnsserver", names, "-management", p.dns))
	p.s.certificate("pebble", p256(p.t), "127.0.0.1", "localhost")
	config := map[string]any{"pebble": map[string]any{
		"listenAddress": p.address, "managementListenAddress": p.management,
		"certificate": p.s.path("pebble.pem"), "privateKey": p.s.path("pebble.key"),
		"httpPort": portNumber(cmp.Or(p.wrongHTTP, p.http)), "tlsPort": portNumber(cmp.Or(p.wrongTLS, p.https)), "ocspResponderURL": "",
		"externalAccountBindingRequired": false,
		"retryAfter":                     map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "d", "validityPeriod": p.validity}},
	}}
	inner, _ := config["pebble"].(map[string]any)
	maps.Copy(inner, p.more)
	text, err := json.Marshal(config)
	p.s.must(err)
	p.s.write("pebble.json", string(text))
	p.cmd = exec.Command(filepath.Join(dir, "pebble"), "-config", p.s.path("pebble.json"), "-strict=false", "-dnsserver", names)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.run(p.cmd)
	await(p.t, "pebble", func() bool { return reached(p.address) && reached(p.management) && reached(p.dns) })
}

func portNumber(port string) int {
	n, _ := strconv.Atoi(port)
	return n
}

func reached(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// run starts a program, whose words go to the log, and ends it with the test.
func (p *pebble) run(cmd *exec.Cmd) {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	p.s.must(err)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.s.must(cmd.Start())
	log.Close()
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone
		_ = cmd.Wait()
		if p.t.Failed() {
			text, _ := os.ReadFile(p.log)
			p.t.Logf("%s:\n%s", cmd.Path, text[max(0, len(text)-4000):])
		}
	})
}

// said reports how often the log of the CA has a text.
func (p *pebble) said(text string) int {
	log, err := os.ReadFile(p.log)
	p.s.must(err)
	return bytes.Count(log, []byte(text))
}

// roots are what a client trusts that trusts this CA.
func (p *pebble) roots() *x509.CertPool {
	p.t.Helper()
	answer, err := p.client.Get("https://" + p.management + "/roots/0")
	p.s.must(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	p.s.must(err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		p.t.Fatalf("no root: %s", text)
	}
	return pool
}

// lead has a name lead to an address; "" to nowhere.
func (p *pebble) lead(host, address string) {
	p.t.Helper()
	verb, body := "add-a", map[string]any{"host": host + ".", "addresses": []string{address}}
	if address == "" {
		verb, body = "set-servfail", map[string]any{"host": host + "."}
	}
	p.ask(verb, body)
}

func (p *pebble) ask(verb string, body any) {
	p.t.Helper()
	text, err := json.Marshal(body)
	p.s.must(err)
	answer, err := http.Post("http://"+p.dns+"/"+verb, "application/json", bytes.NewReader(text))
	p.s.must(err)
	answer.Body.Close()
}

// configure writes a configuration whose CA this is: the listeners of the house, and then what
// is given.
func (p *pebble) configure(rest string) {
	p.t.Helper()
	text := `state = "{dir}/state"
listen = { http = ["127.0.0.1:HTTP"], https = ["127.0.0.1:TLS"] }
tls = { ca = "https://ADDRESS/dir", ca_root = "ca.pem"MORE }
`
	text = strings.NewReplacer("MORE", p.tls, "HTTP", p.http, "TLS", p.https, "ADDRESS", strings.Replace(p.address, "127.0.0.1", "localhost", 1)).Replace(text)
	p.s.write("sallyport.toml", text+rest)
}

// served is the certificate that a house serves for a name, nil if the handshake fails.
func served(h *house, name string) *x509.Certificate {
	dialer := &net.Dialer{Timeout: patience}
	conn, err := tls.DialWithDialer(dialer, "tcp", h.https, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// certified waits until a house serves a certificate of the CA for a name, and returns it.
func (p *pebble) certified(h *house, name string, limit time.Duration) *x509.Certificate {
	p.t.Helper()
	var leaf *x509.Certificate
	if !until(limit, func() bool { leaf = served(h, name); return leaf != nil }) {
		p.t.Fatalf("no certificate for %s within %v:\n%s", name, limit, h.tail())
	}
	config := &tls.Config{ServerName: name, RootCAs: p.roots()}
	conn, err := tls.Dial("tcp", h.https, config)
	if err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	conn.Close()
	return leaf
}

// read is a file of the scene.
func (s *scene) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name))
	s.must(err)
	return string(text)
}
