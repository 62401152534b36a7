package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
)

// A custom is clients of a plain listener who ask and post without a pause, each request
// on a connection of its own, so that nothing but sallyport repeats one.
type custom struct {
	done  sync.WaitGroup
	asked atomic.Int64 // requests of all sorts

	gets, small, large tally
}

func newCustom() *custom {
	return &custom{gets: tally{target: "/"}, small: tally{target: "/echo"}, large: tally{target: "/echo?large"}}
}

// A tally is what became of requests of one sort.
type tally struct {
	target string
	asked  atomic.Int64

	mu   sync.Mutex
	lost []error
}

// Lengths of bodies: up to smallMax a request is sent again if nobody has read it, and
// largeBody is more than a unix socket takes before it is read.
const (
	smallMax  = 3500
	largeBody = 256 << 10
)

// askLoop asks and posts in turn, one of eight times a large body. It ends with its context.
func (c *custom) askLoop(ctx context.Context, address string, number int) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	large := bytes.Repeat([]byte("l"), largeBody)
	for n := number; ctx.Err() == nil; n++ {
		switch {
		case n%8 == 7:
			c.large.note(postOnce(client, c.large.target, large))
		case n%2 == 1:
			c.small.note(postOnce(client, c.small.target, large[:1+n*577%smallMax]))
		default:
			c.gets.note(askOnce(client))
		}
		c.asked.Add(1)
	}
}

func (t *tally) note(err error) {
	t.asked.Add(1)
	if err != nil {
		t.mu.Lock()
		t.lost = append(t.lost, err)
		t.mu.Unlock()
	}
}

func (t *tally) String() string { return fmt.Sprintf("%d of %d", len(t.lost), t.asked.Load()) }

// A loss is a request that failed, as the log says.
type loss struct {
	begun bool   // its answer had
	cause string // without app and socket
}

// losses are what the log says of the requests of a tally.
func (h *house) losses(t *tally) (found []loss) {
	socket := regexp.MustCompile(`^app \S+: (\w+) unix:\S+:`)
	for _, fault := range h.find("app failed") {
		id := fmt.Sprint("request_id=", fault.facts["request_id"])
		for _, l := range h.find("request answered", id, "target="+t.target) {
			cause := socket.ReplaceAllString(fmt.Sprint(fault.facts["cause"]), "$1:")
			found = append(found, loss{fmt.Sprint(l.facts["status"]) == "200", cause})
		}
	}
	return found
}

func askOnce(client *http.Client) error {
	answer, err := client.Get("http://shop.test/")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != 200 {
		return fmt.Errorf("GET: %s, %w", answer.Status, err)
	}
	return nil
}

// postOnce sends a body of which the app has to say the length.
func postOnce(client *http.Client, target string, body []byte) error {
	answer, err := client.Post("http://shop.test"+target, "text/plain", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var echo struct{ Length int }
	if err := json.NewDecoder(answer.Body).Decode(&echo); err != nil || answer.StatusCode != 200 || echo.Length != len(body) {
		return fmt.Errorf("POST of %d bytes: %s, %d arrived, %w", len(body), answer.Status, echo.Length, err)
	}
	return nil
}

// more waits until n more requests have been made.
func (c *custom) more(t *testing.T, n int64) {
	t.Helper()
	enough := c.asked.Load() + n
	await(t, "more requests", func() bool { return c.asked.Load() >= enough })
}
