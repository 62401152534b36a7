package proxy_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sallyport/conf"
)

// TestStorm tells many stories at once over the same pools: what one exchange
// leaves behind must not show in another.
func TestStorm(t *testing.T) {
	for name, keepalive := range map[string]int{"storm": 0, "storm with keepalive": 3} {
		storm(t, name, keepalive)
	}
}

func storm(t *testing.T, name string, keepalive int) {
	long := tenMiB()[:300000]
	keep := func(plan *conf.Core) { plan.Apps[0].Keepalive = keepalive }
	run(t, story{name: name, change: keep, app: stormApp, client: func(c *clientSide) {
		var clients sync.WaitGroup
		for i := range 8 {
			clients.Add(1)
			go func() {
				defer clients.Done()
				s := &stormClient{world: c.world, rand: rand.New(rand.NewPCG(1, uint64(i))), long: long}
				for range 40 {
					s.exchange()
				}
				s.leave()
			}()
		}
		clients.Wait()
		if n := c.accepted.Load(); (n < 250) != (keepalive > 0) {
			t.Errorf("%d connections to the app", n)
		}
	}})
}

// stormApp does what the field Do of its requests says, until one ends its connection.
func stormApp(a *appSide) {
	for {
		if _, err := a.r.Peek(1); err != nil || !stormAnswer(a) {
			return
		}
	}
}

func stormAnswer(a *appSide) (kept bool) {
	head := a.head()
	req, err := http.ReadRequest(newReader(head, a.r))
	if err != nil {
		a.fail("%q: %v", head, err)
	}
	reply := func(parts ...string) { _, _ = io.WriteString(a.Conn, strings.Join(parts, "")) } // the client may have stopped
	switch req.Header.Get("Do") {
	case "echo":
		body, err := io.ReadAll(req.Body)
		if err == nil {
			reply("HTTP/1.1 200 OK\r\nContent-Length: ", strconv.Itoa(len(body)), "\r\n\r\n", string(body))
			return !req.Close
		}
	case "chunks":
		if body, err := io.ReadAll(req.Body); err == nil {
			reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", inChunks(string(body), 1000))
			return !req.Close
		}
	case "refuse":
		reply("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!")
	case "die":
		reply("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", strings.Repeat("x", 50000))
	case "vanish":
	}
	return false
}

type stormClient struct {
	*world
	c    *clientSide
	rand *rand.Rand
	long string
}

func (s *stormClient) leave() {
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
}

// exchange makes one exchange, on a connection that is kept where that can be.
func (s *stormClient) exchange() {
	if s.c == nil {
		s.c = s.dial()
		s.c.client = false // not the goroutine of the test
	}
	c := s.c
	do := [...]string{"echo", "echo", "chunks", "refuse", "die", "vanish", "stop"}[s.rand.IntN(7)]
	at := s.rand.IntN(len(s.long))
	body := s.long[at : at+s.rand.IntN(len(s.long)-at)]
	if s.rand.IntN(2) == 0 {
		body = body[:min(len(body), 3000)]
	}
	said := do
	if do == "stop" { // under an app that may answer, or be gone, at the same moment
		said = [...]string{"echo", "refuse", "vanish"}[s.rand.IntN(3)]
	}
	head, framed := request("POST / HTTP/1.1", "Do: "+said, fmt.Sprintf("Content-Length: %d", len(body))), body
	if s.rand.IntN(2) == 0 {
		head, framed = request("POST / HTTP/1.1", "Do: "+said, "Transfer-Encoding: chunked"), inChunks(body, 1+s.rand.IntN(5000))
	}
	if do == "stop" {
		_, _ = io.WriteString(c.Conn, head+framed[:len(framed)/2]) // we may have been refused already
		s.leave()
		return
	}
	if _, err := io.WriteString(c.Conn, head+framed); err != nil && do != "die" {
		s.Errorf("%s: %v", do, err)
	}
	resp, got, err := c.tryReply("POST")
	switch {
	case do == "die":
		if err == nil && resp.StatusCode == 200 {
			s.Errorf("a reply that was cut looks whole")
		}
	case err != nil:
		s.Errorf("%s: %v", do, err)
	case do == "vanish" && resp.StatusCode != 502, do == "refuse" && (resp.StatusCode != 403 || got != "no!"),
		(do == "echo" || do == "chunks") && (resp.StatusCode != 200 || got != body):
		s.Errorf("%s of %d bytes: %v %d bytes", do, len(body), resp.Status, len(got))
	}
	if err != nil || resp.Close {
		s.leave()
	}
}
