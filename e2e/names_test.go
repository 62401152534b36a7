package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file is a service with many names, such as one whose customers bring theirs. The
// certificates are in the state folder already, as an earlier start has obtained them.

const (
	// namesUsual is how many there are when nobody says otherwise (SALLYPORT_NAMES=50000).
	namesUsual = 500
	// namesPatience is for what each name takes time of.
	namesPatience = 2 * time.Minute
	// coreBytesMost bounds the memory of a core (PSS): so much, and for each name so much.
	coreBytesMost, coreBytesPerName = 32 << 20, 2 << 10
)

// Customers are many names, and the CA that has certified them.
type customers struct {
	*scene
	names   []string
	issuer  *x509.Certificate // an intermediate one
	key     *ecdsa.PrivateKey
	serials sync.Map // that of each name
	ca      string   // URL, where nobody is
}

func newCustomers(t *testing.T, count int) *customers {
	c := &customers{scene: newScene(t), ca: "https://localhost:" + freePort(t) + "/dir"}
	for i := range count {
		c.names = append(c.names, fmt.Sprintf("customer-%05d.shop.test", i))
	}
	c.key, _ = p256(t).(*ecdsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Organization: []string{"throw-away"}, CommonName: "intermediate"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.scene.ca.Cert, c.key.Public(), c.scene.ca.key)
	c.must(err)
	c.issuer, err = x509.ParseCertificate(der)
	c.must(err)
	return c
}

// furnish writes the state that a service of these names has.
func (c *customers) furnish() {
	c.t.Helper()
	keeper := c.uid
	if keeper == 0 {
		keeper = 60579 // the fixed one
	}
	for _, folder := range []string{"state", "state/certificates"} {
		c.must(os.Mkdir(c.path(folder), 0o700))
		c.must(os.Chown(c.path(folder), keeper, keeper))
	}
	var done sync.WaitGroup
	numbers := make(chan int)
	for range 4 {
		done.Go(func() {
			for i := range numbers {
				if err := c.pair(i, keeper); err != nil {
					c.t.Error(err)
				}
			}
		})
	}
	for i := range c.names {
		numbers <- i
	}
	close(numbers)
	done.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// pair writes the two files of a name: as package keeper bundles what certmagic stores, and
// what is to be known of it.
func (c *customers) pair(number, keeper int) error {
	name := c.names[number]
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial := big.NewInt(int64(1)<<40 + int64(number))
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * lifetime),
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		OCSPServer: []string{"http://ocsp.test"}, IssuingCertificateURL: []string{"http://ca.test/1.crt"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.issuer, key.Public(), c.key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	c.serials.Store(name, serial)
	text := block("EC PRIVATE KEY", secret) + block("CERTIFICATE", der) + block("CERTIFICATE", c.issuer.Raw) +
		block("ACME METADATA", []byte(`{"sans":["`+name+`"],"issuer_data":{}}`))
	standing, err := json.Marshal(map[string]any{
		"host": name, "source": "acme", "ca": c.ca, "issuer": c.issuer.Subject.CommonName, "serial": serial.Text(16),
		"not_after": template.NotAfter.UTC(), "next": template.NotAfter.Add(-30 * lifetime).UTC(), "attempts": 0, "error": "",
	})
	if err != nil {
		return err
	}
	issuer := strings.NewReplacer("/", "-", ":", "-").Replace(strings.TrimPrefix(c.ca, "https://"))
	files := map[string]string{
		"certificates," + issuer + "," + name + ".pem": text,
		"status," + name: string(standing) + "\n",
	}
	for file, content := range files {
		path := filepath.Join(c.path("state/certificates"), file)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
		if err := os.Chown(path, keeper, keeper); err != nil {
			return err
		}
	}
	return nil
}

// configure writes a configuration with some of the names: one site, as they all go to one app.
func (c *customers) configure(names []string) {
	hosts, err := json.Marshal(names) // which TOML writes likewise
	c.must(err)
	c.write("sallyport.toml", `state = "{dir}/state"
workers = 2
listen = { http = ["127.0.0.1:0"], https = ["127.0.0.1:0"], advertise_port = 443 }
tls = { ca = "`+c.ca+`", ca_root = "ca.pem" }
[[site]]
app = "unix:{dir}/app/app.sock"
host = `+strings.ReplaceAll(string(hosts), ",", ",\n")+"\n")
}

// shake makes a full handshake for a name, and holds that it gets its own certificate.
func (c *customers) shake(h *house, name string) (took time.Duration, err error) {
	began := time.Now()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", h.https, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	took = time.Since(began)
	if err != nil {
		return took, fmt.Errorf("%s: %w", name, err)
	}
	defer conn.Close()
	leaf := conn.ConnectionState().PeerCertificates[0]
	want, _ := c.serials.Load(name)
	if serial, is := want.(*big.Int); !is || leaf.SerialNumber.Cmp(serial) != 0 {
		return took, fmt.Errorf("%s: gets %s, for %v", name, leaf.SerialNumber.Text(16), leaf.DNSNames)
	}
	return took, nil
}

// open starts a house with some names, and says what it takes.
func (c *customers) open(names []string) *house {
	c.t.Helper()
	c.configure(names)
	began := time.Now()
	h := c.startWithin(namesPatience)
	ready := time.Since(began)
	if _, err := c.shake(h, names[len(names)-1]); err != nil {
		c.t.Error(err)
	}
	c.t.Logf("%d names: ready after %v, the last of them served after %v", len(names), ready.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	return h
}

// latency makes full handshakes one after the other, of names at random.
func (c *customers) latency(h *house, names []string, count int) {
	c.t.Helper()
	took := make([]time.Duration, count)
	before := c.processorTime()
	for i := range took {
		var err error
		if took[i], err = c.shake(h, names[mathrand.N(len(names))]); err != nil {
			c.t.Fatal(err)
		}
	}
	spent := c.processorTime()
	slices.Sort(took)
	c.t.Logf("%d names: %d full handshakes: median %v, p99 %v; processor time of each: cores %v, keeper %v", len(names), count,
		took[count/2].Round(time.Microsecond), took[count*99/100].Round(time.Microsecond),
		(spent["sallyport-core"]-before["sallyport-core"])/time.Duration(count), (spent["sallyport-keeper"]-before["sallyport-keeper"])/time.Duration(count))
}

// processorTime is what all processes of each program have used: proc_pid_stat(5), fields 14 and 15,
// in ticks of 10 ms.
func (c *customers) processorTime() map[string]time.Duration {
	used := map[string]time.Duration{}
	for _, p := range ours() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		c.must(err)
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, ticks := range fields[11:13] {
			n, err := strconv.Atoi(ticks)
			c.must(err)
			used[p.name] += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return used
}

// memory says what each process has (PSS), and holds the cores to their bound.
func (c *customers) memory(when string, count int) {
	c.t.Helper()
	var said []string
	wardens := 0
	for _, p := range ours() {
		size := c.kibibytes(p)
		if p.name == "sallyport" {
			wardens += size
			continue
		}
		said = append(said, fmt.Sprintf("%s %.1f MiB", strings.TrimPrefix(p.name, "sallyport-"), float64(size)/1024))
		if most := coreBytesMost + count*coreBytesPerName; p.name == "sallyport-core" && size<<10 > most {
			c.t.Errorf("a core has %d KiB, more than %d", size, most>>10)
		}
	}
	slices.Sort(said)
	c.t.Logf("%d names, %s: %s, wardens %.1f MiB", count, when, strings.Join(said, ", "), float64(wardens)/1024)
}

// kibibytes is the memory of a process; 0 of one that has just ended.
func (c *customers) kibibytes(p process) int {
	c.t.Helper()
	facts, err := status(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
	if os.IsNotExist(err) {
		return 0
	}
	c.must(err)
	size, err := strconv.Atoi(strings.TrimSuffix(facts["Pss"], " kB"))
	c.must(err)
	return size
}

// rested waits until the keeper has given back what the start has left, if it is much.
func (c *customers) rested(count int) {
	c.t.Helper()
	keeper := named(c.t, "sallyport-keeper")
	before := c.kibibytes(keeper)
	if !until(patience, func() bool { return count < namesUsual*10 || c.kibibytes(keeper) < before*4/5 }) {
		c.t.Errorf("the keeper keeps %d KiB", c.kibibytes(keeper))
	}
}

// all holds that every name gets its own certificate.
func (c *customers) all(h *house, names []string) {
	c.t.Helper()
	began := time.Now()
	var next atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(names)); i = next.Add(1) - 1 {
				if _, err := c.shake(h, names[i]); err != nil {
					c.t.Error(err)
					next.Store(int64(len(names))) // the others are no better
				}
			}
		})
	}
	clients.Wait()
	c.t.Logf("%d names: each has its own certificate, %v", len(names), time.Since(began).Round(time.Millisecond))
}

