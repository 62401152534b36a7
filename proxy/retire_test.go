package proxy_test

import (
	"io"
	"testing"
	"time"
)

// TestRetire: a connection of an engine that was replaced has one more answer, which
// says that it is the last.
func TestRetire(t *testing.T) {
	run(t, story{name: "an idle connection", app: replies(ok), client: func(c *clientSide) {
		c.say(get())
		c.want("GET", 200, "ok")
		c.engine.Retire()
		c.say(get())
		if resp := c.want("GET", 200, "ok"); !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
	}})
	run(t, story{name: "a connection without a request", app: replies(ok), client: func(c *clientSide) {
		c.engine.Retire()
		c.say(get())
		if resp := c.want("GET", 200, "ok"); !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
	}})
	run(t, story{name: "then drained", app: replies(ok), client: func(c *clientSide) {
		c.say(get())
		c.want("GET", 200, "ok")
		c.engine.Retire()
		c.engine.Drain()
		c.ended()
	}})
	for range 20 { // the loop may or may not have seen the request, and the answer may have been said before
		run(t, story{name: "a request that is there", app: replies(ok), client: func(c *clientSide) {
			c.say(get())
			c.want("GET", 200, "ok")
			c.say(get())
			c.arrived()
			c.engine.Drain()
			c.want("GET", 200, "ok")
			c.ended()
		}})
	}
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

func upgrade() string { return request("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: echo") }

// TestCut: exchanges and tunnels are cut apart from each other.
func TestCut(t *testing.T) {
	repeat := func(a *appSide) {
		a.request()
		a.say(switching)
		_, _ = io.Copy(a.Conn, a.r) // the client sees what comes back
	}
	run(t, story{name: "exchanges, but no tunnel", app: repeat, client: func(c *clientSide) {
		c.say(upgrade())
		c.head()
		c.engine.Retire()
		over, cut := c.engine.CutExchanges()
		if cut != 0 {
			c.fail("%d were cut", cut)
		}
		c.say("hello")
		c.hear("hello")
		select {
		case <-over:
			c.fail("there is a tunnel")
		default:
		}
		c.Close()
		c.over(over)
	}})
	run(t, story{name: "tunnels", app: repeat, client: func(c *clientSide) {
		c.say(upgrade())
		c.head()
		c.say("hello")
		c.hear("hello") // it is one by now
		if cut := c.engine.CutTunnels(); cut != 1 {
			c.fail("%d were cut", cut)
		}
		c.broken("GET")
		over, _ := c.engine.CutExchanges()
		c.over(over)
	}})
	asked, cut := make(chan struct{}, 1), make(chan struct{}, 1)
	run(t, story{name: "an exchange", client: func(c *clientSide) {
		c.say(get())
		<-asked
		if tunnels := c.engine.CutTunnels(); tunnels != 0 {
			c.fail("%d tunnels", tunnels)
		}
		over, exchanges := c.engine.CutExchanges()
		cut <- struct{}{}
		if exchanges != 1 {
			c.fail("%d exchanges", exchanges)
		}
		c.broken("GET")
		c.over(over)
	}, app: func(a *appSide) {
		a.request()
		asked <- struct{}{}
		<-cut
		a.say(ok)
	}})
}

// over waits for the last tunnel.
func (c *clientSide) over(tunnels <-chan struct{}) {
	c.Helper()
	select {
	case <-tunnels:
	case <-time.After(patience):
		c.fail("there is a tunnel still")
	}
}
