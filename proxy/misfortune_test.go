package proxy_test

import (
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/conf"
)

const ms = time.Millisecond

func TestEarlyAnswer(t *testing.T) {
	long := tenMiB()
	tooLarge := func(a *appSide) {
		a.head()
		a.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
	}
	for name, body := range map[string]string{
		"length": post(long),
		"chunks": request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + inChunks(long, 5000),
	} {
		run(t, story{name: name, live: true, app: tooLarge, client: func(c *clientSide) {
			c.say(body) // all of it, before it looks for an answer
			if resp := c.want("POST", 413, "no!"); !resp.Close {
				c.fail("%v", resp)
			}
			c.ended()
		}})
		run(t, story{name: name + ", app that stays", live: true, app: func(a *appSide) {
			tooLarge(a)
			_, _ = io.Copy(io.Discard, io.LimitReader(a.r, 100000))
			_, _ = a.r.Peek(1 << 20)
		}, client: func(c *clientSide) {
			c.say(body[:300000])
			if resp := c.want("POST", 413, "no!"); !resp.Close {
				c.fail("%v", resp)
			}
			c.ended()
		}})
	}
}

func TestClientStops(t *testing.T) {
	for name, body := range map[string]string{
		"length":         request("POST / HTTP/1.1", "Content-Length: 100") + "half",
		"chunks":         request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "4\r\nhalf\r\n",
		"inside a chunk": request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "8\r\nhalf",
	} {
		ended := make(chan error, 1)
		app := func(a *appSide) {
			a.head()
			_, err := io.ReadAll(a.r)
			ended <- err
		}
		run(t, story{name: name + ", leaves", live: true, app: app, client: func(c *clientSide) {
			c.say(body)
			for c.accepted.Load() == 0 {
				c.yield()
			}
			c.Close()
			<-ended
			c.logged(`"request answered"`, `"cause":`)
		}})
		run(t, story{name: name + ", says no more", live: true, half: true, app: app, client: func(c *clientSide) {
			c.say(body)
			if half, ok := c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
				c.fail("no half close")
			}
			<-ended
			resp, text := c.reply("POST")
			if resp.StatusCode != 400 || !resp.Close {
				c.fail("%v %s", resp, text)
			}
			c.ended()
			c.logged(`"request answered"`, `"status":400`, `"cause":"body shorter than announced"`)
		}})
		run(t, story{name: name + ", is silent", live: true, app: app, change: func(plan *conf.Core) { plan.Limits.BodyIdle = 20 * ms }, client: func(c *clientSide) {
			c.say(body)
			<-ended
			if resp, text := c.reply("POST"); resp.StatusCode != 408 || !resp.Close {
				c.fail("%v %s", resp, text)
			}
			c.ended()
			c.logged(`"cause":"body silent for limits.body_idle"`)
		}})
	}
}

// TestSlowBody: a body of many small pieces, none of them late, is refused when it is
// slower than limits.body_rate for twice limits.body_idle.
func TestSlowBody(t *testing.T) {
	slow := func(plan *conf.Core) { plan.Limits.BodyIdle, plan.Limits.BodyRate = 200*ms, 10000 }
	for name, pieces := range map[string][2]string{
		"length": {request("POST / HTTP/1.1", "Content-Length: 1000000"), "x"},
		"chunks": {request("POST / HTTP/1.1", "Transfer-Encoding: chunked"), "1\r\nx\r\n"},
	} {
		ended := make(chan error, 1)
		run(t, story{name: name, live: true, change: slow, app: func(a *appSide) {
			a.head()
			_, err := io.ReadAll(a.r)
			ended <- err
		}, client: func(c *clientSide) {
			c.say(pieces[0])
			beat := time.NewTicker(20 * ms)
			defer beat.Stop()
			for over := false; !over; {
				select {
				case <-beat.C:
					_, _ = io.WriteString(c.Conn, pieces[1]) // refused already, at the end
				case <-ended:
					over = true
				}
			}
			if resp, text := c.reply("POST"); resp.StatusCode != 408 || !resp.Close {
				c.fail("%v %s", resp, text)
			}
			c.logged(`"request answered"`, `"status":408`, `"cause":"body slower than limits.body_rate"`)
		}})
	}
	// An app that lets a client wait does not make it a slow one.
	stall := time.Second
	run(t, story{name: "slow app", change: func(plan *conf.Core) {
		plan.Limits.BodyIdle, plan.Limits.BodyRate = 200*ms, 4<<20 // less than a client of QUIC sends under the race detector
	}, app: func(a *appSide) {
		head := a.head()
		<-time.After(stall) // with 10 MiB before us, of which the sockets hold a part
		req, err := http.ReadRequest(newReader(head, a.r))
		if err != nil {
			a.fail("%v", err)
		}
		if n, err := io.Copy(io.Discard, req.Body); n != int64(len(tenMiB())) || err != nil {
			a.fail("%d bytes: %v", n, err)
		}
		a.say(ok)
	}, client: func(c *clientSide) {
		c.say(post(tenMiB()))
		c.want("POST", 200, "ok")
	}})
}

