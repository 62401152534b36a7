package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// patience bounds every wait of a test. It is no limit of anything that is tested.
const patience = 20 * time.Second

func testLimits() conf.Limits {
	return conf.Limits{
		HeadBytes: 4 << 10, Fields: 20, LineBytes: 1 << 10, HeadTime: patience, BodyIdle: patience, WriteIdle: patience, KeepaliveIdle: patience,
		Streams: 10, StreamResets: 50, ControlFrames: 100,
	}
}

// serves is a message.Handler.
type serves func(*message.Exchange)

func (f serves) Serve(ex *message.Exchange) { f(ex) }

// A world is an engine with one connection to a client, which is the test.
type world struct {
	*testing.T
	engine *Engine
	conn   net.Conn
	dec    *hpack.Decoder
	enc    *hpack.Encoder
	block  bytes.Buffer
	ended  chan struct{}

	scratch [frameBytesLeast]byte

	mu      sync.Mutex
	refused []string
	last    uint32 // stream
}

// start serves one connection with handler.
func start(t *testing.T, limits conf.Limits, handler func(*message.Exchange)) *world {
	t.Helper()
	w := &world{T: t, ended: make(chan struct{}, 1)}
	w.engine = &Engine{
		Handler: serves(handler), Limits: limits, Ended: func(message.Peer) { w.ended <- struct{}{} },
		Refused: func(_ *message.Exchange, refusal *message.Refusal) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.refused = append(w.refused, refusal.Cause)
		},
	}
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
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
	w.conn, err = net.FileConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	_ = w.conn.SetDeadline(time.Now().Add(patience))
	w.dec = hpack.NewDecoder(4096, nil)
	w.enc = hpack.NewEncoder(&w.block)
	w.engine.Start(raw, raw, message.Peer{})
	t.Cleanup(func() {
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

// greet begins the conversation.
func (w *world) greet() {
	w.Helper()
	w.say([]byte(preface), frame(kindSettings, 0, 0))
}

func (w *world) say(parts ...[]byte) {
	w.Helper()
	if _, err := w.conn.Write(bytes.Join(parts, nil)); err != nil {
		w.Fatalf("say: %v", err)
	}
}

// frame is a frame with a payload.
func frame(k kind, flags uint8, stream uint32, payload ...byte) []byte {
	return append(appendHeader(nil, len(payload), k, flags, stream), payload...)
}

func word(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// section is a field section of lines like "name: value".
func (w *world) section(lines ...string) []byte {
	w.block.Reset()
	for _, line := range lines {
		name, value, _ := strings.Cut(line[1:], ": ")
		_ = w.enc.WriteField(hpack.HeaderField{Name: line[:1] + name, Value: value})
	}
	return bytes.Clone(w.block.Bytes())
}

// get are the pseudo fields of a request.
func get(lines ...string) []string {
	return append([]string{":method: GET", ":scheme: http", ":authority: app.test", ":path: /"}, lines...)
}

func post(lines ...string) []string {
	return append([]string{":method: POST", ":scheme: http", ":authority: app.test", ":path: /"}, lines...)
}

// head is a HEADERS frame, flags beside END_HEADERS.
func (w *world) head(stream uint32, flags uint8, lines ...string) []byte {
	return frame(kindHeaders, flags|flagEndHeaders, stream, w.section(lines...)...)
}

// An answer is a frame that came.
type answer struct {
	header
	payload []byte
	fields  string // of HEADERS
}

func (a answer) String() string {
	switch a.kind {
	case kindHeaders:
		return fmt.Sprintf("%d: head %s end %v", a.stream, a.fields, a.has(flagEndStream))
	case kindData:
		return fmt.Sprintf("%d: data %.60q end %v", a.stream, a.payload, a.has(flagEndStream))
	case kindReset:
		return fmt.Sprintf("%d: reset %d", a.stream, binary.BigEndian.Uint32(a.payload))
	case kindGoAway:
		return fmt.Sprintf("goaway %d %d", binary.BigEndian.Uint32(a.payload), binary.BigEndian.Uint32(a.payload[4:]))
	case kindWindow:
		return fmt.Sprintf("%d: window %d", a.stream, binary.BigEndian.Uint32(a.payload))
	}
	return fmt.Sprintf("%d: kind %d flags %d %q", a.stream, a.kind, a.flags, a.payload)
}

// hear is the next frame that is none of settings; "" at the end of the connection.
func (w *world) hear() answer {
	w.Helper()
	for {
		var b [headerBytes]byte
		if _, err := io.ReadFull(w.conn, b[:]); err == io.EOF {
			return answer{}
		} else if err != nil {
			w.Fatalf("hear: %v", err)
		}
		a := answer{header: parseHeader(b[:])}
		a.payload = make([]byte, a.length)
		if _, err := io.ReadFull(w.conn, a.payload); err != nil {
			w.Fatalf("hear: %v", err)
		}
		if a.kind == kindSettings || a.kind == kindWindow && a.stream == 0 && binary.BigEndian.Uint32(a.payload) == connWindow-windowAtFirst {
			continue
		}
		if a.kind == kindHeaders {
			fields, err := w.dec.DecodeFull(a.payload)
			if err != nil {
				w.Fatalf("hear: %v in %q", err, a.payload)
			}
			for _, f := range fields {
				if f.Name != "date" {
					a.fields += f.Name + "=" + f.Value + " "
				}
			}
		}
		return a
	}
}

// wants hears frames and compares them, as texts.
func (w *world) wants(frames ...string) {
	w.Helper()
	for _, want := range frames {
		if got := w.hear(); got.String() != want {
			w.Fatalf("heard %q, want %q; refused: %q", got, want, w.causes())
		}
	}
}

// over wants the connection to end without a further frame.
func (w *world) over() {
	w.Helper()
	if a := w.hear(); a.header != (header{}) {
		w.Fatalf("the connection goes on with %q", a)
	}
}

func (w *world) causes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.refused...)
}

// wantsCause waits for a refusal, and wants it to be the only one.
func (w *world) wantsCause(want *message.Refusal) {
	w.Helper()
	deadline := time.Now().Add(patience)
	for len(w.causes()) == 0 && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if causes := w.causes(); !slices.Equal(causes, []string{want.Cause}) {
		w.Errorf("refused: %q, want %q", causes, want.Cause)
	}
}

// replies answers with text, and reads nothing.
func replies(text string) func(*message.Exchange) {
	return func(ex *message.Exchange) {
		resp := &message.Response{Status: 200, Length: int64(len(text))}
		resp.Fields.Add("X", []byte("y"))
		resp.Fields.Add("Date", []byte("d"))
		if ex.Stream.Reply(resp) != nil {
			return
		}
		if _, err := ex.Stream.Write([]byte(text)); err == nil {
			_ = ex.Stream.Finish(nil)
		}
	}
}

// echoes answers with the body, when all of it is there, or with why there is none.
func echoes(ex *message.Exchange) {
	var body []byte
	for {
		piece, err := ex.Stream.Next()
		body = append(body, piece...)
		if err == io.EOF {
			break
		}
		if refusal, ok := err.(*message.Refusal); ok {
			_ = (&message.Page{Status: refusal.Status, Text: refusal.Cause}).Send(ex.Stream)
			return
		}
		if err != nil {
			return
		}
	}
	for i := range ex.Request.Trailer.Len() {
		_, key, value := ex.Request.Trailer.Line(i)
		body = fmt.Appendf(body, " %s=%s", key, value)
	}
	replies(string(body))(ex)
}
