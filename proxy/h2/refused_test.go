package h2

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/proxy/message"
)

// TestRefusedHeads: each rule that a head may break, what answers it, and that the
// connection goes on behind it.
func TestRefusedHeads(t *testing.T) {
	const long = 2 << 10
	for name, test := range map[string]struct {
		lines []string
		want  *message.Refusal
	}{
		"no method":             {[]string{":scheme: http", ":authority: app.test", ":path: /"}, message.ErrPseudo},
		"no scheme":             {[]string{":method: GET", ":authority: app.test", ":path: /"}, message.ErrPseudo},
		"no path":               {[]string{":method: GET", ":scheme: http", ":authority: app.test"}, message.ErrPseudo},
		"empty path":            {[]string{":method: GET", ":scheme: http", ":authority: app.test", ":path: "}, message.ErrPseudo},
		"method twice":          {get(":method: GET"), message.ErrPseudo},
		"path twice":            {get(":path: /x"), message.ErrPseudo},
		"status":                {get(":status: 200"), message.ErrPseudo},
		"pseudo field behind":   {[]string{":method: GET", ":scheme: http", "a: b", ":authority: app.test", ":path: /"}, message.ErrPseudo},
		"other scheme":          {[]string{":method: GET", ":scheme: ftp", ":authority: app.test", ":path: /"}, message.ErrPseudo},
		"https without TLS":     {[]string{":method: GET", ":scheme: https", ":authority: app.test", ":path: /"}, message.ErrScheme},
		"protocol of a GET":     {get(":protocol: websocket"), message.ErrPseudo},
		"protocol no token":     {[]string{":method: CONNECT", ":protocol: a b", ":scheme: http", ":authority: app.test", ":path: /"}, message.ErrPseudo},
		"method no token":       {[]string{":method: G T", ":scheme: http", ":authority: app.test", ":path: /"}, message.ErrMethod},
		"connect":               {[]string{":method: CONNECT", ":authority: app.test:443"}, message.ErrMethodNotServed},
		"trace":                 {[]string{":method: TRACE", ":scheme: http", ":authority: app.test", ":path: /"}, message.ErrMethodNotServed},
		"path with a space":     {[]string{":method: GET", ":scheme: http", ":authority: app.test", ":path: /a b"}, message.ErrTarget},
		"absolute path":         {[]string{":method: GET", ":scheme: http", ":authority: app.test", ":path: http://app.test/"}, message.ErrTarget},
		"path with CRLF":        {[]string{":method: GET", ":scheme: http", ":authority: app.test", ":path: /\r\nHost: x"}, message.ErrTarget},
		"no host":               {[]string{":method: GET", ":scheme: http", ":path: /"}, message.ErrHostMissing},
		"two hosts":             {get("host: app.test", "host: app.test"), message.ErrHostTwice},
		"hosts disagree":        {get("host: evil.test"), message.ErrHostDisagrees},
		"host malformed":        {[]string{":method: GET", ":scheme: http", ":authority: a@b", ":path: /"}, message.ErrHost},
		"upper case":            {get("X-Foo: bar"), message.ErrUpperCase},
		"name with a space":     {get("a b: c"), message.ErrFieldName},
		"value with CRLF":       {get("a: b\r\nc: d"), message.ErrFieldValue},
		"value with NUL":        {get("a: b\x00"), message.ErrFieldValue},
		"value with space":      {get("a:  b"), message.ErrFieldValue},
		"cookie with LF":        {get("cookie: a\nb"), message.ErrFieldValue},
		"connection":            {get("connection: close"), message.ErrConnectionField},
		"keep-alive":            {get("keep-alive: timeout=5"), message.ErrConnectionField},
		"proxy-connection":      {get("proxy-connection: close"), message.ErrConnectionField},
		"transfer-encoding":     {post("transfer-encoding: chunked"), message.ErrConnectionField},
		"upgrade":               {get("upgrade: websocket"), message.ErrConnectionField},
		"te":                    {get("te: gzip"), message.ErrConnectionField},
		"length no number":      {post("content-length: 5x"), message.ErrLength},
		"length with a sign":    {post("content-length: -1"), message.ErrLength},
		"two lengths":           {post("content-length: 5", "content-length: 5"), message.ErrLengthTwice},
		"length without a body": {post("content-length: 5"), message.ErrLengthDisagrees},
		"expectation":           {post("expect: x"), message.ErrExpect},
		"long path":             {[]string{":method: GET", ":scheme: http", ":authority: app.test", ":path: /" + strings.Repeat("x", long)}, message.ErrRequestLineLong},
		"long field":            {get("a: " + strings.Repeat("x", long)), message.ErrFieldTooLong},
		"long head":             {get(slices.Repeat([]string{"a: " + strings.Repeat("x", 1000)}, 5)...), message.ErrHeadTooLong},
		"many fields":           {get(slices.Repeat([]string{"a: b"}, 21)...), message.ErrTooManyFields},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, testLimits(), func(ex *message.Exchange) {
				if string(ex.Request.Target) != "/good" {
					t.Errorf("was served: %q", ex.Request.Target)
				}
				replies("ok")(ex)
			})
			w.greet()
			w.say(w.head(1, flagEndStream, test.lines...))
			if a := w.hear(); a.kind != kindHeaders || !strings.HasPrefix(a.fields, ":status="+string(statusText(test.want.Status))) {
				t.Fatalf("heard %q", a)
			}
			if a := w.hear(); a.kind != kindData || !bytes.Contains(a.payload, []byte(test.want.Cause)) || a.has(flagEndStream) == (test.want.Status == 400) {
				t.Fatalf("heard %q", a)
			}
			if test.want.Status == 400 {
				w.wants("1: reset 1")
			}
			w.wantsCause(test.want)
			w.say(w.head(3, flagEndStream, ":method: GET", ":scheme: http", ":authority: app.test", ":path: /good"))
			w.wants(`3: head :status=200 x=y content-length=2  end false`, `3: data "ok" end true`)
		})
	}
}

