package proxy_test

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/conf"
	"sallyport/upstream/board"
)

// runBuffered tells s over every engine with buffering.
func runBuffered(t *testing.T, s story) {
	t.Helper()
	s.buffer = true
	for _, p := range protocols() {
		if s.h1 && p.h2 || s.half && p.h3 {
			continue
		}
		t.Run(s.name+"/"+p.name+"+buffer", func(t *testing.T) { tell(t, s, p) })
	}
}

// counted is what was counted of the app.
func (w *world) counted(what board.Tally) uint64 { return w.shared.Queue(0).Report().Counts[what] }

// scarce is a spool with room for a part of a long body.
func scarce(plan *conf.Core) { plan.Spool = conf.Spool{Bytes: 1 << 20, AppBytes: 256 << 10} }

// TestCompleteBodies: the app is not asked before the last byte of a body is there, and is
// told its length, however it came.
func TestCompleteBodies(t *testing.T) {
	for _, size := range []int{1, 5000, 16 << 10, 64 << 10, 64<<10 + 1, 300000, 5 << 20} {
		body := long(size)
		whole := post(body)
		chunks := request("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Trailer: Sum") + strings.TrimSuffix(inChunks(body, 3000), "0\r\n\r\n")
		for name, parts := range map[string][2]string{
			"length": {whole[:len(whole)-1], whole[len(whole)-1:]},
			"chunks": {chunks, "0\r\nSum: 7\r\n\r\n"},
		} {
			runBuffered(t, story{name: name + ", " + strconv.Itoa(size), app: func(a *appSide) {
				head, got, req := a.request()
				if got != body || req.ContentLength != int64(size) || req.TransferEncoding != nil || req.Header["Trailer"] != nil {
					a.fail("%d bytes of %d, with the head %q", len(got), size, head)
				}
				a.say(ok)
			}, client: func(c *clientSide) {
				c.say(parts[0])
				for c.arena.Stats().Spools == 0 {
					c.yield()
				}
				if n := c.accepted.Load(); n > 0 {
					c.fail("the app is asked before the end")
				}
				c.say(parts[1])
				c.want("POST", 200, "ok")
				c.logged(`"status":200`, `"body_ms":`)
			}})
		}
	}
	runBuffered(t, story{name: "no body in chunks", app: echo, client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", "Transfer-Encoding: chunked"), "0\r\n\r\n", post("again"))
		c.want("POST", 200, "")
		c.want("POST", 200, "again")
	}})
	runBuffered(t, story{name: "there with the head", app: echo, client: func(c *clientSide) {
		c.say(post("hello"))
		c.want("POST", 200, "hello")
		c.logged(`"status":200`)
		if strings.Contains(c.log.String(), "body_ms") && !c.h3 { // where the end may be in another packet
			c.fail("waited for a body that was there:\n%s", c.log)
		}
	}})
}

// TestBodiesThatDoNotCome: of a request whose body is not complete the app hears nothing.
func TestBodiesThatDoNotCome(t *testing.T) {
	const chunked = "Transfer-Encoding: chunked"
	for name, body := range map[string]string{
		"length": request("POST / HTTP/1.1", "Content-Length: 100000") + long(50000),
		"chunks": request("POST / HTTP/1.1", chunked) + "4\r\nhalf\r\n",
	} {
		runBuffered(t, story{name: name + ", leaves", client: func(c *clientSide) {
			c.say(body)
			for c.h3 && c.arena.Stats().Spools == 0 { // a connection that ends takes along what was not taken
				c.yield()
			}
			c.Close()
			c.logged(`"request answered"`, `"cause":`)
		}})
		runBuffered(t, story{name: name + ", says no more", half: true, client: func(c *clientSide) {
			c.say(body)
			if half, ok := c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
				c.fail("no half close")
			}
			if resp, text := c.reply("POST"); resp.StatusCode != 400 || !resp.Close {
				c.fail("%v %s", resp, text)
			}
		}})
		runBuffered(t, story{name: name + ", is silent", change: func(plan *conf.Core) { plan.Limits.BodyIdle = 20 * ms }, client: func(c *clientSide) {
			c.say(body)
			c.want("POST", 408, "408 Request Timeout: body silent for limits.body_idle\n")
		}})
	}
	runBuffered(t, story{name: "longer than max_body", change: func(plan *conf.Core) { plan.Apps[0].MaxBody = 100000 }, client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", chunked), inChunks(long(200000), 1000))
		c.want("POST", 413, "413 Content Too Large: body longer than max_body\n")
	}})
	runBuffered(t, story{name: "malformed", client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", chunked), "4\r\nhalf\r\n0\r\nContent-Length: 4\r\n\r\n")
		if resp, text := c.reply("POST"); resp.StatusCode != 400 || !resp.Close {
			c.fail("%v %s", resp, text)
		}
	}})
}

