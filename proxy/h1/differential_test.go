package h1

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport/proxy/message"
)

// This file holds whole conversations against another reader: a fuzzer writes what
// clients and apps send, and net/http reads what we made of it. What was whole is read
// as the same, what broke off is not read as whole, and nothing is left over.

// A dialogue is what one client and its app said through us.
type dialogue struct {
	app      []string // what it answers every request with
	turns    []turnSaid
	toClient []byte
}

// A turnSaid is one exchange of a dialogue, as we read it.
type turnSaid struct {
	refused string // the cause, of a request that never reached the app

	method, target, host string
	fields, trailer      string
	body                 string
	length               int64
	upgrade              bool
	broken               bool // the body was refused, or broke off
	toApp                []byte

	status       int // 0 if the app's reply was refused
	replyFields  string
	replyTrailer string
	replyBody    string
	cut          bool // it broke off
	kept         bool // the client's connection goes on
}

// A recorder is a Source that keeps what came out of it.
type recorder struct {
	message.Source
	text []byte
}

func (r *recorder) Next() ([]byte, error) {
	piece, err := r.Source.Next()
	r.text = append(r.text, piece...)
	return piece, err
}

// converse plays a dialogue.
func converse(client, app []string) *dialogue {
	d := &dialogue{app: app}
	conn := &script{pieces: client}
	e := &Engine{Handler: d, Limits: fuzzLimits, Buffers: new(Buffers), Refused: d.refused}
	e.Serve(conn, message.Peer{})
	d.toClient = conn.said
	return d
}

func (d *dialogue) refused(_ *message.Exchange, refusal *message.Refusal) {
	d.turns = append(d.turns, turnSaid{refused: refusal.Cause})
}

// Serve is message.Handler.
func (d *dialogue) Serve(ex *message.Exchange) {
	req := &ex.Request
	said := turnSaid{
		method: string(req.Method), target: string(req.Target), host: string(req.Host),
		fields: fieldsOf(&req.Fields), length: req.Length, upgrade: req.Upgrade != nil,
	}
	conn := &script{pieces: slices.Clone(d.app)}
	var a AppConn
	a.Open(conn, new(Buffers), fuzzLimits, 0)
	defer a.Close()
	body := &recorder{Source: ex.Stream}
	complete, err := a.Send(req, body)
	if !complete && err == nil {
		err = a.SendBody(req, body)
	}
	said.toApp, said.body, said.trailer = conn.said, string(body.text), fieldsOf(&req.Trailer)
	if said.broken = err != nil; said.broken {
		_ = (&message.Page{Status: 400}).Send(ex.Stream) // written to a script
	} else {
		said.reply(&a, ex)
	}
	said.kept = ex.Stream.(*ClientConn).reply.keep && ex.Stream.(*ClientConn).reply.finished
	d.turns = append(d.turns, said)
}

// reply hands on the app's reply.
func (said *turnSaid) reply(a *AppConn, ex *message.Exchange) {
	for range 4 {
		resp, err := a.ReadReply(&ex.Request)
		if err != nil {
			break
		}
		_ = ex.Stream.Reply(resp) // written to a script, as all that follows
		if resp.Interim() {
			continue
		}
		body := &recorder{Source: a}
		_, err = ex.Stream.ReadFrom(body)
		if err == nil {
			err = ex.Stream.Finish(a.Trailer())
		}
		if err != nil {
			ex.Stream.Abort(message.Reason{Cause: "cut"})
		}
		said.status, said.replyFields, said.cut = resp.Status, fieldsOf(&resp.Fields), err != nil
		said.replyBody, said.replyTrailer = string(body.text), fieldsOf(&a.trailer)
		return
	}
	_ = (&message.Page{Status: 502}).Send(ex.Stream)
}

// asHeader is field lines as net/http keeps them, without those that are framing to it.
func asHeader(lines string) http.Header {
	header := http.Header{}
	for line := range strings.SplitSeq(strings.TrimSuffix(lines, "\r\n"), "\r\n") {
		if key, value, ok := strings.Cut(line, ": "); ok {
			header.Add(key, value)
		}
	}
	return withoutFraming(header)
}

func withoutFraming(header http.Header) http.Header {
	header = maps.Clone(header)
	for _, key := range []string{"Connection", "Upgrade", "Content-Length", "Trailer", "Cache-Control", "Date"} {
		header.Del(key)
	}
	maps.DeleteFunc(header, func(_ string, values []string) bool { return len(values) == 0 })
	return header
}

func sameHeader(a, b http.Header) bool { return maps.EqualFunc(a, b, slices.Equal) }

// longReader is for net/http, which wants to see a trailer as a whole.
func longReader(b []byte) *bufio.Reader { return bufio.NewReaderSize(bytes.NewReader(b), 64<<10) }