func statusText(status int) []byte {
	return []byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}
}

// TestRefusedBodies: what turns out to be malformed behind its head.
func TestRefusedBodies(t *testing.T) {
	for name, test := range map[string]struct {
		frames func(*world) []byte
		want   *message.Refusal
	}{
		"longer than its length": {func(w *world) []byte {
			return append(w.head(1, 0, post("content-length: 3")...), frame(kindData, 0, 1, []byte("hello")...)...)
		}, message.ErrLengthDisagrees},
		"shorter than its length": {func(w *world) []byte {
			return append(w.head(1, 0, post("content-length: 6")...), frame(kindData, flagEndStream, 1, []byte("hello")...)...)
		}, message.ErrLengthDisagrees},
		"shorter, by a trailer": {func(w *world) []byte {
			return append(w.head(1, 0, post("content-length: 6")...), w.head(1, flagEndStream, "a: b")...)
		}, message.ErrLengthDisagrees},
		"trailer with a length": {func(w *world) []byte {
			return append(w.head(1, 0, post()...), w.head(1, flagEndStream, "content-length: 5")...)
		}, message.ErrTrailer},
		"trailer with an encoding": {func(w *world) []byte {
			return append(w.head(1, 0, post()...), w.head(1, flagEndStream, "transfer-encoding: chunked")...)
		}, message.ErrConnectionField},
		"trailer with a method": {func(w *world) []byte {
			return append(w.head(1, 0, post()...), w.head(1, flagEndStream, ":method: GET")...)
		}, message.ErrPseudo},
		"trailer in upper case": {func(w *world) []byte {
			return append(w.head(1, 0, post()...), w.head(1, flagEndStream, "A: b")...)
		}, message.ErrUpperCase},
		"trailer without an end": {func(w *world) []byte {
			return append(w.head(1, 0, post()...), w.head(1, 0, "a: b")...)
		}, message.ErrTrailer},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, testLimits(), echoes)
			w.greet()
			w.say(test.frames(w))
			if a := w.hear(); !strings.HasPrefix(a.fields, ":status=400") {
				t.Fatalf("heard %q", a)
			}
			if a := w.hear(); !bytes.Contains(a.payload, []byte(test.want.Cause)) {
				t.Fatalf("heard %q", a)
			}
			w.wants("1: reset 1")
			w.say(w.head(3, 0, post()...), frame(kindData, 0, 3, []byte("hel")...), frame(kindData, 0, 3, []byte("lo")...), w.head(3, flagEndStream, "sum: 7"))
			w.wants(`3: head :status=200 x=y content-length=11  end false`, `3: data "hello sum=7" end true`)
		})
	}
}

