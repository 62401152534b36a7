package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// twoCores are bare with another core, and what clients are refused for is logged.
func twoCores(more string) string {
	text := strings.Replace(bare, "workers = 1", "workers = 2\n"+more, 1)
	return strings.Replace(text, "access = false, ", "", 1)
}

// A caller is a connection of a client.
type caller struct {
	net.Conn
	answers *bufio.Reader
}

// call connects from an address of this machine, and says something at once.
func call(t *testing.T, from, to, say string) *caller {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, say) // who is closed meanwhile has no answer
	return &caller{conn, bufio.NewReader(conn)}
}

// ask makes a request and tells the status, and Retry-After; 0 if there is no answer.
func (c *caller) ask(fields string) (status int, retry string) {
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.test\r\n"+fields+"\r\n")
	answer, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return 0, ""
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0, ""
	}
	return answer.StatusCode, answer.Header.Get("Retry-After")
}

// TestConnectionsPerAddress: over two cores, an address has as many connections as the limit
// says and no more, each refusal is a line of the log, and what has left or was a killed
// core's is free again.
func TestConnectionsPerAddress(t *testing.T) {
	const most, cause = 4, "cause=more connections than limits.connections_per_address"
	s := newScene(t)
	s.startBareApp(false)
	s.write("sallyport.toml", twoCores("trusted_proxies = [\"127.0.0.9\"]\n")+"[limits]\nconnections_per_address = 4\n")
	h := s.start()
	full := func(from string) (held []*caller) {
		t.Helper()
		for len(held) < most {
			c := call(t, from, h.http, "")
			if status, _ := c.ask(""); status != 200 {
				t.Fatalf("connection %d of %s: status %d", len(held), from, status)
			}
			held = append(held, c)
		}
		return held
	}
	held := full("127.0.0.1")
	for i := range 3 {
		if status, _ := call(t, "127.0.0.1", h.http, "").ask(""); status != 0 {
			t.Errorf("one too many: status %d", status)
		}
		await(t, "its line", func() bool { return len(h.find("request refused", cause, "peer=127.0.0.1:*")) == i+1 })
	}
	full("127.0.0.2")
	for range 3 * most { // a proxy of ours has many clients
		if status, _ := call(t, "127.0.0.9", h.http, "").ask(""); status != 200 {
			t.Errorf("a trusted proxy: status %d", status)
		}
	}
	held[0].Close()
	await(t, "the place of one that has left", func() bool {
		status, _ := call(t, "127.0.0.1", h.http, "").ask("")
		return status == 200
	})
	for _, p := range ours() {
		if p.name == "sallyport-core" {
			p.kill()
		}
	}
	await(t, "two other cores", func() bool { return len(h.find("process ready", "process=core*")) == 2 })
	full("127.0.0.1")
}

// TestConnectionsByProxyHeader: behind a proxy that says whose a connection is, that one is
// counted.
func TestConnectionsByProxyHeader(t *testing.T) {
	s := newScene(t)
	s.startBareApp(false)
	s.write("sallyport.toml", strings.Replace(twoCores("trusted_proxies = [\"127.0.0.1\"]\n"), "listen = { ", "listen = { proxy_protocol = true, ", 1)+
		"[limits]\nconnections_per_address = 1\n")
	h := s.start()
	header := func(client string) string { return "PROXY TCP4 " + client + " 192.0.2.254 1111 80\r\n" }
	for _, c := range []struct {
		say    string
		status int
	}{{header("192.0.2.1"), 200}, {header("192.0.2.1"), 0}, {header("192.0.2.2"), 200}, {"PROXY UNKNOWN\r\n", 200}, {"PROXY UNKNOWN\r\n", 200}} {
		if status, _ := call(t, "127.0.0.1", h.http, c.say).ask(""); status != c.status {
			t.Errorf("%q: status %d, not %d", c.say, status, c.status)
		}
	}
}

// TestRatePerAddress: who asks too much is told 429 and when to come again, and keeps the
// connection; behind a proxy of ours it is the client who is counted, as the proxy names it.
func TestRatePerAddress(t *testing.T) {
	const rate = 5
	s := newScene(t)
	s.startBareApp(false)
	s.write("sallyport.toml", twoCores("trusted_proxies = [\"127.0.0.9\"]\n")+fmt.Sprintf("[limits]\nrate = %d\n", rate))
	h := s.start()
	// flood asks so often on one connection that some must be too many, however slow the machine.
	flood := func(from, fields string) (statuses map[int]int) {
		c := call(t, from, h.http, "")
		statuses = map[int]int{}
		for range 40 * rate {
			status, retry := c.ask(fields)
			statuses[status]++
			if want := map[bool]string{true: "1"}[status == 429]; retry != want {
				t.Fatalf("status %d, Retry-After %q", status, retry)
			}
		}
		return statuses
	}
	for _, who := range []struct{ from, fields string }{
		{"127.0.0.1", ""},
		{"127.0.0.2", "X-Forwarded-For: 192.0.2.7\r\n"}, // who is no proxy of ours names nobody
		{"127.0.0.9", "X-Forwarded-For: 192.0.2.1\r\n"},
	} {
		if got := flood(who.from, who.fields); got[200] < rate || got[429] < rate || got[200]+got[429] != 40*rate {
			t.Errorf("%v: %v", who, got)
		}
	}
	refused := h.find("request answered", "status=429", "cause=more requests than limits.rate")
	if len(refused) == 0 || slices.ContainsFunc(refused, func(l line) bool { return l.facts["app"] != nil }) {
		t.Errorf("%d lines of refusals, or they name an app", len(refused))
	}
	if status, _ := call(t, "127.0.0.9", h.http, "").ask("X-Forwarded-For: 192.0.2.7\r\n"); status != 200 {
		t.Errorf("another client of the proxy: status %d", status)
	}
	if got := flood("127.0.0.9", ""); got[200] != 40*rate {
		t.Errorf("the proxy itself: %v", got)
	}
}
