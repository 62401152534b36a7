package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// floodMemory is what a core may grow by under any flood of TestH2Floods: the figure is ten
// times what it takes, and a hundredth of what it is sent.
const floodMemory = 632 << 20

// A flood is what a client sends until so many bytes have gone, on one connection after the
// other, each until the proxy ends it.
type flood struct {
	name  string
	bytes int
	first func(*h2Coder) []byte          // of a connection, behind the preface
	next  func(c *h2Coder, n int) []byte // the n-th piece; around 10 KB
}

func h2Head(c *h2Coder, stream uint32, flags byte, kind string, fields ...string) []byte {
	step := h2Step{isHead: true, kind: 1, flags: 4 | flags, stream: stream, padding: -1, priority: -1}
	step.fields = append(append(step.fields, h2Pseudo[kind]...), fields...)
	return c.bytes(&step, func(text string) string { return strings.Replace(text, "shop", "ws00", 1) })
}

func word(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func floods() []flood {
	none := func(*h2Coder) []byte { return nil }
	again := func(frame []byte) func(*h2Coder, int) []byte {
		many := bytes.Repeat(frame, 10000/len(frame)+1)
		return func(*h2Coder, int) []byte { return many }
	}
	post := func(c *h2Coder) []byte { return h2Head(c, 1, 0, "post") }
	return []flood{
		{"rapid reset", 100000 * 30, none, func(c *h2Coder, n int) (b []byte) { // 100 streams a piece, of 17 and 13 bytes
			for i := range 100 {
				id := uint32(2*(100*n+i) + 1)
				b = append(append(b, h2Head(c, id, 1, "get")...), h2Frame(3, 0, id, word(8))...)
			}
			return b
		}},
		{"reset by window of 0", 3 << 20, none, func(c *h2Coder, n int) (b []byte) {
			for i := range 100 {
				id := uint32(2*(100*n+i) + 1)
				b = append(append(b, h2Head(c, id, 1, "get")...), h2Frame(8, 0, id, word(0))...)
			}
			return b
		}},
		{"continuation", 632 << 20, func(c *h2Coder) []byte { return h2Frame(1, 1, 1, nil) }, again(h2Frame(9, 0, 1, make([]byte, 16000)))},
		{"empty continuation", 32 << 20, func(c *h2Coder) []byte { return h2Frame(1, 1, 1, nil) }, again(h2Frame(9, 0, 1, nil))},
		{"ping", 32 << 20, none, again(h2Frame(6, 0, 0, make([]byte, 8)))},
		{"settings", 32 << 20, none, again(h2Frame(4, 0, 0, nil))},
		{"settings of 2,700 windows", 32 << 20, none, again(h2Frame(4, 0, 0, bytes.Repeat([]byte{0, 4, 0, 0, 1, 0}, 2700)))},
		{"window", 32 << 20, none, again(h2Frame(8, 0, 0, word(1)))},
		{"priority", 32 << 20, none, again(h2Frame(2, 0, 1, []byte{0, 0, 0, 0, 16}))},
		{"priority update", 32 << 20, none, again(h2Frame(16, 0, 0, append(word(1), "u=1"...)))},
		{"empty data", 32 << 20, post, again(h2Frame(0, 0, 1, nil))},
		{"padding", 32 << 20, post, again(h2Frame(0, 8, 1, append([]byte{255}, make([]byte, 255)...)))},
		{"unknown frames", 32 << 20, none, again(h2Frame(0x77, 0, 0, make([]byte, 1000)))},
		{"fields by reference", 32 << 20, none, func(c *h2Coder, n int) []byte {
			section := c.encode(h2Pseudo["get"])
			if n == 0 {
				section = append(section, hpackLiteral("x", strings.Repeat("y", 3900))...)
			}
			section = append(section, bytes.Repeat([]byte{0x80 | 62}, 15000-len(section))...)
			return h2Frame(1, 5, uint32(2*n+1), section)
		}},
		{"bodies of nobody", 32 << 20, func(c *h2Coder) (b []byte) {
			for i := range uint32(100) {
				b = append(b, h2Head(c, 2*i+1, 0, "post")...)
			}
			return b
		}, func(c *h2Coder, n int) []byte { return h2Frame(0, 0, uint32(n%100*2+1), make([]byte, 10000)) }},
	}
}

// hpackLiteral is a field that is put into the table.
func hpackLiteral(name, value string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	_ = e.WriteField(hpack.HeaderField{Name: name, Value: value}) // never fails
	return b.Bytes()
}

// TestH2Floods: what one client sends more than anybody needs costs no memory, and next to
// no work: the figures are in the log.
func TestH2Floods(t *testing.T) {
	s := newScene(t)
	all := players(t, s.dir, false, patience)
	s.write("sallyport.toml", strings.Replace(corpusSites(all, 4, false), "listen = {", "log = { access = false }\nlisten = { h2c = true,", 1))
	h := s.start()
	p := all[0]
	p.address = h.http
	pid := named(t, "sallyport-core").pid
	for _, f := range floods() {
		t.Run(f.name, func(t *testing.T) {
			p.app.begin(new(record))
			asked := p.app.connections.Load()
			memory, ticks := peakMemory(t, pid), cpuTicks(t, pid)
			sent, conns := f.pour(t, h.http)
			grown, spent := peakMemory(t, pid)-memory, cpuTicks(t, pid)-ticks
			t.Logf("%d KiB on %d connections: %d KiB of memory, %d ms, %d connections to the app",
				sent>>10, conns, grown>>10, spent*10, p.app.connections.Load()-asked)
			if grown > floodMemory {
				t.Errorf("grew by %d MiB", grown>>20)
			}
			talk, err := dialH2(h.http, patience)
			s.must(err)
			defer talk.Close()
			if err := p.nextH2(talk, newH2Coder()); err != nil {
				t.Error(err)
			}
		})
	}
}

// pour sends f, and returns how many bytes, on how many connections.
func (f *flood) pour(t *testing.T, address string) (sent, conns int) {
	t.Helper()
	for sent < f.bytes {
		talk, err := dialH2(address, patience)
		if err != nil {
			t.Fatal(err)
		}
		conns++
		over := make(chan struct{})
		go func() {
			_ = talk.await(patience, func() bool { return talk.ended || talk.goaway })
			close(over)
		}()
		coder := newH2Coder()
		_, err = talk.Write(f.first(coder))
		for n := 0; err == nil && sent < f.bytes && !isClosed(over); n++ {
			var written int
			written, err = talk.Write(f.next(coder, n))
			sent += written
		}
		talk.Close()
		<-over
	}
	return sent, conns
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// peakMemory is the most that a process has had resident since the last call, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	fields, err := status(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(strings.Fields(fields["VmHWM"])[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// cpuTicks is the processor time of a process, in hundredths of a second.
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}
