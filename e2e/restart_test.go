package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// restartRounds is how often each app is restarted; SALLYPORT_RESTARTS says otherwise.
const restartRounds = 3

// A custom is clients of a plain listener who ask and post without a pause, each request
// on a connection of its own, so that nothing but sallyport repeats one.
type custom struct {
	done  sync.WaitGroup
	asked atomic.Int64

	mu   sync.Mutex
	lost []error
}

func (c *custom) askLoop(ctx context.Context, address string, number int) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	for n := number; ctx.Err() == nil; n++ {
		var err error
		if n%2 == 0 {
			err = askOnce(client)
		} else {
			err = postOnce(client, bytes.Repeat([]byte("b"), 1+n*577%3500))
		}
		if err != nil {
			c.mu.Lock()
			c.lost = append(c.lost, err)
			c.mu.Unlock()
		}
		c.asked.Add(1)
	}
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
func postOnce(client *http.Client, body []byte) error {
	answer, err := client.Post("http://shop.test/echo", "text/plain", bytes.NewReader(body))
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

// TestRestart: no GET and no POST of up to 4 KiB fails while its app is restarted, in the
// ways that its users do.
func TestRestart(t *testing.T) {
	rounds := restartRounds
	if text := os.Getenv("SALLYPORT_RESTARTS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		kind, way string
		signal    syscall.Signal
		again     bool // the signal ends it, and it is started anew
	}{
		{"gunicorn-sync", "TERM and start", syscall.SIGTERM, true},
		{"gunicorn-sync", "HUP", syscall.SIGHUP, false},
		{"gunicorn-gthread", "TERM and start", syscall.SIGTERM, true},
		{"puma", "TERM and start", syscall.SIGTERM, true},
		{"puma-cluster", "phased", syscall.SIGUSR1, false},
		{"puma-cluster", "TERM and start", syscall.SIGTERM, true},
	} {
		t.Run(test.kind+", "+test.way, func(t *testing.T) {
			serverOf(t, test.kind).installed(t)
			s := newScene(t)
			s.certificate("shop", p256(t), "shop.test")
			s.folder()
			app := s.startApp(test.kind)
			takes(t, s.path("app/app.sock"))
			s.write("sallyport.toml", six)
			h := s.start()
			ctx, stop := context.WithTimeout(t.Context(), time.Duration(rounds)*loadMax)
			c := new(custom)
			for number := range clients {
				c.done.Go(func() { c.askLoop(ctx, h.http, number) })
			}
			for range rounds {
				c.more(t, 100)
				app = s.restart(app, test.kind, test.signal, test.again)
			}
			c.more(t, 200)
			stop()
			c.done.Wait()
			t.Logf("%d restarts under %d requests: %d failed", rounds, c.asked.Load(), len(c.lost))
			for _, err := range c.lost[:min(len(c.lost), 20)] {
				t.Error(err)
			}
			if said, err := os.ReadFile(s.path("app.log")); t.Failed() && err == nil {
				t.Logf("the app says\n%s", said[max(0, len(said)-10000):])
			}
		})
	}
}

// restart restarts an app by a signal to its main process.
func (s *scene) restart(app *exec.Cmd, kind string, signal syscall.Signal, again bool) *exec.Cmd {
	s.t.Helper()
	s.must(app.Process.Signal(signal))
	if !again {
		return app
	}
	_ = app.Wait() // how it ends is its own business
	return s.startApp(kind)
}

// more waits until n more requests have been made.
func (c *custom) more(t *testing.T, n int64) {
	t.Helper()
	enough := c.asked.Load() + n
	await(t, "more requests", func() bool { return c.asked.Load() >= enough })
}
