package proxy_test

import (
	"io"
	"strings"
	"testing"

	"sallyport/conf"
)

// hidden is what a smuggler wants us or the app to read as a request.
const hidden = "GET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n"

// TestRefusedHeads: nothing of a refused head reaches the app, the connection
// ends, and what follows is not read as a request. The tables of every rule are
// in packages message and h1.
func TestRefusedHeads(t *testing.T) {
	for name, test := range map[string]struct {
		request string
		status  string
	}{
		"both framings":       {request("POST / HTTP/1.1", "Content-Length: 6", "Transfer-Encoding: chunked") + "0\r\n\r\nG", "400"},
		"both, other order":   {request("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 6") + "0\r\n\r\nG", "400"},
		"two lengths":         {request("POST / HTTP/1.1", "Content-Length: 6", "Content-Length: 5") + "hello", "400"},
		"coding not known":    {request("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"), "501"},
		"coding in HTTP/1.0":  {request("POST / HTTP/1.0", "Transfer-Encoding: chunked") + "0\r\n\r\n", "400"},
		"length with a sign":  {request("POST / HTTP/1.1", "Content-Length: +5") + "hello", "400"},
		"space before colon":  {request("POST / HTTP/1.1", "Transfer-Encoding : chunked"), "400"},
		"fold":                {request("GET / HTTP/1.1", "A: b", " c"), "400"},
		"no host":             {"GET / HTTP/1.1\r\n\r\n", "400"},
		"no host in HTTP/1.0": {"GET / HTTP/1.0\r\n\r\n", "400"},
		"two hosts":           {get("Host: app.test"), "400"},
		"host disagrees":      {request("GET http://other.test/ HTTP/1.1"), "400"},
		"connect":             {"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n", "501"},
		"trace":               {request("TRACE / HTTP/1.1"), "501"},
		"expectation":         {get("Expect: 200-ok"), "417"},
		"version":             {request("GET / HTTP/1.2"), "505"},
		"HTTP/2":              {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
		"bare LF":             {"GET / HTTP/1.1\nHost: app.test\n\n", "400"},
		"TLS":                 {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", "400"},
		"long line":           {"GET /" + strings.Repeat("x", 8<<10) + " HTTP/1.1\r\nHost: app.test\r\n\r\n", "414"},
		"endless line":        {"GET /" + strings.Repeat("x", 9<<10), "414"},
		"long field":          {get("A: " + strings.Repeat("x", 8<<10)), "431"},
		"long head":           {get(strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 33) + "B: c"), "431"},
		"endless head":        {"GET / HTTP/1.1\r\nHost: app.test\r\n" + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 33), "431"},
		"many fields":         {get(strings.Repeat("A: b\r\n", 100) + "B: c"), "431"},
		"length over max":     {request("POST / HTTP/1.1", "Content-Length: 99999999999"), "413"},
	} {
		run(t, story{name: name, h1: true, client: func(c *clientSide) {
			c.say(test.request, hidden, hidden)
			resp, text := c.reply("GET")
			if !strings.HasPrefix(resp.Status, test.status) || !resp.Close {
				c.fail("%v %q", resp, text)
			}
			c.ended()
			c.logged(`"status":`+test.status, `"cause":`)
		}})
	}
	run(t, story{name: "late head", h1: true, change: func(plan *conf.Core) { plan.Limits.HeadTime = 500 * ms }, client: func(c *clientSide) {
		c.say("GET / HTTP/1.1\r\nHost: app")
		if resp, _ := c.reply("GET"); resp.StatusCode != 408 || !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
		c.logged(`"request refused"`, `"status":408`, `"cause":"head not complete within limits.head_time"`)
	}})
	run(t, story{name: "after a good one", h1: true, app: replies(ok), client: func(c *clientSide) {
		c.say(get(), "GET / HTTP/3.0\r\n\r\n", hidden)
		c.want("GET", 200, "ok")
		if resp, _ := c.reply("GET"); resp.StatusCode != 505 || !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
	}})
}

