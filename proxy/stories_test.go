package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sallyport/conf"
)

// ok is the reply of an app that has nothing to say.
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// replies is an app that reads a request and says text.
func replies(text string) func(*appSide) {
	return func(a *appSide) {
		a.request()
		a.say(text)
	}
}

// echo is an app that sends back what it read, after it read all.
func echo(a *appSide) {
	_, body, _ := a.request()
	a.say("HTTP/1.1 200 OK\r\nContent-Length: ", strconv.Itoa(len(body)), "\r\n\r\n", body)
}

// tenMiB is 10 MiB in which no two places look alike.
var tenMiB = sync.OnceValue(func() string {
	b := make([]byte, 0, 10<<20+32)
	for i := int64(0); len(b) < 10<<20; i++ {
		b = append(strconv.AppendInt(b, i, 10), ',')
	}
	return string(b[:10<<20])
})

func inChunks(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

func post(body string) string {
	return request("POST / HTTP/1.1", "Content-Length: "+strconv.Itoa(len(body))) + body
}

func TestBodies(t *testing.T) {
	long := tenMiB()
	for name, body := range map[string]string{"none": "", "small": "hello", "4 KiB": long[:4096], "16 KiB": long[:16384], "70 KB": long[:70000], "10 MiB": long} {
		run(t, story{name: "length, " + name, app: echo, client: func(c *clientSide) {
			c.say(post(body))
			c.want("POST", 200, body)
			c.say(post("again"))
			c.want("POST", 200, "again")
		}})
		for _, size := range []int{1 << 20, 4096, 13} {
			if len(body)/size > 100000 {
				continue
			}
			run(t, story{name: fmt.Sprintf("chunks of %d, %s", size, name), app: echo, client: func(c *clientSide) {
				c.say(request("POST / HTTP/1.1", "Transfer-Encoding: chunked"), inChunks(body, size))
				c.want("POST", 200, body)
				c.say(post("again"))
				c.want("POST", 200, "again")
			}})
			run(t, story{
				name: fmt.Sprintf("reply in chunks of %d, %s", size, name),
				app:  replies("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + inChunks(body, size)),
				client: func(c *clientSide) {
					c.say(get(), get())
					c.want("GET", 200, body)
					c.want("GET", 200, body)
				},
			})
		}
		run(t, story{
			name: "reply until close, " + name,
			app:  replies("HTTP/1.1 200 OK\r\n\r\n" + body),
			client: func(c *clientSide) {
				c.say(get(), get())
				c.want("GET", 200, body)
				c.want("GET", 200, body)
			},
		})
	}
}

func TestExchanges(t *testing.T) {
	app := replies(ok)
	run(t, story{name: "get", client: func(c *clientSide) {
		c.say(get())
		resp := c.want("GET", 200, "ok")
		if resp.Header.Get("Date") == "" || resp.Header.Get("Connection") != "" || resp.Close {
			c.fail("fields: %v", resp.Header)
		}
		c.logged(`"request answered"`, `"status":200`, `"reply_bytes":2`, `"app":"app"`)
	}, app: app})
	run(t, story{name: "pipelined", app: echo, client: func(c *clientSide) {
		c.say(post("1"), post("2"), get(), post("4"), post("5"))
		for _, body := range []string{"1", "2", "", "4", "5"} {
			c.want("POST", 200, body)
		}
	}})
	run(t, story{name: "one and a half", app: echo, client: func(c *clientSide) {
		second := post("second")
		for cut := 1; cut < len(second); cut += 7 {
			c.say(post("first"), second[:cut])
			c.want("POST", 200, "first")
			c.say(second[cut:])
			c.want("POST", 200, "second")
		}
	}})
	run(t, story{name: "byte by byte", app: echo, client: func(c *clientSide) {
		for _, b := range []byte("\r\n" + post("hello") + "\r\n" + request("POST / HTTP/1.1", "Transfer-Encoding: chunked") +
			"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n") {
			c.say(string(b))
		}
		c.want("POST", 200, "hello")
		c.want("POST", 200, "hello!")
	}})
	run(t, story{name: "reply byte by byte", app: func(a *appSide) {
		a.request()
		for _, b := range []byte("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n") {
			a.say(string(b))
		}
	}, client: func(c *clientSide) {
		c.say(get())
		if resp := c.want("GET", 103, ""); resp.Header.Get("Link") != "x" {
			c.fail("103: %v", resp.Header)
		}
		if resp := c.want("GET", 200, "abc"); resp.Trailer.Get("A") != "b" {
			c.fail("trailer: %v", resp.Trailer)
		}
	}})
}

func TestTrailers(t *testing.T) {
	run(t, story{name: "request", live: true, app: func(a *appSide) {
		_, body, req := a.request()
		a.say("HTTP/1.1 200 OK\r\n\r\n", body, req.Trailer.Get("Sum"), fmt.Sprint(len(req.Trailer)))
	}, client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Trailer: Sum"), "2\r\nhi\r\n0\r\nSum: 7\r\nX_Real_IP: 1.2.3.4\r\n\r\n", get())
		c.want("POST", 200, "hi71")
		c.want("GET", 200, "0")
	}})
	run(t, story{
		name: "reply", app: replies("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n2\r\nhi\r\n0\r\nSum: 7\r\n\r\n"),
		client: func(c *clientSide) {
			c.say(get())
			if resp := c.want("GET", 200, "hi"); resp.Trailer.Get("Sum") != "7" {
				c.fail("trailer: %v", resp.Trailer)
			}
		},
	})
	run(t, story{
		name: "reply of HTTP/1.0", h1: true, app: replies("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n2\r\nhi\r\n0\r\nSum: 7\r\n\r\n"),
		client: func(c *clientSide) {
			c.say("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n")
			c.want("GET", 200, "hi")
			c.ended()
		},
	})
}

func TestRepliesWithoutBody(t *testing.T) {
	for _, c := range []struct {
		method, reply string
		status        int
		length        string
	}{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", 200, "1234"},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, ""},
		{"HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, ""},
		{"HEAD", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
		{"HEAD", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "5"},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
		{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, ""},
		{"GET", "HTTP/1.1 304 Not Modified\r\n\r\n", 304, ""},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n", 304, "77"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, ""},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "0"},
		{"GET", "HTTP/1.0 200\r\nContent-Length: 0\r\n\r\n", 200, "0"},
	} {
		run(t, story{name: c.method + " " + c.reply[9:], app: replies(c.reply), client: func(client *clientSide) {
			client.say(request(c.method+" / HTTP/1.1"), request(c.method+" / HTTP/1.1"))
			for range 2 {
				resp := client.want(c.method, c.status, "")
				if got := strings.Join(resp.Header["Content-Length"], "|"); got != c.length || resp.Close {
					client.fail("content-length %q, want %q; close %v", got, c.length, resp.Close)
				}
			}
		}})
	}
}

func TestHTTP10(t *testing.T) {
	const ask, keep = "GET / HTTP/1.0\r\nHost: app.test\r\n\r\n", "GET / HTTP/1.0\r\nHost: app.test\r\nConnection: Keep-Alive\r\n\r\n"
	run(t, story{name: "closes", h1: true, app: replies(ok), client: func(c *clientSide) {
		c.say(ask)
		if resp := c.want("GET", 200, "ok"); !resp.Close {
			c.fail("connection: %v", resp.Header)
		}
		c.ended()
	}})
	run(t, story{name: "keep-alive", h1: true, app: replies(ok), client: func(c *clientSide) {
		for range 3 {
			c.say(keep)
			if resp := c.want("GET", 200, "ok"); resp.Header.Get("Connection") != "keep-alive" {
				c.fail("connection: %v", resp.Header)
			}
		}
	}})
	run(t, story{name: "keep-alive without a length", h1: true, client: func(c *clientSide) {
		c.say(keep, keep)
		if resp := c.want("GET", 200, "body"); !resp.Close || len(resp.TransferEncoding) > 0 {
			c.fail("%v", resp)
		}
		c.ended()
	}, app: replies("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")})
	run(t, story{name: "no 1xx", h1: true, app: replies("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok), client: func(c *clientSide) {
		c.say("POST / HTTP/1.0\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
		c.want("POST", 200, "ok")
	}})
	run(t, story{name: "no upgrade", h1: true, client: func(c *clientSide) {
		c.say("GET / HTTP/1.0\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		c.want("GET", 200, "ok")
	}, app: func(a *appSide) {
		if head, _, _ := a.request(); strings.Contains(strings.ToLower(head), "upgrade") {
			a.fail("upgrade was passed on: %q", head)
		}
		a.say(ok)
	}})
}

func TestInterim(t *testing.T) {
	run(t, story{
		name: "103", app: replies("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: y\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ok),
		client: func(c *clientSide) {
			c.say(get(), get())
			for range 2 {
				c.hear("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
				c.want("GET", 200, "ok")
			}
		},
	})
	run(t, story{name: "too many", app: replies(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20) + ok), client: func(c *clientSide) {
		c.say(get())
		for range 16 {
			c.want("GET", 102, "")
		}
		if resp, _ := c.reply("GET"); resp.StatusCode != 502 {
			c.fail("%v", resp)
		}
		c.logged(`"cause":"too many interim replies"`)
	}})
	expect := func(a *appSide) {
		if head, _, _ := a.request(); strings.Contains(head, "Expect") {
			a.fail("the expectation came through: %q", head)
		}
		a.say("HTTP/1.1 100 Continue\r\n\r\n" + ok) // an app's own is not wanted
	}
	for _, framing := range []string{"Content-Length: 5", "Transfer-Encoding: chunked"} {
		body := "hello"
		if framing[0] == 'T' {
			body = inChunks(body, 3)
		}
		run(t, story{name: "100-continue, " + framing, app: expect, client: func(c *clientSide) {
			for range 2 {
				c.say(request("POST / HTTP/1.1", framing, "Expect: 100-Continue"))
				c.hear("HTTP/1.1 100 Continue\r\n\r\n")
				c.say(body)
				c.want("POST", 200, "ok")
			}
			c.say(request("POST / HTTP/1.1", framing, "Expect: 100-continue"), body) // did not wait
			c.want("POST", 200, "ok")
			c.say(get("Expect: 100-continue")) // nothing to send
			c.want("GET", 200, "ok")
		}})
	}
	run(t, story{name: "100-continue refused", client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", "Content-Length: 99999999999", "Expect: 100-continue"))
		if resp, _ := c.reply("POST"); resp.StatusCode != 413 || !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
		c.logged(`"cause":"body longer than max_body"`)
	}})
	run(t, story{name: "100-continue answered by the app at once", live: true, client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"))
		resp, _ := c.reply("POST")
		for resp.StatusCode == 100 {
			resp, _ = c.reply("POST")
		}
		if resp.StatusCode != 401 || !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
	}, app: func(a *appSide) {
		a.head()
		a.say("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
	}})
}

func TestStreaming(t *testing.T) {
	for name, how := range map[string]struct{ head, first, last string }{
		"chunked":     {"Transfer-Encoding: chunked\r\n", "5\r\nfirst\r\n", "4\r\nlast\r\n0\r\n\r\n"},
		"length":      {"Content-Length: 9\r\n", "first", "last"},
		"until close": {"", "first", "last"},
	} {
		heard := make(chan struct{}, 2)
		run(t, story{name: name, app: func(a *appSide) {
			a.request()
			a.say("HTTP/1.1 200 OK\r\n", how.head, "\r\n")
			<-heard
			a.say(how.first)
			<-heard
			a.say(how.last)
		}, client: func(c *clientSide) {
			c.say(get())
			resp, err := http.ReadResponse(c.r, nil) // the head comes before any body
			if err != nil {
				c.fail("head: %v", err)
			}
			heard <- struct{}{}
			b := make([]byte, 5)
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "first" {
				c.fail("first: %q %v", b, err)
			}
			heard <- struct{}{}
			if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "last" {
				c.fail("last: %q %v", rest, err)
			}
		}})
	}
	run(t, story{name: "both ways", live: true, app: func(a *appSide) {
		a.head()
		a.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 3 {
			a.hear("4\r\nping\r\n")
			a.say("4\r\npong\r\n")
		}
		a.hear("0\r\n\r\n")
		a.say("0\r\n\r\n")
	}, client: func(c *clientSide) {
		c.say(request("POST / HTTP/1.1", "Transfer-Encoding: chunked"))
		c.head()
		for range 3 {
			c.say("4\r\nping\r\n")
			c.hear("4\r\npong\r\n")
		}
		c.say("0\r\n\r\n")
		c.hear("0\r\n\r\n")
		c.ended() // whether the body would ever end was not known when the reply began
	}})
}

func TestConnectionEnds(t *testing.T) {
	run(t, story{
		name: "requests_per_connection", app: replies(ok), change: func(plan *conf.Core) { plan.Limits.RequestsPerConnection = 2 },
		client: func(c *clientSide) {
			c.say(get(), get(), get(), get())
			if resp := c.want("GET", 200, "ok"); resp.Close {
				c.fail("first closes")
			}
			if resp := c.want("GET", 200, "ok"); !resp.Close {
				c.fail("second does not close")
			}
			c.ended()
		},
	})
	run(t, story{name: "connection: close", h1: true, app: replies(ok), client: func(c *clientSide) {
		c.say(get("Connection: foo, Close"), get())
		if resp := c.want("GET", 200, "ok"); !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
	}})
	run(t, story{
		name: "keepalive_idle", app: replies(ok), change: func(plan *conf.Core) { plan.Limits.KeepaliveIdle = 20 * ms },
		client: func(c *clientSide) {
			c.say(get())
			c.want("GET", 200, "ok")
			c.ended()
		},
	})
	run(t, story{
		name: "head_time before the first byte", change: func(plan *conf.Core) { plan.Limits.HeadTime = 20 * ms },
		client: func(c *clientSide) {
			if c.secure {
				return // there it is the handshake that is late
			}
			c.ended()
		},
	})
	run(t, story{
		name: "head_time behind an empty line", h1: true, app: echo, change: func(plan *conf.Core) { plan.Limits.HeadTime = 500 * ms },
		client: func(c *clientSide) {
			c.say(post("hello"), "\r\n") // as old browsers did
			c.want("POST", 200, "hello")
			c.ended() // and no 408, which would be the answer of the next request
		},
	})
	run(t, story{name: "drain", app: replies(ok), client: func(c *clientSide) {
		c.say(get())
		c.want("GET", 200, "ok")
		c.engine.Drain()
		c.ended()
	}})
	asked, drained := make(chan struct{}, 1), make(chan struct{}, 1)
	run(t, story{name: "drain during an exchange", client: func(c *clientSide) {
		c.say(get())
		<-asked
		c.engine.Drain()
		c.told()
		drained <- struct{}{}
		if resp := c.want("GET", 200, "ok"); !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
	}, app: func(a *appSide) {
		a.request()
		asked <- struct{}{}
		<-drained
		a.say(ok)
	}})
}
