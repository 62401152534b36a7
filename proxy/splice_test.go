package proxy_test

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// pipesOpen counts the ends of pipes that this process has.
func pipesOpen(t *testing.T) (count int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + entry.Name()); strings.HasPrefix(to, "pipe:") {
			count++
		}
	}
	return count
}

// long is a text of n bytes in which each place can be told from another.
func long(n int) string {
	b := make([]byte, 0, n+10)
	for i := int64(1e8); len(b) < n; i++ { // nine digits, so that all are as long
		b = append(strconv.AppendInt(b, i, 10), ' ')
	}
	return string(b[:n])
}

// runPiped runs s, wants a pipe to have carried bytes where it can, and none to
// be left.
func runPiped(t *testing.T, s story) {
	before := pipesOpen(t)
	client := s.client
	s.client = func(c *clientSide) {
		client(c)
		if used := pipesOpen(c.T) > before; used != c.splices() {
			c.fail("a pipe was used: %v, over %s", used, c.name)
		}
	}
	run(t, s)
	if after := pipesOpen(t); after != before {
		t.Errorf("%s: %d ends of pipes are left", s.name, after-before)
	}
}

// splices reports whether bytes of an app can go to a client as they are.
func (p protocol) splices() bool { return !p.secure && !p.h2 }

// TestLongReplies: what goes through a pipe is what the app sent, ends where it ends, and
// leaves both connections in step.
func TestLongReplies(t *testing.T) {
	body := long(5<<20 + 7)
	sized := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
	runPiped(t, story{name: "sized", change: keeping, app: func(a *appSide) {
		for range 6 {
			a.request()
			a.say(sized, body)
			a.request()
			a.say(ok)
		}
	}, client: func(c *clientSide) {
		for i := range 6 {
			c.say(get())
			if !c.h3 {
				c.say(get()) // the second waits behind the pipe
			}
			c.want("GET", 200, body)
			if c.h3 {
				c.answered(2*i + 1)
				c.say(get())
			}
			c.want("GET", 200, "ok")
			c.answered(2*i + 2)
		}
		if n := c.accepted.Load(); n != 1 {
			c.fail("%d connections to the app", n)
		}
		c.logged(fmt.Sprintf(`"reply_bytes":%d,`, len(body)))
	}})
	closing := func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\n\r\n", body)
	}
	runPiped(t, story{name: "until close, 1.1", app: closing, client: func(c *clientSide) {
		for range 2 {
			c.say(get())
			if resp := c.want("GET", 200, body); len(resp.TransferEncoding) != 1 {
				c.fail("not chunked: %v", resp)
			}
		}
	}})
	runPiped(t, story{name: "until close, 1.0", h1: true, app: closing, client: func(c *clientSide) {
		c.say(request("GET / HTTP/1.0"))
		c.want("GET", 200, body)
		c.ended()
	}})
	runPiped(t, story{name: "chunks", change: keeping, app: func(a *appSide) {
		for range 3 {
			a.request()
			a.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			a.say(fmt.Sprintf("%x\r\n", len(body)), body, "\r\n3\r\nend\r\n0\r\n\r\n")
		}
	}, client: func(c *clientSide) {
		for i := range 3 {
			c.say(get())
			c.want("GET", 200, body+"end")
			c.answered(i + 1)
		}
		if n := c.accepted.Load(); n != 1 {
			c.fail("%d connections to the app", n)
		}
	}})
	run(t, story{name: "HEAD", app: func(a *appSide) {
		a.request()
		a.say(sized)
	}, client: func(c *clientSide) {
		for range 2 {
			c.say(request("HEAD / HTTP/1.1"))
			c.want("HEAD", 200, "")
		}
	}})
}

// TestLongRepliesCut: what is cut in a pipe cannot be taken for whole, and is nobody
// else's bytes later.
func TestLongRepliesCut(t *testing.T) {
	body := long(5 << 20)
	sized := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
	runPiped(t, story{name: "by the app", change: keeping, app: func(a *appSide) {
		a.request()
		a.say(sized, body[:3<<20])
	}, client: func(c *clientSide) {
		c.say(get())
		c.broken("GET")
		c.logged(fmt.Sprintf(`"reply_bytes":%d,`, 3<<20))
		other := c.dial()
		other.say(get())
		other.broken("GET")
	}})
	runPiped(t, story{name: "surplus", change: keeping, app: func(a *appSide) {
		a.request()
		a.say(sized, body, "poison")
		_, _ = io.Copy(io.Discard, a.Conn) // reset, where it was not read
	}, client: func(c *clientSide) {
		for range 3 {
			c.say(get())
			c.want("GET", 200, body)
		}
	}})
	// A client that does not read is waited for as long as the limit says, its bytes are
	// thrown away with the pipe, and the app is told.
	slow := func(plan *conf.Core) { keeping(plan); plan.Limits.WriteIdle = 100 * time.Millisecond }
	huge := strings.Repeat("x", 1<<20)
	run(t, story{name: "by a client that waits", change: slow, app: func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		for range 200 {
			if _, err := a.Write([]byte(huge)); err != nil {
				return
			}
		}
		a.fail("200 MiB went into nowhere")
	}, client: func(c *clientSide) {
		c.say(get())
		c.logged(`"request answered"`, `"cause":"client gone"`)
	}})
}

// TestLongRepliesWithoutPipes: where there is no descriptor left for a pipe, the same
// bytes take the other way.
func TestLongRepliesWithoutPipes(t *testing.T) {
	body := long(5<<20 + 7)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	set := func(limit *unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, limit); err != nil {
			t.Error(err)
		}
	}
	defer set(&limit)
	run(t, story{name: "no descriptors", change: keeping, app: func(a *appSide) {
		a.request()
		set(&none)
		a.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)), body)
		a.request()
		a.say(ok)
	}, client: func(c *clientSide) {
		c.say(get())
		c.want("GET", 200, body)
		set(&limit)
		c.say(get())
		c.want("GET", 200, "ok")
	}})
}
