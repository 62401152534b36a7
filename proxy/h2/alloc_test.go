package h2

import (
	"encoding/binary"
	"io"
	"testing"

	"sallyport/proxy/message"
)

// TestConversationAllocations: what an exchange allocates, once buffers have grown and the
// client's fields are in the table. A field that is not is a text of the decoder's, and one
// that goes into the table takes the place of another: its own figure.
func TestConversationAllocations(t *testing.T) {
	if raced {
		t.Skip("the race detector allocates")
	}
	resp := &message.Response{Status: 200, Length: 2}
	resp.Fields.Add("Content-Type", []byte("text/plain"))
	body := []byte("ok")
	limits := testLimits()
	limits.ControlFrames = 1 << 20 // the client is one processor with us, and not slow
	for name, test := range map[string]struct {
		lines []string
		body  int
		fresh bool // the client puts nothing into the table
		most  float64
	}{
		"GET":               {get("user-agent: x", "accept: */*", "cookie: a=b", "cookie: c=d", "priority: u=1, i"), 0, false, 0},
		"POST":              {post("content-length: 1000"), 1000, false, 0},
		"POST of no length": {post(), 20000, false, 0},
		"three fields anew": {get("x-a: 1", "x-b: 2", "x-c: 3"), 0, true, 6}, // a name and a value each
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, limits, func(ex *message.Exchange) {
				for {
					if _, err := ex.Stream.Next(); err == io.EOF {
						break
					} else if err != nil {
						t.Error(err)
						return
					}
				}
				if ex.Stream.Reply(resp) != nil {
					return
				}
				if _, err := ex.Stream.Write(body); err == nil {
					_ = ex.Stream.Finish(nil)
				}
			})
			w.greet()
			if test.fresh {
				w.enc.SetMaxDynamicTableSizeLimit(0)
			}
			first := w.section(test.lines...)
			section := w.section(test.lines...) // by reference, where there is a table
			w.roundtrip(t, w.append(nil, 1, first, test.body), 1)
			id, scratch := uint32(3), make([]byte, 0, 64<<10)
			one := func() {
				scratch = w.append(scratch[:0], id, section, test.body)
				w.roundtrip(t, scratch, id)
				id += 2
			}
			for range 200 {
				one()
			}
			if n := testing.AllocsPerRun(500, one); n > test.most {
				t.Errorf("%v allocations, want %v", n, test.most)
			}
		})
	}
}

// append appends the frames of a request.
func (w *world) append(b []byte, id uint32, section []byte, body int) []byte {
	flags := uint8(flagEndHeaders)
	if body == 0 {
		flags |= flagEndStream
	}
	b = append(appendHeader(b, len(section), kindHeaders, flags, id), section...)
	for flags = 0; body > 0; {
		n := min(body, frameBytesLeast)
		if body -= n; body == 0 {
			flags = flagEndStream
		}
		b = appendHeader(b, n, kindData, flags, id)
		b = append(b, zeros[:n]...)
	}
	return b
}

var zeros [frameBytesLeast]byte

// roundtrip says b, and hears as far as the end of stream id.
func (w *world) roundtrip(t *testing.T, b []byte, id uint32) {
	if _, err := w.conn.Write(b); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := io.ReadFull(w.conn, w.scratch[:headerBytes]); err != nil {
			t.Fatal(err)
		}
		h := parseHeader(w.scratch[:])
		if _, err := io.ReadFull(w.conn, w.scratch[:h.length]); err != nil {
			t.Fatal(err)
		}
		switch {
		case h.kind == kindGoAway, h.kind == kindReset:
			t.Fatalf("stream %d ended: %v", id, binary.BigEndian.Uint32(w.scratch[:]))
		case h.stream == id && h.has(flagEndStream) && (h.kind == kindData || h.kind == kindHeaders):
			return
		}
	}
}

// TestCallAllocations: what a call on an app's connection allocates, once buffers have grown
// and what the app says is in its table. The upload of a body that is not there yet is a
// goroutine, as with HTTP/1, and not counted here.
func TestCallAllocations(t *testing.T) {
	if raced {
		t.Skip("the race detector allocates")
	}
	w := startApp(t, patience)
	req, scratch := asked("POST"), make([]byte, 0, 64<<10)
	req.Length, req.Trailers = 1000, true
	req.Fields.Add("Content-Type", []byte("application/grpc"))
	w.greetedLater()
	first := [][]byte{w.section(":status: 200", "content-type: application/grpc"), w.section("grpc-status: 0", "grpc-message: ")}
	sections := [][]byte{w.section(":status: 200", "content-type: application/grpc"), w.section("grpc-status: 0", "grpc-message: ")}
	k, body, id := new(Call), new(piece), uint32(1)
	call := func() {
		if !w.link.Reserve() {
			t.Fatal("no room")
		}
		k.Open(&w.link, patience)
		*body = zeros[:1000]
		if complete, err := k.Send(req, body); !complete || err != nil {
			t.Fatal(err)
		}
		w.awaitEnd(id)
		scratch = append(appendHeader(scratch[:0], len(first[0]), kindHeaders, flagEndHeaders, id), first[0]...)
		scratch = append(appendHeader(scratch, 1000, kindData, 0, id), zeros[:1000]...)
		scratch = append(appendHeader(scratch, len(first[1]), kindHeaders, flagEndHeaders|flagEndStream, id), first[1]...)
		first, scratch = sections, appendWindow(scratch, 0, 1000)
		if _, err := w.conn.Write(scratch); err != nil {
			t.Fatal(err)
		}
		if err := k.Await(patience); err != nil {
			t.Fatal(err)
		}
		if resp, err := k.ReadReply(req); err != nil || resp.Status != 200 {
			t.Fatal(err)
		}
		for {
			if _, err := k.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if k.Trailer().Len() != 2 {
			t.Fatal("no trailer")
		}
		k.End()
		id += 2
	}
	for range 200 {
		call()
	}
	if n := testing.AllocsPerRun(500, call); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// greetedLater has the app say its settings before it has heard ours.
func (w *appWorld) greetedLater() {
	w.say(frame(kindSettings, 0, 0))
}

// awaitEnd hears as far as the end of the request on stream id.
func (w *appWorld) awaitEnd(id uint32) {
	if !w.heard {
		w.heard = true
		if _, err := io.ReadFull(w.conn, w.scratch[:len(preface)]); err != nil {
			w.Fatal(err)
		}
	}
	for {
		if _, err := io.ReadFull(w.conn, w.scratch[:headerBytes]); err != nil {
			w.Fatal(err)
		}
		h := parseHeader(w.scratch[:])
		if _, err := io.ReadFull(w.conn, w.scratch[:h.length]); err != nil {
			w.Fatal(err)
		}
		if h.stream == id && h.has(flagEndStream) && (h.kind == kindData || h.kind == kindHeaders) {
			return
		}
	}
}

// A piece is a body that is there.
type piece []byte

func (p *piece) Ready() bool { return true }

func (p *piece) Next() ([]byte, error) {
	b := *p
	if *p = nil; b == nil {
		return nil, io.EOF
	}
	return b, nil
}
