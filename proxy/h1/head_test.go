package h1

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/proxy/message"
)

const host = "Host: a.test\r\n"

func TestParseRequest(t *testing.T) {
	for _, test := range []struct {
		head, method, authority, host, target, upgrade, fields string
		length                                                 int64
		minor                                                  int
	}{
		{"GET / HTTP/1.1\r\n" + host + "\r\n", "GET", "a.test", "a.test", "/", "", "", 0, 1},
		{"GET /a?b HTTP/1.0\r\nHOST:  A.Test:80\t\r\nAccept:*/*\r\n\r\n", "GET", "a.test:80", "A.Test:80", "/a?b", "", "Accept: */*\r\n", 0, 0},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nA:\r\nB: \t \r\n\r\n", "POST", "a.test", "a.test", "/", "", "A: \r\nB: \r\n", 5, 1},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked\r\n\r\n", "POST", "a.test", "a.test", "/", "", "", -1, 1},
		{"GET http://a.test/x HTTP/1.1\r\nHost: A.TEST\r\n\r\n", "GET", "a.test", "A.TEST", "/x", "", "", 0, 1},
		{"OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "OPTIONS", "a.test", "a.test", "*", "", "", 0, 1},
		{"GET / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET", "a.test", "a.test", "/", "websocket", "", 0, 1},
		{"GET / HTTP/1.0\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET", "a.test", "a.test", "/", "", "", 0, 0},
		{"GET / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: H2C\r\n\r\n", "GET", "a.test", "a.test", "/", "", "", 0, 1},
		{"GET / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: a, b\r\n\r\n", "GET", "a.test", "a.test", "/", "", "", 0, 1},
		{"PUT / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n", "PUT", "a.test", "a.test", "/", "", "", 1, 1},
		{"GET / HTTP/1.1\r\n" + host + "A: \xff\x80b\tc\r\n\r\n", "GET", "a.test", "a.test", "/", "", "A: \xff\x80b\tc\r\n", 0, 1},
	} {
		for _, pieces := range [][]string{{test.head}, bytewise(test.head), {test.head + "more"}} {
			req, _, minor, err := readRequest(pieces...)
			if err != nil {
				t.Errorf("%q: %v", test.head, err)
				continue
			}
			got := fmt.Sprintf("%s|%s|%s|%s|%s|%s|%d|%d", req.Method, req.Authority, req.Host, req.Target, req.Upgrade, fieldsOf(&req.Fields), req.Length, minor)
			want := fmt.Sprintf("%s|%s|%s|%s|%s|%s|%d|%d", test.method, test.authority, test.host, test.target, test.upgrade, test.fields, test.length, test.minor)
			if got != want {
				t.Errorf("%q:\n%q, want\n%q", test.head, got, want)
			}
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	line := "GET / HTTP/1.1\r\n"
	long := strings.Repeat("x", 200)
	for _, test := range []struct {
		head string
		want error
	}{
		{" / HTTP/1.1\r\n" + host + "\r\n", message.ErrMethod},
		{"G\tET / HTTP/1.1\r\n" + host + "\r\n", message.ErrMethod},
		{"G(T / HTTP/1.1\r\n" + host + "\r\n", message.ErrMethod},
		{"CONNECT a.test:443 HTTP/1.1\r\n" + host + "\r\n", message.ErrMethodNotServed},
		{"TRACE / HTTP/1.1\r\n" + host + "\r\n", message.ErrMethodNotServed},
		{"GET  / HTTP/1.1\r\n" + host + "\r\n", message.ErrTarget},
		{"GET /  HTTP/1.1\r\n" + host + "\r\n", message.ErrTarget},
		{"GET /a b HTTP/1.1\r\n" + host + "\r\n", message.ErrTarget},
		{"GET /\ta HTTP/1.1\r\n" + host + "\r\n", message.ErrTarget},
		{"GET /\x00 HTTP/1.1\r\n" + host + "\r\n", message.ErrTarget},
		{"GET /\ra HTTP/1.1\r\n" + host + "\r\n", message.ErrTarget},
		{"GET a HTTP/1.1\r\n" + host + "\r\n", message.ErrTarget},
		{"GET * HTTP/1.1\r\n" + host + "\r\n", message.ErrTarget},
		{"GET / HTTP/1.2\r\n" + host + "\r\n", message.ErrVersion},
		{"GET / HTTP/0.9\r\n" + host + "\r\n", message.ErrVersion},
		{"GET / HTTP/2.0\r\n" + host + "\r\n", message.ErrVersion},
		{"GET / HTTP/1.10\r\n" + host + "\r\n", message.ErrVersion},
		{"GET / HTTP/1.1\r\r\n" + host + "\r\n", message.ErrVersion},
		{"GET / HTTP/\uff11.1\r\n" + host + "\r\n", message.ErrVersion},
		{"GET / http/1.1\r\n" + host + "\r\n", message.ErrRequestLine},
		{"GET / HTTP/1.1 \r\n" + host + "\r\n", message.ErrRequestLine},
		{"GET / HTTP /1.1\r\n" + host + "\r\n", message.ErrRequestLine},
		{"GET /\r\n" + host + "\r\n", message.ErrRequestLine},
		{"GET\r\n" + host + "\r\n", message.ErrRequestLine},
		{"\r\n\r\n", message.ErrRequestLine},
		{"GET\t/\tHTTP/1.1\r\n" + host + "\r\n", message.ErrRequestLine},
		{"GET / HTTP/1.1\n" + host + "\r\n", message.ErrLineEnd},
		{"GET / HTTP/1.1\n\n", message.ErrLineEnd},
		{"\nGET / HTTP/1.1\r\n", message.ErrLineEnd},
		{line + host + "A: b\n\r\n", message.ErrLineEnd},
		{line + "Host: a.test\n\n", message.ErrLineEnd},
		{line + host + "A: b\n\nGET /x HTTP/1.1\r\n\r\n", message.ErrLineEnd},
		{line + host + "\n", message.ErrLineEnd},
		{line + host + "A: b\r\n c\r\n\r\n", message.ErrFold},
		{line + host + "A: b\r\n\tc\r\n\r\n", message.ErrFold},
		{line + " " + host + "\r\n", message.ErrFold},
		{line + host + "A: b\r\n \r\n\r\n", message.ErrFold},
		{line + host + "A\r\n\r\n", message.ErrFieldName},
		{line + host + ": b\r\n\r\n", message.ErrFieldName},
		{line + host + "A : b\r\n\r\n", message.ErrFieldName},
		{line + host + "A\t: b\r\n\r\n", message.ErrFieldName},
		{line + host + "A\x00: b\r\n\r\n", message.ErrFieldName},
		{line + host + "A\r: b\r\n\r\n", message.ErrFieldName},
		{line + host + "A b: c\r\n\r\n", message.ErrFieldName},
		{line + host + "(A): c\r\n\r\n", message.ErrFieldName},
		{line + host + "A\xc3\xa9: c\r\n\r\n", message.ErrFieldName},
		{line + host + "Transfer-Encoding\x0b: chunked\r\n\r\n", message.ErrFieldName},
		{line + host + "A: b\x00c\r\n\r\n", message.ErrFieldValue},
		{line + host + "A: b\rc\r\n\r\n", message.ErrFieldValue},
		{line + host + "A: b\r\r\n\r\n", message.ErrFieldValue},
		{line + host + "A: b\x7f\r\n\r\n", message.ErrFieldValue},
		{line + host + "A: b\x1b[2J\r\n\r\n", message.ErrFieldValue},
		{line + host + "Transfer-Encoding:\x0bchunked\r\n\r\n", message.ErrFieldValue},
		{line + host + "Transfer-Encoding:\rchunked\r\n\r\n", message.ErrFieldValue},
		{line + "\r\n", message.ErrHostMissing},
		{"GET / HTTP/1.0\r\n\r\n", message.ErrHostMissing},
		{"GET http://a.test/ HTTP/1.1\r\n\r\n", message.ErrHostMissing},
		{line + host + host + "\r\n", message.ErrHostTwice},
		{line + host + "hosT: b.test\r\n\r\n", message.ErrHostTwice},
		{line + "Host:\r\n\r\n", message.ErrHost},
		{line + "Host: a.test, b.test\r\n\r\n", message.ErrHost},
		{line + "Host: a.test b.test\r\n\r\n", message.ErrHost},
		{line + "Host: [::1\r\n\r\n", message.ErrHost},
		{line + "Host: a:abc\r\n\r\n", message.ErrHost},
		{line + "Host: a:-80\r\n\r\n", message.ErrHost},
		{line + "Host: a:80:80\r\n\r\n", message.ErrHost},
		{line + "Host: [::1]evil.test\r\n\r\n", message.ErrHost},
		{line + "Host: user@a.test\r\n\r\n", message.ErrHost},
		{"GET http://b.test/ HTTP/1.1\r\n" + host + "\r\n", message.ErrHostDisagrees},
		{"GET http://a.test:80/ HTTP/1.1\r\n" + host + "\r\n", message.ErrHostDisagrees},
		{"GET http://u@a.test/ HTTP/1.1\r\n" + host + "\r\n", message.ErrHostDisagrees},
		{"GET http://a.test./ HTTP/1.1\r\n" + host + "\r\n", message.ErrHostDisagrees},
		{"GET http:///x HTTP/1.1\r\n" + host + "\r\n", message.ErrHostDisagrees},
		{"GET https://a.test/ HTTP/1.1\r\n" + host + "\r\n", message.ErrScheme},
		{"GET HTTPS://a.test/ HTTP/1.1\r\n" + host + "\r\n", message.ErrScheme},
		{line + host + "Content-Length: 1\r\ncontent-length: 1\r\n\r\n", message.ErrLengthTwice},
		{line + host + "Content-Length: 1, 1\r\n\r\n", message.ErrLength},
		{line + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrLengthAndCoding},
		{line + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", message.ErrCodingTwice},
		{line + host + "Transfer-Encoding: x, chunked\r\n\r\n", message.ErrCoding},
		{"GET / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", message.ErrCodingVersion},
		{line + host + "Expect: x\r\n\r\n", message.ErrExpect},
		{line + host + "Connection: Host\r\n\r\n", message.ErrConnectionNames},
		{"GET /" + long + " HTTP/1.1\r\n" + host + "\r\n", message.ErrRequestLineLong},
		{"GET /" + long + long, message.ErrRequestLineLong},
		{line + host + "A: " + long + "\r\n\r\n", message.ErrFieldTooLong},
		{line + host + strings.Repeat("A: b\r\n", 10) + "\r\n", message.ErrTooManyFields},
		{line + host + strings.Repeat("A: "+long[:180]+"\r\n", 6) + "\r\n", message.ErrHeadTooLong},
		{line + host + strings.Repeat("A: "+long[:180]+"\r\n", 6), message.ErrHeadTooLong},
	} {
		for _, pieces := range [][]string{{test.head}, bytewise(test.head)} {
			if req, _, _, err := readRequest(pieces...); err != test.want {
				t.Errorf("%q in %d pieces: %v, want %v (%+v)", test.head, len(pieces), err, test.want, req)
			}
		}
	}
}

func TestHeadOfExactlyTheLimit(t *testing.T) {
	line := "GET / HTTP/1.1\r\n" + host
	for size := 990; size <= 1010; size++ {
		head := line
		for len(head) < size-2 {
			n := min(size-2-len(head), 150)
			if rest := size - 2 - len(head) - n; rest > 0 && rest < 10 {
				n -= 10
			}
			head += "A: " + strings.Repeat("x", n-5) + "\r\n"
		}
		head += "\r\n"
		for _, pieces := range [][]string{{head}, bytewise(head)} {
			_, _, _, err := readRequest(pieces...)
			if want := error(message.ErrHeadTooLong); size <= 1000 && err != nil || size > 1000 && err != want {
				t.Errorf("%d bytes (%d) in %d pieces: %v", size, len(head), len(pieces), err)
			}
		}
	}
}

func TestParseResponse(t *testing.T) {
	for head, want := range map[string]string{
		"HTTP/1.1 200 OK\r\n\r\n":                                           "200|1|-1|",
		"HTTP/1.0 404\r\nA: b\r\n\r\n":                                      "404|0|-1|A: b\r\n",
		"HTTP/1.1 599 \r\nContent-Length: 5\r\n\r\n":                        "599|1|5|",
		"HTTP/1.1 103 Early \xff Hints\r\nLink: x\r\nConnection: y\r\n\r\n": "103|1|-1|Link: x\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":             "200|1|-1|",
		"HTTP/1.1 200 OK\r\nConnection: close, a\r\nA: b\r\nC: d\r\n\r\n":   "200|1|-1|C: d\r\n",
	} {
		for _, pieces := range [][]string{{head}, bytewise(head)} {
			resp, _, minor, err := readResponse(pieces...)
			if err != nil {
				t.Errorf("%q: %v", head, err)
			} else if got := fmt.Sprintf("%d|%d|%d|%s", resp.Status, minor, resp.Length, fieldsOf(&resp.Fields)); got != want {
				t.Errorf("%q: %q, want %q", head, got, want)
			}
		}
	}
	for head, want := range map[string]error{
		"HTTP/1.1 200OK\r\n\r\n":             message.ErrStatusLine,
		"HTTP/1.1 2000 OK\r\n\r\n":           message.ErrStatusLine,
		"HTTP/1.1 20 OK\r\n\r\n":             message.ErrStatusLine,
		"HTTP/1.1 +20 OK\r\n\r\n":            message.ErrStatusLine,
		"HTTP/1.1  200 OK\r\n\r\n":           message.ErrStatusLine,
		"HTTP/1.1\t200 OK\r\n\r\n":           message.ErrStatusLine,
		"HTTP/1.1 200\tOK\r\n\r\n":           message.ErrStatusLine,
		"HTTP/1.1 200 O\rK\r\n\r\n":          message.ErrStatusLine,
		"HTTP/1.1 200 O\x00K\r\n\r\n":        message.ErrStatusLine,
		"HTTP/1.2 200 OK\r\n\r\n":            message.ErrStatusLine,
		"HTTP/2 200\r\n\r\n":                 message.ErrStatusLine,
		"GET / HTTP/1.1\r\n\r\n":             message.ErrStatusLine,
		"\r\n\r\n":                           message.ErrStatusLine,
		"HTTP/1.1 099 OK\r\n\r\n":            message.ErrStatus,
		"HTTP/1.1 000 OK\r\n\r\n":            message.ErrStatus,
		"HTTP/1.1 600 OK\r\n\r\n":            message.ErrStatus,
		"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n":  message.ErrFieldName,
		"HTTP/1.1 200 OK\r\nA: b\nc\r\n\r\n": message.ErrLineEnd,
	} {
		if _, _, _, err := readResponse(head); err != want {
			t.Errorf("%q: %v, want %v", head, err, want)
		}
	}
}

// TestFrame holds AppConn.frame against RFC 9112, section 6.3.
func TestFrame(t *testing.T) {
	for _, test := range []struct {
		method, upgrade, head string
		want                  error
		length                int64
		state                 bodyState
	}{
		{"GET", "", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", nil, 5, inPiece},
		{"GET", "", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", nil, 0, ended},
		{"GET", "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", nil, -1, size},
		{"GET", "", "HTTP/1.1 200 OK\r\n\r\n", nil, -1, untilClose},
		{"HEAD", "", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", nil, 5, ended},
		{"HEAD", "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", nil, -1, ended},
		{"GET", "", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", nil, 5, ended},
		{"GET", "", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", nil, 0, ended},
		{"GET", "", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", message.ErrNoContentWithBody, 0, 0},
		{"GET", "", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrNoContentWithBody, 0, 0},
		{"GET", "", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", message.ErrNoContentWithBody, 0, 0},
		{"GET", "", "HTTP/1.1 103 Early Hints\r\n\r\n", nil, 0, ended},
		{"GET", "", "HTTP/1.1 101 Switching Protocols\r\n\r\n", message.ErrUpgradeNotAsked, 0, 0},
		{"GET", "websocket", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n", nil, -1, untilClose},
		{"GET", "websocket", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", message.ErrUpgradeNotAsked, 0, 0},
		{"GET", "websocket", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", message.ErrUpgradeNotAsked, 0, 0},
		{"GET", "websocket", "HTTP/1.1 101 Switching Protocols\r\n\r\n", message.ErrUpgradeNotAsked, 0, 0},
		{"GET", "websocket", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n", message.ErrNoContentWithBody, 0, 0},
	} {
		var a AppConn
		a.Open(&script{pieces: []string{test.head}}, new(Buffers), testLimits(), 0)
		req := &message.Request{Method: []byte(test.method)}
		if test.upgrade != "" {
			req.Upgrade = []byte(test.upgrade)
		}
		resp, err := a.ReadReply(req)
		if err != test.want {
			t.Errorf("%s %q: %v, want %v", test.method, test.head, err, test.want)
		}
		if err == nil && (resp.Length != test.length || a.body.state != test.state) {
			t.Errorf("%s %q: length %d, state %d", test.method, test.head, resp.Length, a.body.state)
		}
	}
}
