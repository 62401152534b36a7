package h2

import (
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// checkRequest wants what reaches a handler to be what HTTP/1 can say without a doubt.
func checkRequest(t *testing.T, req *message.Request) {
	if message.CheckMethod(req.Method) != nil || message.CheckAuthority(req.Authority) != nil || message.CheckAuthority(req.Host) != nil {
		t.Errorf("method %q, authority %q, host %q", req.Method, req.Authority, req.Host)
	}
	if authority, path, err := message.ParseTarget(req.Method, req.Target); err != nil || authority != nil || !bytes.Equal(path, req.Target) {
		t.Errorf("target %q", req.Target)
	}
	if req.Upgrade != nil && (!message.IsToken(req.Upgrade) || req.Length != 0) {
		t.Errorf("upgrade %q, length %d", req.Upgrade, req.Length)
	}
	if req.Length < -1 {
		t.Errorf("length %d", req.Length)
	}
	checkFields(t, &req.Fields)
	for i := range req.Fields.Len() {
		switch name, key, value := req.Fields.Line(i); name {
		case message.Host, message.Connection, message.ContentLength, message.TransferEncoding, message.Upgrade, message.TE, message.KeepAlive, message.Expect:
			t.Errorf("field %q: %q", key, value)
		}
	}
}

func checkFields(t *testing.T, f *message.Fields) {
	for i := range f.Len() {
		if _, key, value := f.Line(i); message.CheckLine(key, value) != nil {
			t.Errorf("field %q: %q", key, value)
		}
	}
}

// FuzzHead decodes any bytes as the field section of a request.
func FuzzHead(f *testing.F) {
	var section bytes.Buffer
	enc := hpack.NewEncoder(&section)
	for _, lines := range [][]string{get(), post("content-length: 5"), get("cookie: a", "cookie: b"), get("host: app.test", "te: trailers", "priority: u=1, i"), {":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: a", ":path: /"}} {
		section.Reset()
		for _, line := range lines {
			name, value, _ := strings.Cut(line[1:], ": ")
			_ = enc.WriteField(hpack.HeaderField{Name: line[:1] + name, Value: value})
		}
		f.Add(bytes.Clone(section.Bytes()), true)
	}
	f.Add([]byte{0x82, 0x86, 0x84, 0x41, 0x01, 'a'}, false)
	f.Fuzz(func(t *testing.T, section []byte, end bool) {
		c := &ClientConn{engine: &Engine{Limits: testLimits()}}
		c.head.start(&c.engine.Limits, false)
		for range 2 { // the second time with a table
			s := c.newStream(1)
			if c.head.decode(&s.exchange.Request.Fields, section).refusal != nil {
				return
			}
			if s.begin(&c.head.section, end) == nil {
				checkRequest(t, &s.exchange.Request)
				if req := &s.exchange.Request; end && req.Length != 0 {
					t.Errorf("length %d of no body", req.Length)
				}
			}
			s.recycle()
		}
	})
}

// FuzzEncode: what is encoded is what another decoder finds.
func FuzzEncode(f *testing.F) {
	f.Add("Content-Type", "text/html", 200)
	f.Add("X", strings.Repeat("x", 300), 404)
	f.Fuzz(func(t *testing.T, name, value string, status int) {
		if message.CheckLine([]byte(name), []byte(value)) != nil || status < 100 || status > 599 {
			return
		}
		b := appendField(appendStatus(nil, status), []byte(name), []byte(value))
		fields, err := hpack.NewDecoder(0, nil).DecodeFull(b)
		if err != nil || len(fields) != 2 || fields[1].Name != strings.ToLower(name) || fields[1].Value != value || fields[0].Value != string(statusText(status)) {
			t.Fatalf("%q is %v: %v", b, fields, err)
		}
	})
}

// FuzzConversation says any bytes behind the preface. The connection ends, with all that was
// begun, whatever they are; what reaches a handler is in order.
func FuzzConversation(f *testing.F) {
	w := &world{}
	w.enc = hpack.NewEncoder(&w.block)
	settings := frame(kindSettings, 0, 0)
	for _, parts := range [][][]byte{
		{settings, w.head(1, flagEndStream, get()...), frame(kindWindow, 0, 0, word(100)...)},
		{settings, w.head(1, 0, post()...), frame(kindData, 0, 1, []byte("hello")...), w.head(1, flagEndStream, "a: b")},
		{settings, w.head(1, 0, post("content-length: 5")...), frame(kindData, flagEndStream|flagPadded, 1, append([]byte{2}, "hello\x00\x00"...)...)},
		{settings, w.head(1, flagEndStream, get()...), frame(kindReset, 0, 1, word(8)...), w.head(3, flagEndStream, get()...)},
		{settings, frame(kindHeaders, flagEndStream, 1, 0x82), frame(kindContinuation, flagEndHeaders, 1, 0x86, 0x84, 0x41, 1, 'a')},
		{settings, frame(kindPing, 0, 0, make([]byte, 8)...), frame(kindGoAway, 0, 0, make([]byte, 8)...), frame(kindPriorityUpdate, 0, 0, 0, 0, 0, 1, 'i')},
	} {
		f.Add(bytes.Join(parts, nil))
	}
	watcher, err := loop.New()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { watcher.Close() })
	f.Fuzz(func(t *testing.T, said []byte) {
		ended := make(chan struct{})
		var refused atomic.Int64
		limits := testLimits()
		limits.BodyIdle, limits.HeadTime, limits.KeepaliveIdle = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
		e := &Engine{
			Limits: limits, Ended: func(message.Peer) { close(ended) },
			Refused: func(*message.Exchange, *message.Refusal) { refused.Add(1) },
			Handler: serves(func(ex *message.Exchange) {
				checkRequest(t, &ex.Request)
				echoes(ex)
				checkFields(t, &ex.Request.Trailer)
			}),
		}
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		raw := new(loop.Conn)
		if err := watcher.Adopt(raw, ends[0]); err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(ends[1]), "client")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		e.Start(raw, raw, message.Peer{})
		go func() {
			_, _ = conn.Write(append([]byte(preface), said...)) // the engine may have ended it
			_ = conn.(*net.UnixConn).CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
		if n := e.unread.Load(); n != 0 {
			t.Errorf("%d bytes unread", n)
		}
	})
}
