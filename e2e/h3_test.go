package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// h3Shop is a shop with two cores, which log nothing of what they answer.
func (s *scene) h3Shop(kind, more string) *house {
	s.t.Helper()
	s.certificate("shop", p256(s.t), "shop.test")
	s.write("sallyport.toml", "control = \"control.sock\"\n"+more+"\n"+six)
	s.app(kind)
	return s.start()
}

// An h3Visitor is a client of HTTP/3 with one connection, as long as that lasts, from a port of
// its own.
type h3Visitor struct {
	http.Client
	transport *http3.Transport
	address   string

	mu      sync.Mutex
	dialled int
	conn    *quic.Conn // the last one
}

// h3Visitor visits a house, at the address of somebody on the way to it, or its own.
func (s *scene) h3Visitor(h *house, address string) *h3Visitor {
	v := &h3Visitor{address: address}
	if address == "" {
		v.address = h.https
	}
	v.transport = &http3.Transport{TLSClientConfig: s.client("shop.test"), Dial: v.dial}
	v.Client = http.Client{Transport: v.transport, Timeout: 90 * time.Second}
	s.t.Cleanup(func() { v.transport.Close() })
	return v
}

func (v *h3Visitor) dial(ctx context.Context, _ string, config *tls.Config, quicConfig *quic.Config) (*quic.Conn, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dialled++
	conn, err := quic.DialAddr(ctx, v.address, config, quicConfig)
	v.conn = conn
	return conn, err
}

// ask wants 200 and returns the answer.
func (v *h3Visitor) ask(path string) (string, error) {
	resp, err := v.Get("https://shop.test" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || resp.ProtoMajor != 3) {
		err = fmt.Errorf("%s %s: %q", resp.Proto, resp.Status, text)
	}
	return string(text), err
}

// TestH3Go has quic-go's client send and fetch what is small, what is long and what is streamed, and learn
// of HTTP/3 over HTTP/2.
func TestH3Go(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "")
	resp, err := s.goClient(h).Get("https://shop.test/")
	s.must(err)
	resp.Body.Close()
	if got := resp.Header.Get("Alt-Svc"); got != `h3=":443"` {
		t.Errorf("Alt-Svc: %q", got)
	}
	v := s.h3Visitor(h, "")
	var asking sync.WaitGroup
	for n := range 100 {
		body := bytes.Repeat([]byte("0123456789"), 1<<(n%10))
		if n == 0 {
			body = bytes.Repeat([]byte("0123456789"), 1<<20)
		}
		sum := sha256.Sum256(body)
		want := fmt.Sprintf(`{"length":%d,"sha256":"%s"}`, len(body), hex.EncodeToString(sum[:]))
		asking.Go(func() {
			resp, err := v.Post("https://shop.test/echo", "text/plain", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want || resp.ProtoMajor != 3 {
				t.Errorf("%s %q: %v", resp.Proto, got, err)
			}
		})
	}
	asking.Wait()
	if got, err := v.ask("/a"); err != nil || !strings.Contains(got, `"path":"/a"`) {
		t.Errorf("%q: %v", got, err)
	}
	streamed, err := v.Get("https://shop.test/stream?name=go")
	s.must(err)
	defer streamed.Body.Close()
	pieces := bufio.NewReader(streamed.Body)
	if first, err := pieces.ReadString('\n'); first != "one\n" {
		t.Errorf("first piece: %q, %v", first, err)
	}
	s.release("go")
	if rest, err := io.ReadAll(pieces); string(rest) != "two\nthree\n" {
		t.Errorf("the rest: %q, %v", rest, err)
	}
	await(t, "the log", func() bool { return len(h.find("request answered", "protocol=HTTP/3")) == 102 })
	if v.dialled != 1 {
		t.Errorf("%d connections", v.dialled)
	}
}

// A h3Download is an answer over HTTP/3 that takes its time.
type h3Download chan error

// download begins one, a line for each tenth of a second.
func (v *h3Visitor) download(t *testing.T, long time.Duration) h3Download {
	t.Helper()
	drops := int(long / (100 * time.Millisecond))
	resp, err := v.Get(fmt.Sprintf("https://shop.test/drip?drops=%d", drops))
	if err != nil {
		t.Fatal(err)
	}
	done := make(h3Download, 1)
	go func() {
		defer resp.Body.Close()
		lines, n := bufio.NewScanner(resp.Body), 0
		for ; lines.Scan() && lines.Text() == fmt.Sprint(n); n++ {
		}
		if lines.Err() != nil || n != drops {
			done <- fmt.Errorf("%d drops of %d, %w", n, drops, lines.Err())
			return
		}
		done <- nil
	}()
	return done
}

// TestH3Keeps shows that a download survives three reloads and the death of another core, and that
// nobody is refused meanwhile.
func TestH3Keeps(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("uvicorn", "workers = 2\ndrain = { requests = \"3m\" }")
	long := downloadOf(t)
	var downloads []h3Download
	for range 4 {
		downloads = append(downloads, s.h3Visitor(h, "").download(t, long))
	}
	v := s.h3Visitor(h, "")
	for generation := 2; generation < 5; generation++ {
		for range 10 {
			if _, err := v.ask("/"); err != nil {
				t.Error(err)
			}
		}
		s.reload(h, generation)
	}
	if _, err := v.ask("/"); err != nil {
		t.Error(err)
	}
	h.newestCore(t).kill()
	for i, d := range downloads {
		if err := <-d; err != nil {
			t.Errorf("download %d: %v", i, err)
		}
	}
	t.Logf("4 downloads of %v; the other client dialled %d times", long, v.dialled)
}