func TestAppDies(t *testing.T) {
	for name, reply := range map[string]string{
		"in a length":       "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"in a chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
		"between chunks":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"in the trailer":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nA: b",
		"malformed chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nxx\r\n",
		"overlong chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf!!\r\n0\r\n\r\n",
		"forbidden trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nContent-Length: 4\r\n\r\n",
	} {
		run(t, story{name: name, app: replies(reply), client: func(c *clientSide) {
			c.say(get())
			c.broken("GET")
			c.logged(`"app failed"`, `"cause":`)
			c.logged(`"request answered"`, `"status":200`, `"cause":`)
		}})
	}
	run(t, story{name: "client of HTTP/1.0", h1: true, app: replies("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), client: func(c *clientSide) {
		c.say("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n")
		c.broken("GET") // by a reset: it has nothing else to tell by
	}})
	run(t, story{name: "in a large body", app: replies("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 5000000)), client: func(c *clientSide) {
		c.say(get())
		c.broken("GET")
	}})
	run(t, story{name: "is silent in mid-reply", change: func(plan *conf.Core) { plan.Apps[0].Idle = 50 * ms }, client: func(c *clientSide) {
		c.say(get())
		c.broken("GET")
		c.logged(`"app failed"`, `no answer in time`)
	}, app: func(a *appSide) {
		a.request()
		a.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		a.ended()
	}})
}

// TestClientDoesNotRead: write_idle ends a reply that nobody takes, and the app is
// free again.
func TestClientDoesNotRead(t *testing.T) {
	for name, head := range map[string]string{"length": "Content-Length: 999999999\r\n", "until close": ""} {
		run(t, story{name: name, change: func(plan *conf.Core) { plan.Limits.WriteIdle = 50 * ms }, client: func(c *clientSide) {
			c.say(get())
			c.logged(`"request answered"`, `"cause":"client gone"`)
			c.broken("GET")
		}, app: func(a *appSide) {
			a.request()
			a.say("HTTP/1.1 200 OK\r\n", head, "\r\n")
			piece := strings.Repeat("x", 100000)
			for {
				if _, err := io.WriteString(a.Conn, piece); err != nil {
					return
				}
			}
		}})
	}
	run(t, story{name: "in a tunnel", change: func(plan *conf.Core) { plan.Limits.WriteIdle = 50 * ms }, client: func(c *clientSide) {
		c.say(get("Connection: upgrade", "Upgrade: websocket"))
		c.logged(`"request answered"`, `"status":101`, `"cause":"client gone"`)
	}, app: func(a *appSide) {
		a.say(switchingFor(a.head()))
		piece := strings.Repeat("x", 100000)
		for {
			if _, err := io.WriteString(a.Conn, piece); err != nil {
				return
			}
		}
	}})
}

