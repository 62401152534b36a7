package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// An appWorld is a connection to an app, which is the test.
type appWorld struct {
	world
	link  AppConn
	apps  *Apps
	said  bool // the first word of the app
	heard bool // the preface
}

var appLimits = conf.Limits{HeadBytes: 4 << 10, LineBytes: 1 << 10, Fields: 20}

// startApp connects to an app.
func startApp(t *testing.T, idle time.Duration) *appWorld {
	t.Helper()
	w := &appWorld{world: world{T: t, ended: make(chan struct{}, 1)}, apps: new(Apps)}
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	w.connect(watcher, idle)
	w.dec = hpack.NewDecoder(4096, nil)
	w.enc = hpack.NewEncoder(&w.block)
	t.Cleanup(func() {
		w.link.Retire()
		w.conn.Close()
		select {
		case <-w.ended:
		case <-time.After(patience):
			t.Error("the connection does not end")
		}
		watcher.Close()
	})
	return w
}

func (w *appWorld) connect(watcher *loop.Loop, idle time.Duration) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		w.Fatal(err)
	}
	if err := watcher.Adopt(&w.link.Raw, ends[0]); err != nil {
		w.Fatal(err)
	}
	file := os.NewFile(uintptr(ends[1]), "app")
	w.conn, err = net.FileConn(file)
	file.Close()
	if err != nil {
		w.Fatal(err)
	}
	_ = w.conn.SetDeadline(time.Now().Add(patience))
	w.link.Start(w.apps, &appLimits, idle, 0, func() { w.ended <- struct{}{} })
	first := new(Call) // for which there is room
	first.Open(&w.link, idle)
	first.End()
}

// call begins a call.
func (w *appWorld) call(req *message.Request) *Call {
	w.Helper()
	w.first(frame(kindSettings, 0, 0))
	k := w.room()
	if complete, err := k.Send(req, nobody{}); err != nil || !complete {
		w.Fatalf("send: %v", err)
	}
	return k
}

// room is a call that is to begin.
func (w *appWorld) room() *Call {
	w.Helper()
	if !w.link.Reserve() {
		w.Fatal("no room for a call")
	}
	k := new(Call)
	k.Open(&w.link, patience)
	return k
}

// first says what the app says before it hears anything, once.
func (w *appWorld) first(b []byte) {
	if !w.said {
		w.said = true
		w.say(b)
	}
}

// nobody is a body that has ended.
type nobody struct{}

func (nobody) Ready() bool           { return true }
func (nobody) Next() ([]byte, error) { return nil, io.EOF }

func asked(method string) *message.Request {
	return &message.Request{Method: []byte(method), Target: []byte("/"), Host: []byte("app.test")}
}

// greeted hears what a connection begins with.
func (w *appWorld) greeted() {
	w.Helper()
	b := make([]byte, len(preface))
	if _, err := io.ReadFull(w.conn, b); err != nil || string(b) != preface {
		w.Fatalf("%q: %v", b, err)
	}
}

// hears is hear without what has to be said on every connection.
func (w *appWorld) hears() answer {
	for {
		if a := w.hear(); a.kind != kindWindow || a.stream != 0 {
			return a
		}
	}
}

// a reply, as far as a client would have it.
func reading(k *Call, req *message.Request) (said string, err error) {
	if err := k.Await(patience); err != nil {
		return "", err
	}
	var b strings.Builder
	for {
		resp, err := k.ReadReply(req)
		if err != nil {
			return b.String(), err
		}
		fmt.Fprintf(&b, "%d", resp.Status)
		for i := range resp.Fields.Len() {
			_, key, value := resp.Fields.Line(i)
			fmt.Fprintf(&b, " %s=%s", key, value)
		}
		fmt.Fprintf(&b, " (%d) ", resp.Length)
		if !resp.Interim() {
			break
		}
	}
	for {
		piece, err := k.Next()
		b.Write(piece)
		if err == io.EOF {
			break
		}
		if err != nil {
			return b.String(), err
		}
	}
	if trailer := k.Trailer(); trailer != nil {
		for i := range trailer.Len() {
			_, key, value := trailer.Line(i)
			fmt.Fprintf(&b, " %s=%s", key, value)
		}
	}
	return b.String(), nil
}

// A reply of an app, and what becomes of it.
type hostile struct {
	name   string
	frames func(w *appWorld) [][]byte
	method string // GET, if it is not said
	said   string // to the client, before it was cut or ended
	err    error  // what that was; nil: the reply is whole
	fatal  bool   // the connection is over
}