// TestContinueBuffered: the client is told to go on before the app knows of it.
func TestContinueBuffered(t *testing.T) {
	runBuffered(t, story{name: "continue", app: echo, client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"))
		c.hear("HTTP/1.1 100 Continue\r\n\r\n")
		if n := c.accepted.Load(); n > 0 {
			c.fail("the app is asked already")
		}
		c.say("hello")
		c.want("POST", 200, "hello")
	}})
	runBuffered(t, story{name: "refused", change: func(plan *conf.Core) { plan.Apps[0].MaxBody = 4 }, client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"))
		c.want("POST", 413, "413 Content Too Large: body longer than max_body\n")
	}})
}

// TestQueueClock: an app reckons its queue time from the end of the body.
func TestQueueClock(t *testing.T) {
	for name, trusted := range map[string]bool{"ours": false, "of a trusted proxy": true} {
		runBuffered(t, story{name: name, change: func(plan *conf.Core) {
			if trusted {
				plan.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
		}, app: func(a *appSide) {
			_, _, req := a.request()
			a.say("HTTP/1.1 200 OK\r\n\r\n", req.Header.Get("X-Request-Start"))
		}, client: func(c *clientSide) {
			c.say(request("POST / HTTP/1.1", "Content-Length: 10", "X-Request-Start: t=1000"), "hello")
			for c.arena.Stats().Spools == 0 {
				c.yield()
			}
			begun := time.Now()
			for asked := begun; begun.UnixMilli() <= asked.UnixMilli()+1; begun = time.Now() {
				c.yield()
			}
			c.say("world")
			_, text := c.reply("POST")
			start, err := strconv.ParseInt(strings.TrimPrefix(text, "t="), 10, 64)
			if err != nil || (start >= begun.UnixMilli()) == trusted || trusted && start != 1000 {
				c.fail("%q, but the end was sent after %d", text, begun.UnixMilli())
			}
		}})
	}
}

// TestSpoolFull: with no room the oldest request is sent as it comes; another one waits, and
// has its turn when there is room, or is refused in the end.
func TestSpoolFull(t *testing.T) {
	body := long(1 << 20)
	half, rest := post(body)[:700000], post(body)[700000:]
	begun := make(chan struct{}, 1)
	app := func(a *appSide) {
		if a.accepted.Load() == 1 {
			begun <- struct{}{}
		}
		echo(a)
	}
	second := func(c *clientSide) *clientSide {
		c.say(half)
		<-begun
		other := c.dial()
		go func() { _, _ = io.WriteString(other.Conn, half) }() // as much as it may
		for c.arena.Stats().Apps[0].Waiting == 0 {
			c.yield()
		}
		return other
	}
	runBuffered(t, story{name: "has room in the end", change: scarce, app: app, client: func(c *clientSide) {
		other := c.dial()
		defer other.Close()
		c.say(half)
		<-begun
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(other.Conn, half+rest)
			sent <- err
		}()
		for c.arena.Stats().Apps[0].Waiting == 0 {
			c.yield()
		}
		c.say(rest)
		c.want("POST", 200, body)
		other.want("POST", 200, body)
		if err := <-sent; err != nil {
			c.fail("%v", err)
		}
		c.logged(`"status":200`, `"spool":"full"`)
		if n := c.counted(board.Overflowed); n != 2 {
			c.fail("%d were sent as they came", n)
		}
	}})
	runBuffered(t, story{name: "is refused", change: func(plan *conf.Core) {
		scarce(plan)
		plan.Limits.BodyIdle = 300 * ms
	}, app: func(a *appSide) {
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, a.r) // until the client leaves
	}, client: func(c *clientSide) {
		other := second(c)
		defer other.Close()
		over := make(chan struct{})
		defer close(over)
		go c.trickle(rest, over)
		c.logged(`"request answered"`, `"status":503`, `"cause":"spool.per_app of the app is used up"`)
		other.want("POST", 503, "503 Service Unavailable: spool.per_app of the app is used up\n")
	}})
	runBuffered(t, story{name: "is refused for all apps", change: func(plan *conf.Core) {
		plan.Spool = conf.Spool{Bytes: 256 << 10, AppBytes: 1 << 20}
		plan.Limits.BodyIdle = 300 * ms
	}, app: func(a *appSide) {
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, a.r) // until the client leaves
	}, client: func(c *clientSide) {
		other := second(c)
		defer other.Close()
		over := make(chan struct{})
		defer close(over)
		go c.trickle(rest, over)
		c.logged(`"request answered"`, `"status":503`, `"cause":"spool is full"`)
	}})
	runBuffered(t, story{name: "leaves", change: scarce, app: app, client: func(c *clientSide) {
		other := second(c)
		other.reset()
		c.logged(`"request answered"`, `"status":0`, `"cause":"client gone"`)
		c.say(rest)
		c.want("POST", 200, body)
	}})
}

