package h2

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/proxy/message"
)

// hearRaw is hear without a look into fields, and passing over settings.
func (w *world) hearRaw() answer {
	w.Helper()
	for {
		var b [headerBytes]byte
		if _, err := io.ReadFull(w.conn, b[:]); err != nil {
			w.Fatalf("hear: %v", err)
		}
		a := answer{header: parseHeader(b[:])}
		a.payload = make([]byte, a.length)
		if _, err := io.ReadFull(w.conn, a.payload); err != nil {
			w.Fatalf("hear: %v", err)
		}
		if a.kind != kindSettings && (a.kind != kindWindow || a.stream != 0) {
			return a
		}
	}
}

// TestSendWindows: no more of a body goes out than the windows let, and the rest when they do.
func TestSendWindows(t *testing.T) {
	body := strings.Repeat("0123456789", 10)
	w := start(t, testLimits(), replies(body))
	w.say([]byte(preface), frame(kindSettings, 0, 0, 0, 4, 0, 0, 0, 10))
	w.say(w.head(1, flagEndStream, get()...))
	w.wants("1: head :status=200 x=y content-length=100  end false", `1: data "0123456789" end false`)
	w.say(frame(kindWindow, 0, 1, word(5)...))
	w.wants(`1: data "01234" end false`)
	w.say(frame(kindSettings, 0, 0, 0, 4, 0, 0, 0, 13)) // three more for each
	w.wants(`1: data "567" end false`)
	w.say(frame(kindSettings, 0, 0, 0, 4, 0, 0, 0, 0), frame(kindWindow, 0, 1, word(13)...)) // minus 13
	w.say(frame(kindPing, 0, 0, make([]byte, 8)...))
	w.wants(`0: kind 6 flags 1 "\x00\x00\x00\x00\x00\x00\x00\x00"`)
	w.say(frame(kindWindow, 0, 1, word(1000)...))
	if a := w.hear(); string(a.payload) != body[18:] {
		t.Errorf("heard %q", a)
	}
	w.wants(`1: data "" end true`)
}

// TestConnectionWindow: what all streams together may have.
func TestConnectionWindow(t *testing.T) {
	w := start(t, testLimits(), replies(strings.Repeat("x", 50000)))
	w.greet()
	w.say(w.head(1, flagEndStream, get()...), w.head(3, flagEndStream, get()...))
	got := map[uint32]int{}
	for got[1]+got[3] < windowAtFirst {
		if a := w.hear(); a.kind == kindData {
			got[a.stream] += a.length
		}
	}
	w.say(frame(kindPing, 0, 0, make([]byte, 8)...))
	w.wants(`0: kind 6 flags 1 "\x00\x00\x00\x00\x00\x00\x00\x00"`)
	w.say(frame(kindWindow, 0, 0, word(100000)...))
	for got[1]+got[3] < 100000 {
		if a := w.hear(); a.kind == kindData {
			got[a.stream] += a.length
		}
	}
}

// TestReceiveWindows: a body of any length comes through the windows, which are given back as
// it is read, and no more of it is kept than they let.
func TestReceiveWindows(t *testing.T) {
	t.Run("lent", func(t *testing.T) { receiveWindows(t, 0) })
	t.Run("all is lent to others", func(t *testing.T) { receiveWindows(t, lentMost) })
}

func receiveWindows(t *testing.T, others int64) {
	const size = 3 << 20
	w := start(t, testLimits(), func(ex *message.Exchange) {
		total := 0
		for {
			piece, err := ex.Stream.Next()
			total += len(piece)
			if err == io.EOF {
				break
			} else if err != nil {
				t.Error(err)
				return
			}
		}
		replies(fmt.Sprint(total))(ex)
	})
	w.engine.unread.Store(others)
	w.greet()
	w.say(w.head(1, 0, post()...))
	windows := map[uint32]int{0: connWindow, 1: streamWindow}
	for left := size; left > 0; {
		n := min(left, 16384, windows[0], windows[1])
		if n > 0 {
			flags := uint8(0)
			if n == left {
				flags = flagEndStream
			}
			w.say(frame(kindData, flags, 1, make([]byte, n)...))
			windows[0] -= n
			windows[1] -= n
			left -= n
			continue
		}
		a := w.hear()
		if a.kind != kindWindow {
			t.Fatalf("heard %q", a)
		}
		windows[a.stream] += int(a.payload[0])<<24 | int(a.payload[1])<<16 | int(a.payload[2])<<8 | int(a.payload[3])
	}
	for {
		if a := w.hear(); a.kind == kindData {
			if string(a.payload) != fmt.Sprint(size) {
				t.Errorf("heard %q", a)
			}
			break
		}
	}
	if n := w.engine.unread.Load(); n != others {
		t.Errorf("%d bytes unread", n-others)
	}
}