func TestFaults(t *testing.T) {
	for name, s := range map[string]struct {
		change func(*conf.Core)
		app    func(*appSide)
		status int
		parts  []string
	}{
		"absent": {
			change: func(plan *conf.Core) { plan.Apps[0].Sockets[0] += "-absent" },
			status: 502, parts: []string{`"errno":"ENOENT"`, `there is no such socket`, "-absent"},
		},
		"refused": {
			change: func(plan *conf.Core) { deaf(plan) },
			status: 502, parts: []string{`"errno":"ECONNREFUSED"`, `"hint":`},
		},
		"hangs up": {
			app:    func(a *appSide) { a.head() },
			status: 502, parts: []string{`"cause":"app app: read unix:`, `connection closed`, `"hint":"the app closed the connection`},
		},
		"hangs up with bytes unread": {
			app:    func(a *appSide) {},
			status: 502, parts: []string{`"app failed"`, `"hint":"the app closed the connection`},
		},
		"half a head": {
			app:    replies("HTTP/1.1 200 OK\r\nContent-Le"),
			status: 502, parts: []string{`"app failed"`},
		},
		"drips a head": {
			change: func(plan *conf.Core) { plan.Apps[0].Idle = 200 * ms },
			app:    drips("HTTP/1.1 200 OK\r\nA: ", "b"),
			status: 504, parts: []string{`"app failed"`, `no answer in time`},
		},
		"late": {
			change: func(plan *conf.Core) { plan.Apps[0].FirstByte = 20 * ms },
			app:    func(a *appSide) { a.head(); a.ended() },
			status: 504, parts: []string{`"app failed"`, `no answer in time`, `raise timeout.first_byte`},
		},
	} {
		run(t, story{name: name, change: s.change, app: s.app, client: func(c *clientSide) {
			for range 2 { // the client keeps its connection
				c.say(get())
				if resp, text := c.reply("GET"); resp.StatusCode != s.status || resp.Close {
					c.fail("%v %s", resp, text)
				}
				c.logged(append(s.parts, `"app failed"`)...)
			}
		}})
	}
}

// drips is an app that says something, and then the same again and again, until it is
// left alone.
func drips(say, again string) func(*appSide) {
	return func(a *appSide) {
		a.head()
		beat := time.NewTicker(20 * ms)
		defer beat.Stop()
		for _, err := io.WriteString(a.Conn, say); err == nil; _, err = io.WriteString(a.Conn, again) {
			<-beat.C
		}
	}
}

// deaf binds a socket that nobody listens on.
func deaf(plan *conf.Core) {
	plan.Apps[0].Sockets[0] += "-deaf"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: plan.Apps[0].Sockets[0]})
	if err != nil {
		panic(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestRetry(t *testing.T) {
	run(t, story{name: "a second member", spare: true, app: echo, client: func(c *clientSide) {
		c.say(post("hello"), get())
		c.want("POST", 200, "hello")
		c.want("GET", 200, "")
	}})
	for name, s := range map[string]struct {
		request string
		asked   int64
	}{
		"GET":          {get(), 2},
		"HEAD":         {request("HEAD / HTTP/1.1"), 2},
		"POST":         {request("POST / HTTP/1.1", "Content-Length: 0"), 1},
		"POST of five": {post("hello"), 1},
		"DELETE":       {request("DELETE / HTTP/1.1"), 1},
		"GET of five":  {request("GET / HTTP/1.1", "Content-Length: 5") + "hello", 1},
	} {
		run(t, story{name: name, client: func(c *clientSide) {
			c.say(s.request)
			if resp, _ := c.reply("HEAD"); resp.StatusCode != 502 || c.accepted.Load() != s.asked {
				c.fail("%v; asked %d times, want %d", resp, c.accepted.Load(), s.asked)
			}
		}, app: func(a *appSide) { a.request() }})
	}
	run(t, story{name: "not after a byte", client: func(c *clientSide) {
		c.say(get())
		if resp, _ := c.reply("GET"); resp.StatusCode != 502 || c.accepted.Load() != 1 {
			c.fail("%v; asked %d times", resp, c.accepted.Load())
		}
	}, app: replies("H")})
	run(t, story{name: "second time lucky", client: func(c *clientSide) {
		c.say(get())
		c.want("GET", 200, "ok")
	}, app: func(a *appSide) {
		a.request()
		if a.accepted.Load() > 1 {
			a.say(ok)
		}
	}})
}

func TestMalformedReplies(t *testing.T) {
	for _, reply := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok" + ok,
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
		"HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA\r\n\r\n",
		"HTTP/1.1 99 Low\r\n\r\n",
		"HTTP/1.1 600 High\r\n\r\n",
		"HTTP/1.1 20 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n",
		"HTTP/2.0 200 OK\r\n\r\n",
		"http/1.1 200 OK\r\n\r\n",
		"ICY 200 OK\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n",
		"\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nCookie: " + strings.Repeat("x", 70<<10) + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 140) + "\r\n",
	} {
		run(t, story{name: reply[:min(60, len(reply))], app: replies(reply), client: func(c *clientSide) {
			c.say(post("body"))
			resp, text := c.reply("POST")
			if resp.StatusCode != 502 || resp.Close || strings.Contains(text, "ok") {
				c.fail("%v %q", resp, text)
			}
			c.logged(`"app failed"`)
			c.say(post("body"))
			if resp, _ := c.reply("POST"); resp.StatusCode != 502 {
				c.fail("%v", resp)
			}
		}})
	}
}

