package proxy_test

import (
	"strings"
	"testing"

	"sallyport/conf"
)

func keeping(plan *conf.Core) { plan.Apps[0].Keepalive = 4 }

// TestKeepalive: many clients' requests go over one connection, whose app is not told
// to close it, and whose own fields are not the client's business.
func TestKeepalive(t *testing.T) {
	run(t, story{name: "reuse", change: keeping, app: func(a *appSide) {
		for {
			if _, err := a.r.Peek(1); err != nil {
				return
			}
			if head, body, _ := a.request(); strings.Contains(head, "Connection:") || len(body) > 2 {
				a.fail("asked %q %q", head, body)
			}
			a.say("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok")
		}
	}, client: func(c *clientSide) {
		for range 3 {
			other := c.dial()
			for range 3 {
				other.say(get())
				if resp := other.want("GET", 200, "ok"); resp.Header.Get("Keep-Alive") != "" {
					c.fail("%v", resp)
				}
				other.say(request("POST / HTTP/1.1", "Content-Length: 2"), "ab")
				other.want("POST", 200, "ok")
			}
			other.Close()
		}
		if n := c.accepted.Load(); n > 3 { // a new client may be there before the release of the last one
			c.fail("%d connections to the app", n)
		}
	}})
	// What follows a reply is not the next client's.
	run(t, story{name: "surplus", change: keeping, app: func(a *appSide) {
		a.request()
		a.say(ok, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
		a.ended()
	}, client: func(c *clientSide) {
		for range 5 {
			c.say(get())
			c.want("GET", 200, "ok")
		}
		c.logged(`"app failed"`, `bytes behind the end of the reply`, `"hint":"its content-length is too small`)
	}})
}