// TestDrainedReplies: an app is rid of a reply whose client does not read, and the client
// has all of it when it does.
func TestDrainedReplies(t *testing.T) {
	body := long(10 << 20)
	rid := make(chan struct{}, 1)
	for name, say := range map[string]string{
		"length":      "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body,
		"chunks":      "Transfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n" + strings.TrimSuffix(inChunks(body, 100000), "\r\n") + "Sum: 7\r\n\r\n",
		"small":       "Transfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n" + strings.TrimSuffix(inChunks(body, 1000), "\r\n") + "Sum: 7\r\n\r\n",
		"until close": "Connection: close\r\n\r\n" + body,
	} {
		runBuffered(t, story{name: name, app: func(a *appSide) {
			a.request()
			a.say("HTTP/1.1 200 OK\r\n", say)
			if name != "until close" {
				a.ended()
			}
			a.Close()
			rid <- struct{}{}
		}, client: func(c *clientSide) {
			c.say(get())
			<-rid
			resp := c.want("GET", 200, body)
			if len(resp.TransferEncoding) > 0 && name != "until close" && resp.Trailer.Get("Sum") != "7" {
				c.fail("trailer %v", resp.Trailer)
			}
			if c.counted(board.Drained) != 1 {
				c.fail("%d were drained", c.counted(board.Drained))
			}
			c.say(get())
			<-rid
			c.want("GET", 200, body)
		}})
	}
}

// TestRepliesThatWait: what must not go through the spool, or has no room there, waits for
// its client at the app.
func TestRepliesThatWait(t *testing.T) {
	body := long(10 << 20)
	blocked := make(chan bool, 1)
	for name, c := range map[string]struct {
		field  string
		change func(*conf.Core)
	}{
		"events":        {field: "Content-Type: Text/Event-Stream; charset=utf-8"},
		"by the app":    {field: "X-Accel-Buffering: No"},
		"no room":       {field: "A: b", change: scarce},
		"not buffered":  {field: "A: b", change: func(plan *conf.Core) { plan.Sites[0].Routes[0].Buffer = false }},
		"room for none": {field: "A: b", change: func(plan *conf.Core) { plan.Spool = conf.Spool{Bytes: 1 << 20, AppBytes: 8 << 10} }},
	} {
		runBuffered(t, story{name: name, change: c.change, app: func(a *appSide) {
			a.request()
			a.say("HTTP/1.1 200 OK\r\n", c.field, "\r\nContent-Length: ", strconv.Itoa(len(body)), "\r\n\r\n")
			_ = a.SetWriteDeadline(time.Now().Add(300 * ms))
			n, err := io.WriteString(a.Conn, body)
			blocked <- errors.Is(err, os.ErrDeadlineExceeded)
			_ = a.SetWriteDeadline(time.Now().Add(patience))
			a.say(body[n:])
		}, client: func(side *clientSide) {
			side.say(get())
			if !<-blocked {
				side.fail("the app is rid of its reply")
			}
			resp := side.want("GET", 200, body)
			if resp.Header["X-Accel-Buffering"] != nil {
				side.fail("%v", resp.Header)
			}
			if short := strings.HasSuffix(name, "none"); short != (side.counted(board.Clogged) == 1) {
				side.fail("%d were held", side.counted(board.Clogged))
			}
		}})
	}
}