// TestUrgency: of bodies that wait for the client, the more urgent one goes first, one of
// the same urgency before the next, and those that are of use in parts take turns.
func TestUrgency(t *testing.T) {
	for name, test := range map[string]struct {
		priorities []string
		want       []uint32 // streams of the frames
	}{
		"by urgency":  {[]string{"u=5", "u=1", "u=3"}, []uint32{3, 3, 5, 5, 1, 1}},
		"in order":    {[]string{"", "", ""}, []uint32{1, 1, 3, 3, 5, 5}},
		"in turns":    {[]string{"i", "i", "i"}, []uint32{1, 3, 5, 1, 3, 5}},
		"mixed":       {[]string{"i", "u=3", "u=2, i"}, []uint32{5, 5, 3, 3, 1, 1}},
		"not by what": {[]string{"u=9", "x", "u=3"}, []uint32{1, 1, 3, 3, 5, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			waiting := make(chan struct{}, 3)
			body := make([]byte, 20000) // two frames each; all fit one write
			w := start(t, testLimits(), func(ex *message.Exchange) {
				if ex.Stream.Reply(&message.Response{Status: 200, Length: int64(len(body))}) != nil {
					return
				}
				_ = ex.Stream.Flush()
				waiting <- struct{}{}
				if _, err := ex.Stream.Write(body); err == nil {
					_ = ex.Stream.Finish(nil)
				}
			})
			w.say([]byte(preface), frame(kindSettings, 0, 0, 0, 4, 0, 0, 0, 0)) // nothing goes out
			for i, value := range test.priorities {
				w.say(w.head(uint32(2*i+1), flagEndStream, get("priority: "+value)...))
				if a := w.hear(); a.kind != kindHeaders {
					t.Fatalf("heard %q", a)
				}
				<-waiting
			}
			for _, s := range []uint32{1, 3, 5} { // each by itself opens nothing: the connection's is used up
				w.wantsQueued(s)
			}
			w.say(frame(kindSettings, 0, 0, 0, 4, 0, 1, 0, 0), frame(kindWindow, 0, 0, word(1<<20)...))
			var got []uint32
			for len(got) < len(test.want) {
				if a := w.hear(); a.kind == kindData && a.length > 0 {
					got = append(got, a.stream)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("frames of %v, want %v", got, test.want)
			}
		})
	}
}

// wantsQueued waits until a stream waits for the client.
func (w *world) wantsQueued(id uint32) {
	w.Helper()
	w.eventually("a stream that waits", func(c *ClientConn) bool {
		s := c.find(id)
		return s != nil && s.reply.queued
	})
}

// eventually waits until something is so of the connection.
func (w *world) eventually(what string, is func(*ClientConn) bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		so := w.engine.each(func(c *ClientConn) int {
			if is(c) {
				return 1
			}
			return 0
		})
		if so > 0 {
			return
		}
	}
	w.Fatalf("never: %s", what)
}

// TestClientTakesNothing: a window that stays shut ends the answer, and not the connection.
func TestClientTakesNothing(t *testing.T) {
	limits := testLimits()
	limits.WriteIdle = 50 * time.Millisecond
	failed := make(chan error, 1)
	w := start(t, limits, func(ex *message.Exchange) {
		if string(ex.Request.Target) == "/good" {
			replies("")(ex)
			return
		}
		_ = ex.Stream.Reply(&message.Response{Status: 200, Length: -1})
		_, err := ex.Stream.Write(make([]byte, 100000))
		ex.Stream.Abort(message.Reason{})
		failed <- err
	})
	w.say([]byte(preface), frame(kindSettings, 0, 0, 0, 4, 0, 0, 0, 0))
	w.say(w.head(1, flagEndStream, get()...))
	if err := <-failed; err != errStalled {
		t.Errorf("%v", err)
	}
	w.say(w.head(3, flagEndStream, append(get()[:3], ":path: /good")...))
	w.wants("1: head :status=200  end false", "1: reset 2", "3: head :status=200 x=y content-length=0  end true")
}