func one(parts ...func(w *appWorld) []byte) func(w *appWorld) [][]byte {
	return func(w *appWorld) (all [][]byte) {
		for _, part := range parts {
			all = append(all, part(w))
		}
		return all
	}
}

func headOf(flags uint8, lines ...string) func(w *appWorld) []byte {
	return func(w *appWorld) []byte { return w.head(1, flags, lines...) }
}

func bytesOf(b ...byte) func(w *appWorld) []byte { return func(*appWorld) []byte { return b } }

func dataOf(flags uint8, text string) func(w *appWorld) []byte {
	return bytesOf(frame(kindData, flags, 1, []byte(text)...)...)
}

const end = flagEndStream

// ends waits for the end of the connection.
func (w *appWorld) ends(k *Call) {
	k.End()
	select {
	case <-w.ended:
		w.ended <- struct{}{}
	case <-time.After(patience):
		w.Error("the connection goes on")
	}
}

// TestNotHTTP2: an app that speaks something else, and one that says nothing.
func TestNotHTTP2(t *testing.T) {
	for name, test := range map[string]struct {
		says string
		want error
	}{
		"HTTP/1": {"HTTP/1.1 400 Bad Request\r\n\r\n", message.ErrSpeaksHTTP1},
		"other":  {"220 mail.test ESMTP\r\n", message.ErrFrames},
	} {
		w := startApp(t, patience)
		req := asked("POST")
		k := w.room()
		w.say([]byte(test.says))
		go io.Copy(io.Discard, w.conn)
		if _, err := k.Send(req, nobody{}); err != test.want {
			t.Errorf("%s: %v", name, err)
		}
		w.ends(k)
	}
	w := startApp(t, patience)
	k := w.room()
	go func() {
		_, _ = io.ReadFull(w.conn, make([]byte, 50))
		w.conn.Close()
	}()
	_, err := k.Send(asked("POST"), nobody{})
	if err == nil {
		_, err = reading(k, asked("POST"))
	}
	if _, ok := errors.AsType[*GreetingError](err); !ok || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("no word: %v", err)
	}
	k.End()
}

// TestNothingDone: of which calls an app has done nothing.
func TestNothingDone(t *testing.T) {
	for name, test := range map[string]struct {
		says []byte
		want bool
	}{
		"refused":               {frame(kindReset, 0, 3, word(7)...), true},
		"cancelled":             {frame(kindReset, 0, 3, word(8)...), false},
		"beyond the last":       {frame(kindGoAway, 0, 0, append(word(1), word(0)...)...), true},
		"up to the last":        {append(frame(kindGoAway, 0, 0, append(word(3), word(0)...)...), frame(kindReset, 0, 3, word(2)...)...), false},
		"beyond with an error":  {frame(kindGoAway, 0, 0, append(word(0), word(11)...)...), true},
		"refused behind a head": {append(frame(kindHeaders, flagEndHeaders, 3, 0x88), frame(kindReset, 0, 3, word(7)...)...), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := startApp(t, patience)
			first, req := w.call(asked("GET")), asked("GET")
			k := w.call(req)
			defer first.End()
			defer k.End()
			w.greeted()
			w.say(test.says)
			go io.Copy(io.Discard, w.conn)
			if _, err := reading(k, req); err == nil || k.Unread() != test.want {
				t.Errorf("unread: %v, by %v", k.Unread(), err)
			}
			if strings.Contains(name, "last") && w.link.Reserve() {
				t.Error("goes on with new calls")
			}
		})
	}
}

// TestCallsAtATime: an app says how many it takes.
func TestCallsAtATime(t *testing.T) {
	w := startApp(t, patience)
	req := asked("GET")
	w.first(frame(kindSettings, 0, 0, 0, 3, 0, 0, 0, 2))
	k := w.call(req)
	w.greeted()
	w.say(w.head(1, 0, ":status: 200"))
	if err := k.Await(patience); err != nil {
		t.Fatal(err)
	}
	other := w.call(asked("GET"))
	if w.link.Reserve() {
		t.Error("a third call")
	}
	k.End()
	third := w.call(asked("GET"))
	other.End()
	third.End()
	for _, want := range []string{"1: head", "3: head", "1: reset 8", "5: head", "3: reset 8", "5: reset 8"} {
		if a := w.hears(); !strings.HasPrefix(a.String(), want) {
			t.Errorf("%q, want %q", a, want)
		}
	}
}