// newestCore is the core with the highest pid, which is one of the last generation.
func (h *house) newestCore(t *testing.T) (newest process) {
	t.Helper()
	for _, p := range ours() {
		if p.name == "sallyport-core" && p.pid > newest.pid {
			newest = p
		}
	}
	if newest.pid == 0 {
		t.Fatal("there is no core")
	}
	return newest
}

// A nat is a way to a house on which a client's port can change.
type nat struct {
	inner  *net.UDPConn
	house  string
	mu     sync.Mutex
	outer  net.Conn
	client net.Addr
}

func newNAT(t *testing.T, house string) *nat {
	t.Helper()
	inner, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n := &nat{inner: inner, house: house}
	n.rebind(t)
	go n.outLoop()
	t.Cleanup(func() {
		inner.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.outer.Close()
	})
	return n
}

// rebind changes the port that the house sees.
func (n *nat) rebind(t *testing.T) {
	t.Helper()
	outer, err := net.Dial("udp", n.house)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.outer != nil {
		n.outer.Close()
	}
	n.outer = outer
	go n.inLoop(outer)
}

func (n *nat) outLoop() {
	b := make([]byte, 2000)
	for {
		size, from, err := n.inner.ReadFrom(b)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.client = from
		_, _ = n.outer.Write(b[:size]) // it may be lost
		n.mu.Unlock()
	}
}

func (n *nat) inLoop(outer net.Conn) {
	b := make([]byte, 2000)
	for {
		size, err := outer.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an answer of ICMP
		}
		n.mu.Lock()
		client := n.client
		n.mu.Unlock()
		_, _ = n.inner.WriteTo(b[:size], client) // likewise
	}
}

// TestH3Moves shows that requests of clients whose port changes before each of them reach the core
// that has their connection.
func TestH3Moves(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "workers = 2")
	answered := 0
	for range 8 {
		n := newNAT(t, h.https)
		v := s.h3Visitor(h, n.inner.LocalAddr().String())
		if _, err := v.ask("/"); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			n.rebind(t)
			if _, err := v.ask("/"); err != nil {
				t.Error(err)
				continue
			}
			answered++
		}
		if v.dialled != 1 {
			t.Errorf("%d connections", v.dialled)
		}
	}
	t.Logf("%d of 48 requests after a change of port were answered", answered)
}

// TestH3Kill shows that the clients of a core that is killed learn of it within a second, and those of
// the other one do not.
func TestH3Kill(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "workers = 2")
	var visitors []*h3Visitor
	for range 12 {
		v := s.h3Visitor(h, "")
		if _, err := v.ask("/"); err != nil {
			t.Fatal(err)
		}
		visitors = append(visitors, v)
	}
	if got := quicOf(s); got != 12 {
		t.Errorf("status shows %d connections of QUIC, want 12", got)
	}
	h.newestCore(t).kill()
	await(t, "the next core", func() bool { return len(h.find("process died")) > 0 && len(coresNow()) == 2 })
	reset := 0
	for _, v := range visitors {
		begun, first := time.Now(), v.conn
		_, err := v.ask("/")
		lost := err
		if err != nil {
			_, err = v.ask("/")
		}
		if v.dialled > 1 { // by the client itself, or by us
			reset++
			cause := context.Cause(first.Context())
			if _, isReset := errors.AsType[*quic.StatelessResetError](errors.Join(lost, cause)); !isReset {
				t.Errorf("%v, %v", lost, cause)
			}
		}
		if took := time.Since(begun); err != nil || took > time.Second {
			t.Errorf("back after %v: %v", took, err)
		}
	}
	if reset == 0 || reset == len(visitors) {
		t.Errorf("%d of %d were clients of the core that was killed", reset, len(visitors))
	}
	t.Logf("%d of %d clients were told by a stateless reset, and came back", reset, len(visitors))
}

// quicOf is how many connections status shows, of all cores.
func quicOf(s *scene) (sum int) {
	s.t.Helper()
	out, code := s.shell("sallyport status --json -c sallyport.toml")
	var said struct {
		Processes []struct{ Core *struct{ QUIC int } }
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil || code != 0 {
		s.t.Fatalf("status: exit code %d, %v: %s", code, err, out)
	}
	for _, p := range said.Processes {
		if p.Core != nil {
			sum += p.Core.QUIC
		}
	}
	return sum
}

func coresNow() (cores []process) {
	for _, p := range ours() {
		if p.name == "sallyport-core" {
			cores = append(cores, p)
		}
	}
	return cores
}

// TestH3Loss fetches 5 MB while each tenth packet is lost, either way.
func TestH3Loss(t *testing.T) {
	needRoot(t)
	nft := tool(t, "nft")
	s := newScene(t)
	h := s.h3Shop("uvicorn", "")
	v := s.h3Visitor(h, "")
	_, port, err := net.SplitHostPort(h.https)
	s.must(err)
	rules := "table inet loss { chain input { type filter hook input priority 0; " +
		"udp dport " + port + " numgen random mod 10 == 0 drop; udp sport " + port + " numgen random mod 10 == 0 drop; }; }"
	if out, err := exec.Command(nft, rules).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command(nft, "delete table inet loss").Run() })
	begun := time.Now()
	text, err := v.ask("/big?token=x&bytes=5000000")
	if err != nil || len(text) != 5000000 {
		t.Fatalf("%d bytes: %v", len(text), err)
	}
	t.Logf("5 MB in %v", time.Since(begun))
	body := strings.Repeat("0123456789", 500000)
	resp, err := v.Post("https://shop.test/echo", "text/plain", strings.NewReader(body))
	s.must(err)
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(got), `5000000`) {
		t.Errorf("%q: %v", got, err)
	}
}