// checkForwarded holds what the app got against what we read.
func (said *turnSaid) checkForwarded(t *testing.T) {
	if len(said.toApp) == 0 {
		return
	}
	r := longReader(said.toApp)
	theirs, err := http.ReadRequest(r)
	if err != nil {
		_, urlErr := url.ParseRequestURI(said.target)
		if urlErr == nil && !said.broken && !strings.Contains(err.Error(), "bad trailer key") {
			t.Fatalf("net/http refuses %q: %v", said.toApp, err)
		}
		return
	}
	body, err := io.ReadAll(theirs.Body)
	if said.broken {
		if err == nil {
			t.Fatalf("a broken body became whole: %q", said.toApp)
		}
		return
	}
	if err != nil || r.Buffered() != 0 || string(body) != said.body || theirs.Method != said.method || theirs.RequestURI != said.target ||
		theirs.Host != said.host || theirs.ContentLength != said.length || !sameHeader(withoutFraming(theirs.Header), asHeader(said.fields)) ||
		said.length < 0 && !sameHeader(withoutFraming(theirs.Trailer), asHeader(said.trailer)) {
		t.Fatalf("net/http reads %q as %+v %q %+v %v and leaves %d bytes; we read %+v",
			said.toApp, theirs, body, theirs.Trailer, err, r.Buffered(), said)
	}
}

// checkRead holds what we read of a client's bytes against what net/http does, as long
// as both read at all, and both to the end of a message.
func (d *dialogue) checkRead(t *testing.T, client []byte) {
	r := longReader(client)
	for _, said := range d.turns {
		if said.refused != "" || said.broken {
			return
		}
		if start, _ := r.Peek(2); string(start) == "\r\n" {
			_, _ = r.Discard(2) // they are there
		}
		theirs, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(theirs.Body)
		if err != nil {
			return
		}
		if string(body) != said.body || theirs.Method != said.method || said.target[0] == '/' && theirs.RequestURI[0] == '/' && theirs.RequestURI != said.target ||
			!strings.EqualFold(theirs.Host, said.host) {
			t.Fatalf("of %q, net/http reads %+v %q, and we %+v", client, theirs, body, said)
		}
	}
}

// checkAnswers holds what the client got against what we read of the app.
func (d *dialogue) checkAnswers(t *testing.T) {
	r := longReader(d.toClient)
	for i, said := range d.turns {
		theirs, err := readAnswer(r, said.method)
		if err != nil {
			if !strings.Contains(err.Error(), "bad trailer key") && !said.cut {
				t.Fatalf("net/http refuses answer %d of %q: %v", i, d.toClient, err)
			}
			return
		}
		if theirs.StatusCode == 101 {
			return // the rest is not HTTP
		}
		body, err := io.ReadAll(theirs.Body)
		toEnd := theirs.ContentLength < 0 && len(theirs.TransferEncoding) == 0
		switch {
		case said.cut && err == nil && !toEnd && said.method != "HEAD":
			t.Fatalf("a reply that broke off became whole: %q", d.toClient)
		case said.cut:
			return
		case err != nil:
			t.Fatalf("answer %d of %q is not whole: %v", i, d.toClient, err)
		case said.kept == theirs.Close:
			t.Fatalf("answer %d of %q: close is %v, and the connection goes on: %v", i, d.toClient, theirs.Close, said.kept)
		case said.status == 0:
			continue // a page of ours
		}
		if theirs.StatusCode != said.status || said.method != "HEAD" && string(body) != said.replyBody || !sameHeader(withoutFraming(theirs.Header), asHeader(said.replyFields)) ||
			len(theirs.TransferEncoding) > 0 && !sameHeader(withoutFraming(theirs.Trailer), asHeader(said.replyTrailer)) {
			t.Fatalf("net/http reads %q as %+v %q %+v; we read %+v", d.toClient, theirs, body, theirs.Trailer, said)
		}
	}
	if _, err := r.Peek(1); err == nil {
		t.Fatalf("%d answers, and there is more: %q", len(d.turns), d.toClient)
	}
}

// readAnswer reads an answer and the interim ones before it.
func readAnswer(r *bufio.Reader, method string) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == 101 {
			return resp, err
		}
	}
}

// forgetPieces drops what depends on how bytes came: chunks, how far something got
// before it broke off, and which of two rules was seen first to be broken.
func (said *turnSaid) forgetPieces() {
	said.toApp = nil
	if said.refused != "" {
		said.refused = "for something"
	}
	if said.broken {
		said.body, said.trailer = "", ""
	}
	if said.cut {
		said.replyBody, said.replyTrailer = "", ""
	}
}

func FuzzConversation(f *testing.F) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	requests := []string{
		get + get + "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n" + get,
		"HEAD http://a/x HTTP/1.1\r\nHost: a\r\n\r\n" + get,
		"PUT / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nxGET",
	}
	replies := []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nok",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	}
	for i, request := range requests {
		for j, reply := range replies {
			if i == 0 || j < 2 {
				f.Add([]byte(request), []byte(reply))
			}
		}
	}
	f.Fuzz(func(t *testing.T, client, app []byte) {
		if len(client) == 0 || len(app) == 0 {
			return // no piece of a script is empty
		}
		d := converse([]string{string(client)}, []string{string(app)})
		d.checkRead(t, client)
		for i := range d.turns {
			d.turns[i].checkForwarded(t)
		}
		d.checkAnswers(t)
		slowly := converse(bytewise(string(client)), bytewise(string(app)))
		for _, each := range []*dialogue{d, slowly} {
			for i := range each.turns {
				each.turns[i].forgetPieces()
			}
		}
		if !reflect.DeepEqual(d.turns, slowly.turns) {
			t.Fatalf("%q to %q: %+v, and in single bytes %+v", client, app, d.turns, slowly.turns)
		}
	})
}