// Each of many names has its own certificate, and what they cost is said: the start, memory, a
// handshake beside that of one name alone, and a reload, which loses no handshake.
func TestNames(t *testing.T) {
	count, handshakes := namesUsual, 200
	if given := os.Getenv("SALLYPORT_NAMES"); given != "" {
		var err error
		if count, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
		handshakes = 2000
	}
	c := newCustomers(t, count)
	began := time.Now()
	c.furnish()
	t.Logf("%d certificates made in %v", count, time.Since(began).Round(time.Millisecond))

	one := c.open(c.names[:1])
	c.memory("ready", 1)
	c.latency(one, c.names[:1], handshakes)
	if code := one.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	h := c.open(c.names)
	c.memory("ready", count)
	c.rested(count)
	c.memory("rested", count)
	c.latency(h, c.names, handshakes)
	c.all(h, c.names)
	c.memory("all used", count)
	c.reloads(h)
}

// reloads drops the last name while clients of the others come and go.
func (c *customers) reloads(h *house) {
	c.t.Helper()
	stay := c.names[:len(c.names)-1]
	var done, lost atomic.Int64
	var longest atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				took, err := c.shake(h, stay[mathrand.N(len(stay))])
				done.Add(1)
				if err != nil {
					lost.Add(1)
					c.t.Errorf("while it reloads: %v", err)
				}
				longest.Store(max(longest.Load(), int64(took)))
			}
		})
	}
	c.configure(stay)
	began := time.Now()
	out, code := c.shell("sallyport reload -c sallyport.toml")
	took := time.Since(began)
	if code != 0 {
		c.t.Errorf("reload: exit code %d, %s", code, out)
	}
	until(namesPatience, func() bool { return len(of("sallyport-core")) == 2 })
	gone := time.Since(began)
	close(stop)
	clients.Wait()
	if _, err := c.shake(h, c.names[len(stay)]); err == nil {
		c.t.Errorf("%s is served after it is gone from the file", c.names[len(stay)])
	}
	c.t.Logf("%d names: the new generation serves after %v, the old one is gone after %v; %d handshakes meanwhile, %d lost, the longest %v",
		len(stay), took.Round(time.Millisecond), gone.Round(time.Millisecond), done.Load(), lost.Load(), time.Duration(longest.Load()).Round(time.Millisecond))
	c.memory("reloaded", len(stay))
}
