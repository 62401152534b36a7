//go:build !race

package proxy_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/conf"
)

// soakEnv is how many requests of a kind the long run makes. `make soak` makes a million.
const soakEnv = "SALLYPORT_REQUESTS"

// outsideEnv makes the test binary be the client and the app of a long run, in a process
// of its own: what they allocate must not count.
const outsideEnv = "SALLYPORT_OUTSIDE"

// What one request may allocate, on the average of many: nothing, but the loop has its
// rare events, and pools are emptied by the collector. crypto/tls allocates 24 bytes each
// time it reads from the connection (readFromUntil: its atLeastReader escapes), and does
// so twice: for the request, and to find that nothing is behind it.
const (
	rareAllocations   = 0.01
	recordAllocations = 2
)

// TestAllocationsInTheLongRun counts what all of a process allocates while real
// connections go through it, as a core does it. TestPassageAllocations has the same of
// single requests, to the last one.
func TestAllocationsInTheLongRun(t *testing.T) {
	if os.Getenv(outsideEnv) != "" {
		outside(t)
		return
	}
	requests := 50000
	if text := os.Getenv(soakEnv); text != "" {
		var err error
		if requests, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range protocols() {
		if p.h3 {
			continue // QUIC's own are a few for each packet
		}
		most := rareAllocations
		if p.secure {
			most += recordAllocations
		}
		t.Run(p.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "outside")
			tell(t, story{change: func(plan *conf.Core) {
				plan.Log.Access = false
				plan.Apps[0].Sockets = []string{socket}
			}, client: func(c *clientSide) {
				allocated := c.soak(requests)
				each := float64(allocated) / float64(requests)
				t.Logf("%d requests, %d allocations: %.4f each", requests, allocated, each)
				if each > most {
					t.Errorf("%.4f allocations per request, more than %v", each, most)
				}
			}}, p)
		})
	}
}

// soak lets the outside make requests, and counts what is allocated here meanwhile.
func (c *clientSide) soak(count int) (allocated uint64) {
	c.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAllocationsInTheLongRun$", "-test.count=1")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %v %v", outsideEnv, c.front.Addr(), c.plan.Apps[0].Sockets[0], count, c.secure, c.h2))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		c.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	said := bufio.NewReader(out)
	await := func(word string) {
		if line, err := said.ReadString('\n'); line != word+"\n" {
			in.Close()
			_ = cmd.Wait()
			c.Fatalf("the outside says %q, not %q: %v", line, word, err)
		}
	}
	var before, after runtime.MemStats
	await("warm")
	runtime.ReadMemStats(&before)
	if _, err := io.WriteString(in, "go\n"); err != nil {
		c.Fatal(err)
	}
	await("done")
	runtime.ReadMemStats(&after)
	in.Close()
	_, _ = io.Copy(io.Discard, said) // what the test binary says of itself
	if err := cmd.Wait(); err != nil {
		c.Errorf("the outside: %v", err)
	}
	return after.Mallocs - before.Mallocs
}

// outside is the app on a socket, and some clients that make a number of requests.
func outside(t *testing.T) {
	const clients, warm = 16, 500
	var address, socket string
	var count int
	var p protocol
	if _, err := fmt.Sscan(os.Getenv(outsideEnv), &address, &socket, &count, &p.secure, &p.h2); err != nil {
		t.Fatal(err)
	}
	app, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	go answerAll(app, false, new(atomic.Int64))
	conns := make([]net.Conn, clients)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", address); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		if p.secure {
			conns[i] = tls.Client(conns[i], &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"})
		}
		if p.h2 {
			if conns[i], err = newH2Client(conns[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := askAll(conns, warm); err != nil {
		t.Fatal(err)
	}
	fmt.Println("warm")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := askAll(conns, count/clients); err != nil {
		t.Fatal(err)
	}
	fmt.Println("done")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the other side has counted
}

// askAll makes a number of requests on each connection, on all at once.
func askAll(conns []net.Conn, each int) error {
	ended := make(chan error, len(conns))
	for _, conn := range conns {
		go func() { ended <- askOften(conn, each) }()
	}
	var failed error
	for range conns {
		failed = errors.Join(failed, <-ended)
	}
	return failed
}

func askOften(conn net.Conn, times int) error {
	request := []byte(get())
	in := bufio.NewReader(conn)
	for range times {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := conn.Write(request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != "ok" {
			return fmt.Errorf("%s %q: %w", resp.Status, body, err)
		}
	}
	return nil
}
