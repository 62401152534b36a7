package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"sallyport/conf"
	"sallyport/proxy/message"
)

var fuzzLimits = conf.Limits{HeadBytes: 32 << 10, LineBytes: 8 << 10, Fields: 100}

// parseWhole reads one head that must be all of b.
func parseWhole(b []byte) (*message.Request, message.Framing, error) {
	limits := fuzzLimits
	in := readerOf(string(b))
	head, err := in.head(&limits)
	if err != nil {
		return nil, message.Framing{}, err
	}
	var scratch []byte
	req := new(message.Request)
	how, _, err := parseRequest(head, req, &scratch, &limits)
	return req, how, err
}

// counted is how many field lines there are, without those that net/http moves or
// makes up.
func counted(header http.Header) int {
	n := 0
	for key, values := range header {
		if key != "Trailer" && key != "Cache-Control" {
			n += len(values)
		}
	}
	return n
}

func headerOf(f *message.Fields) http.Header {
	header := http.Header{}
	for i := range f.Len() {
		_, key, value := f.Line(i)
		header.Add(string(key), string(value))
	}
	return header
}

func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		browserHead,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
		"PUT http://a/x HTTP/1.0\r\nHost: A\r\nConnection: keep-alive, x\r\nX: y\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1]:80\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\nA:\t b \r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 1\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req, _, err := parseWhole(b)
		if err != nil {
			return
		}
		out := appendRequest(nil, req, closing)
		again, _, err := parseWhole(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", b, out, err)
		}
		if !bytes.Equal(again.Method, req.Method) || !bytes.Equal(again.Target, req.Target) || !bytes.Equal(again.Host, req.Host) ||
			again.Length != req.Length || fieldsOf(&again.Fields) != fieldsOf(&req.Fields) || !bytes.Equal(again.Upgrade, req.Upgrade) {
			t.Fatalf("%q became %q", b, out)
		}
		sameRequest(t, req, out)
	})
}

// sameRequest holds what net/http reads in out against req.
func sameRequest(t *testing.T, req *message.Request, out []byte) {
	theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
	if err != nil {
		_, urlErr := url.ParseRequestURI(string(req.Target))
		if urlErr == nil && !strings.Contains(err.Error(), "bad trailer key") {
			t.Fatalf("net/http refuses %q: %v", out, err)
		}
		return
	}
	ours := headerOf(&req.Fields)
	ours.Set("Connection", "")
	if req.Upgrade != nil {
		ours.Set("Upgrade", "")
	}
	if theirs.Header.Get("Content-Length") != "" {
		ours.Set("Content-Length", "")
	}
	if theirs.Method != string(req.Method) || theirs.RequestURI != string(req.Target) || theirs.Host != string(req.Host) ||
		theirs.ContentLength != req.Length || (req.Length < 0) != (len(theirs.TransferEncoding) == 1) || counted(theirs.Header) != counted(ours) {
		t.Fatalf("net/http reads %q as %+v", out, theirs)
	}
}

func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.0 404\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nConnection: close, x\r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
		"HTTP/1.1 204 \r\nDate: x\r\n\r\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		var a AppConn
		a.Open(&script{pieces: []string{string(b)}}, new(Buffers), fuzzLimits, 0)
		resp, err := a.ReadReply(&message.Request{Method: []byte(method)})
		if err != nil {
			return
		}
		conn := &script{}
		c := &ClientConn{engine: &Engine{Buffers: new(Buffers)}}
		c.in.wire = wireOf(conn)
		c.takeTurn()
		c.reply = reply{minor: 1, keep: true, head: head}
		c.received.Store(true)
		if err := c.Reply(resp); err != nil {
			t.Fatal(err)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		if resp.Interim() && len(conn.said) == 0 {
			return // 100
		}
		sameResponse(t, resp, method, conn.said)
	})
}

// sameResponse holds what net/http reads in out against resp.
func sameResponse(t *testing.T, resp *message.Response, method string, out []byte) {
	rest := bufio.NewReader(bytes.NewReader(out))
	theirs, err := http.ReadResponse(rest, &http.Request{Method: method})
	if err != nil {
		if !strings.Contains(err.Error(), "bad trailer key") {
			t.Fatalf("net/http refuses %q: %v", out, err)
		}
		return
	}
	ours := headerOf(&resp.Fields)
	if ours["Date"] == nil && !resp.Interim() {
		ours.Set("Date", "")
	}
	framed := theirs.Header["Content-Length"]
	if framed != nil {
		ours.Set("Content-Length", "")
	}
	bodiless := method == "HEAD" || resp.Interim() || resp.Status == 204 || resp.Status == 304
	chunked := len(theirs.TransferEncoding) == 1
	if theirs.StatusCode != resp.Status || counted(theirs.Header) != counted(ours) || chunked != (!bodiless && resp.Length < 0) ||
		!bodiless && theirs.ContentLength != resp.Length || rest.Buffered() != 0 {
		t.Fatalf("net/http reads %q as %+v", out, theirs)
	}
}

func FuzzChunked(f *testing.F) {
	for _, seed := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\nGET", "A\r\n0123456789\r\n00\r\n\r\n", "5\nhello\n0\n\n", "5\r\nhelloo\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text, trailer, left, err := readBody((*body).inChunks, string(b))
		if text2, trailer2, left2, err2 := readBody((*body).inChunks, bytewise(string(b))...); (err2 == nil) != (err == nil) || text2 != text || err == nil && (trailer2 != trailer || left2 != left) {
			t.Fatalf("%q: %q %q %q %v, and in single bytes %q %q %q %v", b, text, trailer, left, err, text2, trailer2, left2, err2)
		}
		if err != nil {
			return
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b)))
		if err != nil || string(theirs) != text {
			t.Fatalf("%q: %q, and net/http says %q %v", b, text, theirs, err)
		}
	})
}