// TestGoAway: how a connection ends, on which side's wish.
func TestGoAway(t *testing.T) {
	t.Run("retired, then an exchange", func(t *testing.T) {
		w := start(t, testLimits(), replies("ok"))
		w.greet()
		w.say(w.head(1, flagEndStream, get()...))
		w.wants("1: head :status=200 x=y content-length=2  end false", `1: data "ok" end true`)
		w.engine.Retire()
		w.wants("goaway 2147483647 0", `0: kind 6 flags 0 "goodbye."`)
		for _, id := range []uint32{3, 5} { // both crossed it
			w.say(w.head(id, flagEndStream, get()...))
			w.wants(fmt.Sprintf("%d: head :status=200 x=y content-length=2  end false", id), fmt.Sprintf(`%d: data "ok" end true`, id))
		}
		w.say(frame(kindPing, flagAck, 0, []byte(lastPing)...))
		w.wants("goaway 5 0")
		w.over()
	})
	t.Run("drained, then an exchange", func(t *testing.T) {
		w := start(t, testLimits(), replies("ok"))
		w.greet()
		w.engine.Drain()
		w.wants("goaway 2147483647 0", `0: kind 6 flags 0 "goodbye."`)
		w.say(w.head(1, flagEndStream, get()...), frame(kindPing, flagAck, 0, []byte(lastPing)...))
		w.wants("goaway 1 0", "1: head :status=200 x=y content-length=2  end false", `1: data "ok" end true`)
		w.over()
	})
	t.Run("drained, and silent", func(t *testing.T) {
		w := start(t, testLimits(), replies("ok"))
		w.greet()
		w.engine.Drain()
		w.wants("goaway 2147483647 0", `0: kind 6 flags 0 "goodbye."`, "goaway 0 0")
		w.over()
	})
	t.Run("drained during one", func(t *testing.T) {
		begun, release := make(chan struct{}), make(chan struct{})
		w := start(t, testLimits(), func(ex *message.Exchange) { close(begun); <-release; replies("ok")(ex) })
		w.greet()
		w.say(w.head(1, flagEndStream, get()...))
		<-begun
		w.engine.Drain()
		w.wants("goaway 2147483647 0", `0: kind 6 flags 0 "goodbye."`)
		w.say(frame(kindPing, flagAck, 0, []byte(lastPing)...))
		w.wants("goaway 1 0")
		w.say(w.head(3, flagEndStream, get()...)) // nobody looks at it
		close(release)
		w.wants("1: head :status=200 x=y content-length=2  end false", `1: data "ok" end true`)
		w.over()
	})
	t.Run("the client's", func(t *testing.T) {
		w := start(t, testLimits(), replies("ok"))
		w.greet()
		w.say(w.head(1, flagEndStream, get()...), frame(kindGoAway, 0, 0, make([]byte, 8)...))
		w.wants("1: head :status=200 x=y content-length=2  end false", `1: data "ok" end true`, "goaway 1 0")
		w.over()
	})
	t.Run("idle for too long", func(t *testing.T) {
		limits := testLimits()
		limits.KeepaliveIdle = 50 * time.Millisecond
		w := start(t, limits, replies("ok"))
		w.greet()
		w.say(w.head(1, flagEndStream, get()...))
		w.wants("1: head :status=200 x=y content-length=2  end false", `1: data "ok" end true`, "goaway 2147483647 0", `0: kind 6 flags 0 "goodbye."`, "goaway 1 0")
		w.over()
	})
	t.Run("too many requests", func(t *testing.T) {
		limits := testLimits()
		limits.RequestsPerConnection, limits.Streams = 1, 2
		w := start(t, limits, replies("ok"))
		w.greet()
		w.say(w.head(1, flagEndStream, get()...))
		w.wants("goaway 2147483647 0", `0: kind 6 flags 0 "goodbye."`)
		for _, id := range []uint32{1, 3, 5} { // as many as may be on their way, and then no more
			if id > 1 {
				w.say(w.head(id, flagEndStream, get()...))
			}
			if id == 5 {
				w.wants("goaway 5 0")
			}
			w.wants(fmt.Sprintf("%d: head :status=200 x=y content-length=2  end false", id), fmt.Sprintf(`%d: data "ok" end true`, id))
		}
		w.over()
	})
}