// TestSlowReader: a call that nobody reads keeps its own window, and no other call waiting.
func TestSlowReader(t *testing.T) {
	w := startApp(t, patience)
	req := asked("GET")
	slow := w.call(req)
	quick := w.call(req)
	defer slow.End()
	w.greeted()
	var said [][]byte
	said = append(said, w.head(1, 0, ":status: 200"))
	for n := streamWindow; n > 0; n -= frameBytesLeast {
		said = append(said, frame(kindData, 0, 1, make([]byte, frameBytesLeast)...))
	}
	said = append(said, w.head(3, 0, ":status: 200"), frame(kindData, end, 3, []byte("quick")...))
	go io.Copy(io.Discard, w.conn)
	w.say(bytes.Join(said, nil))
	if got, err := reading(quick, req); err != nil || got != "200 (-1) quick" {
		t.Errorf("%q: %v", got, err)
	}
	quick.End()
	w.say(frame(kindData, 0, 1, 1)) // one byte too many
	for deadline := time.Now().Add(patience); !slow.isGone() && time.Now().Before(deadline); {
		runtime.Gosched() // to read what is there would give window back
	}
	if got, err := reading(slow, req); err != message.ErrWindow {
		t.Errorf("%d bytes: %v", len(got), err)
	}
}

func (k *Call) isGone() bool {
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	return k.gone
}

// checkReply wants what is read of an app to be what HTTP/1 can say without a doubt.
func checkReply(t *testing.T, resp *message.Response) {
	if resp.Status < 100 || resp.Status > 599 || resp.Length < -1 || resp.Status == 101 {
		t.Errorf("status %d, length %d", resp.Status, resp.Length)
	}
	checkFields(t, &resp.Fields)
	for i := range resp.Fields.Len() {
		switch name, key, value := resp.Fields.Line(i); name {
		case message.Connection, message.ContentLength, message.TransferEncoding, message.Upgrade, message.TE, message.KeepAlive, message.Expect:
			t.Errorf("field %q: %q", key, value)
		}
	}
}

// FuzzApp has an app say any bytes behind its settings. The connection ends, whatever they
// are; what is read of the reply is in order.
func FuzzApp(f *testing.F) {
	w := &appWorld{}
	w.enc = hpack.NewEncoder(&w.block)
	for _, test := range hostiles() {
		w.block.Reset()
		w.enc = hpack.NewEncoder(&w.block)
		if all := bytes.Join(test.frames(w), nil); len(all) < 1000 {
			f.Add(all)
		}
	}
	watcher, err := loop.New()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { watcher.Close() })
	f.Fuzz(func(t *testing.T, said []byte) {
		w := &appWorld{world: world{T: t, ended: make(chan struct{}, 1)}, apps: new(Apps)}
		w.connect(watcher, 100*time.Millisecond)
		var calls [2]*Call
		for i := range calls {
			calls[i] = w.call(asked("GET"))
		}
		go func() {
			_, _ = w.conn.Write(said)
			_ = w.conn.(*net.UnixConn).CloseWrite()
			_, _ = io.Copy(io.Discard, w.conn)
			w.conn.Close()
		}()
		for _, k := range calls {
			for final := false; !final; {
				resp, err := k.ReadReply(nil)
				if err != nil {
					break
				}
				checkReply(t, resp)
				final = !resp.Interim()
			}
			length, got := k.body.length, int64(0)
			for k.final {
				piece, err := k.Next()
				if got += int64(len(piece)); err == io.EOF {
					if length >= 0 && got != length {
						t.Errorf("%d bytes of %d", got, length)
					}
					checkFields(t, &k.trailer)
					break
				} else if err != nil {
					break
				}
			}
			k.End()
		}
		w.link.Retire()
		select {
		case <-w.ended:
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
	})
}

// TestNotSent: what is said to an app that has just closed was read by nobody, whether or not
// that is known when the call begins.
func TestNotSent(t *testing.T) {
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	for range 300 {
		w := &appWorld{world: world{T: t, ended: make(chan struct{}, 1)}, apps: new(Apps)}
		w.connect(watcher, patience)
		w.first(frame(kindSettings, 0, 0))
		k := w.room()
		if err := k.awaitGreeting(asked("POST")); err != nil {
			t.Fatal(err)
		}
		w.greeted()
		w.conn.Close() // with what has come since unread, or not
		_, err := k.Send(asked("POST"), nobody{})
		if err == nil {
			err = k.Await(patience)
		}
		if err == nil || !k.Unread() {
			t.Fatalf("unread: %v, by %v", k.Unread(), err)
		}
		k.End()
		w.link.Retire()
		<-w.ended
	}
}