// TestDrainsThatEnd: the client leaves, or the app does.
func TestDrainsThatEnd(t *testing.T) {
	ended := make(chan struct{}, 1)
	piece := long(100000)
	endless := func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\n\r\n")
		for err := error(nil); err == nil; {
			_, err = io.WriteString(a.Conn, piece)
		}
		ended <- struct{}{}
	}
	runBuffered(t, story{name: "client leaves", app: endless, client: func(c *clientSide) {
		c.say(get())
		for c.arena.Stats().Used < 8<<20 {
			c.yield()
		}
		c.Close()
		<-ended
		c.logged(`"request answered"`, `"cause":"client gone"`)
	}})
	runBuffered(t, story{name: "client leaves, app is silent", app: func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\n\r\n", long(10<<20))
		ended <- struct{}{}
		begun := time.Now()
		_ = a.SetReadDeadline(begun.Add(patience))
		_, _ = a.Read(make([]byte, 1)) // the end, or a reset: the last piece may not have been read
		if time.Since(begun) > patience/2 {
			a.fail("the app was cut only by its limit")
		}
		ended <- struct{}{}
	}, client: func(c *clientSide) {
		c.say(get())
		<-ended
		c.Close()
		<-ended
	}})
	runBuffered(t, story{name: "client takes nothing", app: endless, change: func(plan *conf.Core) { plan.Limits.WriteIdle = 50 * ms }, client: func(c *clientSide) {
		c.say(get())
		<-ended
		c.logged(`"request answered"`, `"cause":"client gone"`)
		c.broken("GET")
	}})
	runBuffered(t, story{name: "app dies", app: func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", long(10<<20))
		a.Close()
		ended <- struct{}{}
	}, client: func(c *clientSide) {
		c.say(get())
		<-ended
		c.broken("GET")
		c.logged(`"app failed"`)
		c.logged(`"request answered"`, `"cause":"body shorter than announced"`)
	}})
	runBuffered(t, story{name: "says too much", change: func(plan *conf.Core) { plan.Apps[0].Keepalive = 1 }, app: func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", long(5000000), "more")
		a.ended()
		ended <- struct{}{}
	}, client: func(c *clientSide) {
		c.say(get())
		<-ended
		c.want("GET", 200, long(5000000))
		c.logged(`"app failed"`, `bytes behind the end of the reply`)
	}})
}

// TestClientCatchesUp: a client that was slow and is not any more has the reply from the app
// again, and may be slow once more.
func TestClientCatchesUp(t *testing.T) {
	goOn := make(chan bool, 1) // with a word, or else a long part
	part := long(6 << 20)
	runBuffered(t, story{name: "catches up", app: func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\n\r\n", part)
		for word := range goOn {
			if !word {
				a.say(part)
				continue
			}
			a.say("hello")
		}
	}, client: func(c *clientSide) {
		const times = 3
		c.say(get())
		var resp *http.Response
		b := make([]byte, len(part))
		for i := range times {
			for c.counted(board.Drained) == uint64(i) {
				c.yield()
			}
			if resp == nil {
				var err error
				if resp, err = http.ReadResponse(c.r, nil); err != nil {
					c.fail("%v", err)
				}
			}
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != part {
				c.fail("%v", err)
			}
			for direct := false; !direct; direct = c.arena.Stats().Spools == 0 {
				goOn <- true
				if _, err := io.ReadFull(resp.Body, b[:5]); err != nil || string(b[:5]) != "hello" {
					c.fail("%q %v", b[:5], err)
				}
			}
			if i < times-1 {
				goOn <- false
			}
		}
		close(goOn)
		if b, err := io.ReadAll(resp.Body); len(b) > 0 || err != nil {
			c.fail("%q %v", b, err)
		}
		goOn = make(chan bool, 1)
	}})
}

// TestDrainedEvents: what an app says bit by bit comes bit by bit, also when it has gone
// through the spool.
func TestDrainedEvents(t *testing.T) {
	heard := make(chan struct{}, 1)
	first := long(5 << 20)
	runBuffered(t, story{name: "events", app: func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\n\r\n", first)
		for range 10 {
			<-heard
			a.say("event")
		}
	}, client: func(c *clientSide) {
		c.say(get())
		for c.counted(board.Drained) == 0 {
			c.yield()
		}
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			c.fail("%v", err)
		}
		b := make([]byte, len(first))
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != first {
			c.fail("%v", err)
		}
		for range 10 {
			heard <- struct{}{}
			if _, err := io.ReadFull(resp.Body, b[:5]); err != nil || string(b[:5]) != "event" {
				c.fail("%q %v", b[:5], err)
			}
		}
		if b, err := io.ReadAll(resp.Body); len(b) > 0 || err != nil {
			c.fail("%q %v", b, err)
		}
	}})
}