// TestRefusedBodies: the head is on its way already when a body turns out to be
// malformed; the app must see a request that breaks off, and not a byte of what
// was wrong or of what follows.
func TestRefusedBodies(t *testing.T) {
	for name, test := range map[string]struct {
		body   string
		status string
	}{
		"no size":               {"hello", "400"},
		"empty size":            {"\r\nhello\r\n0\r\n\r\n", "400"},
		"0x":                    {"0x5\r\nhello\r\n0\r\n\r\n", "400"},
		"negative":              {"-5\r\nhello\r\n0\r\n\r\n", "400"},
		"plus":                  {"+5\r\nhello\r\n0\r\n\r\n", "400"},
		"underscore":            {"0_5\r\nhello\r\n0\r\n\r\n", "400"},
		"wide digit":            {"\uff15\r\nhello\r\n0\r\n\r\n", "400"},
		"space before":          {" 5\r\nhello\r\n0\r\n\r\n", "400"},
		"space behind":          {"5 \r\nhello\r\n0\r\n\r\n", "400"},
		"overflow":              {"10000000000000005\r\nhello\r\n0\r\n\r\n", "400"},
		"too many digits":       {"0000000000000005\r\nhello\r\n0\r\n\r\n", "400"},
		"bare LF":               {"5\nhello\r\n0\r\n\r\n", "400"},
		"bare CR in the line":   {"5;\ra\r\nhello\r\n0\r\n\r\n", "400"},
		"control in extension":  {"5;a=\x00\r\nhello\r\n0\r\n\r\n", "400"},
		"long extension":        {"5;" + strings.Repeat("a", 300) + "\r\nhello\r\n0\r\n\r\n", "400"},
		"endless extension":     {"5;" + strings.Repeat("a", 5000), "400"},
		"no CRLF behind":        {"5\r\nhello0\r\n\r\n" + hidden, "400"},
		"LF behind":             {"5\r\nhello\n0\r\n\r\n", "400"},
		"too long":              {"5\r\nhello!!\r\n0\r\n\r\n", "400"},
		"LF at the end":         {"5\r\nhello\r\n0\n\r\n", "400"},
		"trailer with a length": {"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", "400"},
		"trailer with a host":   {"5\r\nhello\r\n0\r\nhost: evil\r\n\r\n", "400"},
		"trailer without name":  {"5\r\nhello\r\n0\r\n: x\r\n\r\n", "400"},
		"trailer with a fold":   {"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n", "400"},
		"trailer with bare LF":  {"5\r\nhello\r\n0\r\nA: b\n\r\n", "400"},
		"long trailer":          {"5\r\nhello\r\n0\r\n" + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 40) + "\r\n", "431"},
		"over max_body":         {strings.Repeat("5\r\nhello\r\n", 30) + "0\r\n\r\n", "413"},
	} {
		run(t, story{name: name, h1: true, change: func(plan *conf.Core) { plan.Apps[0].MaxBody = 100 }, client: func(c *clientSide) {
			c.say(request("POST / HTTP/1.1", "Transfer-Encoding: chunked"), test.body, hidden, hidden)
			resp, text := c.reply("POST")
			if !strings.HasPrefix(resp.Status, test.status) || !resp.Close {
				c.fail("%v %q", resp, text)
			}
			c.ended()
		}, app: func(a *appSide) {
			b, _ := io.ReadAll(a.r) // "" where the first piece of the body was malformed already
			_, body, _ := strings.Cut(string(b), "\r\n\r\n")
			if whole := strings.Repeat("5\r\nhello\r\n", 20); !strings.HasPrefix(whole, body) {
				a.fail("the app got %q", body)
			}
		}})
	}
	run(t, story{name: "behind the length", h1: true, app: echo, client: func(c *clientSide) {
		c.say(post("hello")+"\x00\x01", hidden)
		c.want("POST", 200, "hello")
		if resp, _ := c.reply("GET"); resp.StatusCode != 400 || !resp.Close {
			c.fail("%v", resp)
		}
		c.ended()
	}})
}