// TestRefusedStreams: more streams than there may be are refused, so that the client may ask
// again, and what was reset counts until its exchange is over.
func TestRefusedStreams(t *testing.T) {
	limits := testLimits()
	limits.Streams = 2
	release := make(chan struct{})
	w := start(t, limits, func(ex *message.Exchange) { <-release; replies("ok")(ex) })
	w.greet()
	w.say(w.head(1, flagEndStream, get()...), w.head(3, flagEndStream, get()...), frame(kindReset, 0, 3, word(8)...), w.head(5, flagEndStream, get("a: b")...))
	w.wants("5: reset 7")
	close(release)
	w.wants("1: head :status=200 x=y content-length=2  end false", `1: data "ok" end true`)
	w.eventually("a stream less", func(c *ClientConn) bool { return len(c.streams) == 0 })
	w.say(w.head(7, flagEndStream, get("a: b")...)) // the table was kept in step
	w.wants("7: head :status=200 x=y content-length=2  end false", `7: data "ok" end true`)
}

// TestTogether: the answers of a turn go out in one write, on one processor, as a core has it.
func TestTogether(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	release := make(chan struct{})
	w := start(t, testLimits(), func(ex *message.Exchange) { <-release; replies("ok")(ex) })
	w.greet()
	var asked []byte
	for i := range uint32(10) {
		asked = append(asked, w.head(2*i+1, flagEndStream, get()...)...)
	}
	w.say(asked)
	w.eventually("all of them", func(c *ClientConn) bool { return len(c.streams) == 10 })
	var before uint64
	w.eventually("nothing to send", func(c *ClientConn) bool { before = c.out.batch; return !c.out.flushing })
	close(release)
	for range 20 {
		w.hear()
	}
	var after uint64
	w.eventually("nothing to send", func(c *ClientConn) bool { after = c.out.batch; return !c.out.flushing })
	if after-before > 2 { // a second, if the runtime has interrupted one of them
		t.Errorf("%d writes for 10 answers", after-before)
	}
}

// TestIdleIsSmall: what an idle connection keeps.
func TestIdleIsSmall(t *testing.T) {
	w := start(t, testLimits(), replies("ok"))
	w.greet()
	w.say(w.head(1, flagEndStream, get()...))
	w.wants("1: head :status=200 x=y content-length=2  end false", `1: data "ok" end true`)
	w.eventually("no buffer", func(c *ClientConn) bool {
		return c.out.buf == nil && c.line.waiting == nil && c.in.block.bytes == nil && !c.out.flushing
	})
}

// TestContinue: a client that waits before it sends a body is told to go on when somebody
// reads it.
func TestContinue(t *testing.T) {
	w := start(t, testLimits(), echoes)
	w.greet()
	w.say(w.head(1, 0, post("expect: 100-continue")...))
	w.wants("1: head :status=100  end false")
	w.say(frame(kindData, flagEndStream, 1, []byte("hello")...))
	w.wants("1: head :status=200 x=y content-length=5  end false", `1: data "hello" end true`)
	w.say(w.head(3, 0, post("expect: 100-continue")...), frame(kindData, flagEndStream, 3, bytes.Repeat([]byte("x"), 3)...))
	w.wants("3: head :status=200 x=y content-length=3  end false", `3: data "xxx" end true`)
}

// TestLastByte: nobody has all of a body with a length before its client has ended it.
func TestLastByte(t *testing.T) {
	read := make(chan string, 10)
	w := start(t, testLimits(), func(ex *message.Exchange) {
		for {
			piece, err := ex.Stream.Next()
			if err != nil {
				read <- fmt.Sprint(err)
				break
			}
			read <- string(piece)
		}
		replies("")(ex)
	})
	next := func() string {
		select {
		case piece := <-read:
			return piece
		case <-time.After(patience):
			return "nothing"
		}
	}
	w.greet()
	w.say(w.head(1, 0, post("content-length: 5")...), frame(kindData, 0, 1, []byte("hello")...))
	if got := next(); got != "hell" {
		t.Errorf("read %q", got)
	}
	w.say(frame(kindPing, 0, 0, make([]byte, 8)...))
	w.wants(`0: kind 6 flags 1 "\x00\x00\x00\x00\x00\x00\x00\x00"`)
	w.say(frame(kindData, flagEndStream, 1))
	for _, want := range []string{"o", "EOF"} {
		if got := next(); got != want {
			t.Errorf("read %q, want %q", got, want)
		}
	}
}