// TestRefusedConnections: what ends a whole connection, by which code, and how it is called.
func TestRefusedConnections(t *testing.T) {
	blocks := func(blocks ...[]byte) func(*world) []byte {
		return func(*world) []byte { return bytes.Join(blocks, nil) }
	}
	reset := func(w *world) []byte {
		return append(w.head(w.next(), flagEndStream, get()...), frame(kindReset, 0, w.last, word(8)...)...)
	}
	for name, test := range map[string]struct {
		frames func(*world) []byte
		times  int
		code   code
		want   *message.Refusal
	}{
		"even stream":     {func(w *world) []byte { return w.head(2, flagEndStream, get()...) }, 1, codeProtocol, message.ErrFrames},
		"stream 0":        {func(w *world) []byte { return w.head(0, flagEndStream, get()...) }, 1, codeProtocol, message.ErrFrames},
		"long frame":      {blocks(appendHeader(nil, frameBytesLeast+1, kindData, 0, 1)), 1, codeFrameSize, message.ErrFrames},
		"compression":     {blocks(frame(kindHeaders, 5, 1, 0xff, 0xff, 0xff, 0x0f)), 1, codeCompression, message.ErrCompression},
		"huge table":      {blocks(frame(kindHeaders, 5, 1, 0x3f, 0xe2, 0x3f)), 1, codeCompression, message.ErrCompression},
		"window overflow": {blocks(frame(kindWindow, 0, 0, word(windowMost)...)), 1, codeFlowControl, message.ErrWindow},
		"settings window": {blocks(frame(kindSettings, 0, 0, 0, 4, 0x80, 0, 0, 0)), 1, codeFlowControl, message.ErrWindow},
		"too much body": {func(w *world) []byte {
			w.engine.unread.Store(lentMost) // others have had what is lent
			return append(w.head(w.next(), 0, post()...), bytes.Repeat(frame(kindData, 0, w.last, make([]byte, 16<<10)...), 8)...)
		}, 5, codeFlowControl, message.ErrWindow},
		"endless head": {func(w *world) []byte {
			return append(frame(kindHeaders, 0, 1), bytes.Repeat(frame(kindContinuation, 0, 1, make([]byte, 5<<10)...), 2)...)
		}, 1, codeEnhanceCalm, message.ErrHeadEndless},
		"continuations": {func(w *world) []byte {
			return append(frame(kindHeaders, 0, 1), bytes.Repeat(frame(kindContinuation, 0, 1), 21)...)
		}, 1, codeEnhanceCalm, message.ErrHeadEndless},
		"rapid reset": {reset, 200, codeEnhanceCalm, message.ErrResets},
		"rapid faults": {func(w *world) []byte {
			return append(w.head(w.next(), flagEndStream, get()...), frame(kindWindow, 0, w.last, word(0)...)...)
		}, 200, codeEnhanceCalm, message.ErrResets},
		"pings":            {blocks(frame(kindPing, 0, 0, make([]byte, 8)...)), 200, codeEnhanceCalm, message.ErrControls},
		"settings":         {blocks(frame(kindSettings, 0, 0)), 200, codeEnhanceCalm, message.ErrControls},
		"priorities":       {blocks(frame(kindPriority, 0, 1, 0, 0, 0, 0, 0)), 200, codeEnhanceCalm, message.ErrControls},
		"unknown frames":   {blocks(frame(0x77, 0, 1)), 200, codeEnhanceCalm, message.ErrControls},
		"windows":          {blocks(frame(kindWindow, 0, 0, word(1)...)), 200, codeEnhanceCalm, message.ErrControls},
		"empty data":       {func(w *world) []byte { return append(w.open(), frame(kindData, 0, 1)...) }, 200, codeEnhanceCalm, message.ErrControls},
		"padding alone":    {func(w *world) []byte { return append(w.open(), frame(kindData, flagPadded, 1, 1, 0)...) }, 200, codeEnhanceCalm, message.ErrControls},
		"resets of old":    {func(w *world) []byte { return append(w.open(), frame(kindReset, 0, 1, word(8)...)...) }, 200, codeEnhanceCalm, message.ErrControls},
		"padding too long": {func(w *world) []byte { return append(w.open(), frame(kindData, flagPadded, 1, 2, 0)...) }, 1, codeProtocol, message.ErrFrames},
	} {
		t.Run(name, func(t *testing.T) {
			limits := testLimits()
			limits.Streams = 500
			release := make(chan struct{})
			w := start(t, limits, func(ex *message.Exchange) { <-release })
			t.Cleanup(func() { close(release) })
			w.greet()
			for range test.times {
				if _, err := w.conn.Write(test.frames(w)); err != nil {
					break // it has ended
				}
			}
			var last answer
			for a := w.hear(); a.header != (header{}); a = w.hear() {
				last = a
			}
			if last.kind != kindGoAway || code(last.payload[7]) != test.code {
				t.Errorf("last heard %q, want code %d", last, test.code)
			}
			w.wantsCause(test.want)
		})
	}
}

// next is the id of a stream that begins.
func (w *world) next() uint32 {
	if w.last == 0 {
		w.last = 1
	} else {
		w.last += 2
	}
	return w.last
}

// open opens stream 1, the first time.
func (w *world) open() []byte {
	if w.last > 0 {
		return nil
	}
	return w.head(w.next(), 0, post()...)
}

// TestLateHead: a head that is not complete in time.
func TestLateHead(t *testing.T) {
	limits := testLimits()
	limits.HeadTime = 300 * time.Millisecond
	for name, part := range map[string][]byte{
		"block": frame(kindHeaders, 0, 1),
		"frame": {0, 0, 5, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, limits, replies("ok"))
			w.greet()
			w.say(part)
			if a := w.hear(); a.kind != kindGoAway || code(a.payload[7]) != codeEnhanceCalm {
				t.Errorf("heard %q", a)
			}
			w.over()
			w.wantsCause(message.ErrHeadTime)
		})
	}
}

// TestUnread: a client that has everything answered and reads nothing.
func TestUnread(t *testing.T) {
	limits := testLimits()
	limits.ControlFrames = 1 << 20
	w := start(t, limits, replies("ok"))
	w.greet()
	pings := bytes.Repeat(frame(kindPing, 0, 0, make([]byte, 8)...), 1000)
	for len(w.causes()) == 0 {
		if _, err := w.conn.Write(pings); err != nil {
			break
		}
	}
	<-w.ended
	w.wantsCause(message.ErrUnread)
	w.ended <- struct{}{} // for the end of the test
}