// switchingFor is the answer of an app that takes up a WebSocket (RFC 6455, section 4.2.2).
func switchingFor(head string) string {
	_, key, _ := strings.Cut(head, "Sec-WebSocket-Key: ")
	key, _, _ = strings.Cut(key, "\r\n")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
}

func TestTunnels(t *testing.T) {
	const ask = "Sec-WebSocket-Key: k"
	upgrade := get("Connection: keep-alive, Upgrade", "Upgrade: websocket", ask)
	app := func(a *appSide) {
		head := a.head()
		if !strings.Contains(head, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n") || !strings.Contains(head, "\r\nSec-WebSocket-Key: ") {
			a.fail("head %q", head)
		}
		a.say(switchingFor(head), "early app")
		a.hear("early client")
		a.say("hello client")
		a.hear("hello app")
	}
	run(t, story{name: "both ways", client: func(c *clientSide) {
		c.say(upgrade, "early client")
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 Switching Protocols\r\n") ||
			!strings.HasSuffix(head, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n") {
			c.fail("head %q", head)
		}
		c.hear("early app")
		c.hear("hello client")
		c.say("hello app")
		c.ended()
		c.logged(`"status":101`)
	}, app: app})
	long := tenMiB()
	run(t, story{name: "10 MiB each way", client: func(c *clientSide) {
		c.say(upgrade)
		c.head()
		said := make(chan error, 1)
		go func() { _, err := io.WriteString(c.Conn, long); said <- err }()
		c.hear(long)
		if err := <-said; err != nil {
			c.fail("%v", err)
		}
		c.ended()
	}, app: func(a *appSide) {
		a.say(switchingFor(a.head()))
		said := make(chan error, 1)
		go func() { _, err := io.WriteString(a.Conn, long); said <- err }()
		a.hear(long)
		if err := <-said; err != nil {
			a.fail("%v", err)
		}
	}})
	run(t, story{name: "the client stops talking", client: func(c *clientSide) {
		c.say(upgrade)
		c.head()
		c.say("bye")
		if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			c.fail("%v", err)
		}
		c.hear("still here")
		c.ended()
	}, app: func(a *appSide) {
		a.say(switchingFor(a.head()))
		a.hear("bye")
		a.ended()
		a.say("still here")
	}})
	run(t, story{name: "the client leaves", client: func(c *clientSide) {
		c.say(upgrade)
		c.head()
		c.Close()
	}, app: func(a *appSide) {
		a.say(switchingFor(a.head()))
		a.ended()
	}})
	run(t, story{name: "the client is reset", client: func(c *clientSide) {
		c.say(upgrade)
		c.head()
		c.reset()
		c.logged(`"status":101`)
	}, app: func(a *appSide) {
		a.say(switchingFor(a.head()))
		a.ended()
	}})
	run(t, story{name: "the app leaves while the client talks", client: func(c *clientSide) {
		c.say(upgrade)
		c.head()
		c.hear("bye")
		for range 100 {
			if _, err := io.WriteString(c.Conn, "x"); err != nil {
				return
			}
		}
	}, app: func(a *appSide) {
		a.say(switchingFor(a.head()), "bye")
	}})
	run(t, story{name: "not taken up", h1: true, app: replies(ok), client: func(c *clientSide) {
		c.say(upgrade, get())
		c.want("GET", 200, "ok")
		c.want("GET", 200, "ok")
	}})
	for _, other := range []string{
		get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
		get("Connection: Upgrade", "Upgrade: H2C"),
		get("Connection: Upgrade", "Upgrade: websocket, h2c"),
		get("Upgrade: websocket"),
		request("POST / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 2") + "hi",
	} {
		run(t, story{name: "not passed on", h1: true, app: func(a *appSide) {
			if head, _, _ := a.request(); strings.Contains(head, "Upgrade:") || strings.Contains(head, "HTTP2") {
				a.fail("head %q", head)
			}
			a.say(ok)
		}, client: func(c *clientSide) {
			c.say(other)
			c.want("POST", 200, "ok")
		}})
	}
}
