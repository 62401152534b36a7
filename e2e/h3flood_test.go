package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// An h3Flood is what one client sends more of than anybody needs, on connections of HTTP/3.
type h3Flood struct {
	name string
	pour func(*h3Raw) error // until it fails, or enough was sent
}

// An h3Raw is a connection of HTTP/3 that says what it likes.
type h3Raw struct {
	*quic.Conn
	control *quic.SendStream
	left    int       // of what is to be done
	until   time.Time // and when it is over in any case
}

// dialH3 opens one, with its control stream.
func (s *scene) dialH3(h *house) (*h3Raw, error) {
	config := s.client("shop.test")
	config.NextProtos = []string{"h3"}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, h.https, config, nil)
	if err != nil {
		return nil, err
	}
	raw := &h3Raw{Conn: conn}
	if raw.control, err = conn.OpenUniStream(); err == nil {
		_, err = raw.control.Write([]byte{0, 4, 0})
	}
	return raw, err
}

// frame is a frame of HTTP/3.
func h3Frame(kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload))), payload...)
}

// h3Get is the head of a request: indexed fields for GET, https and /, and its host.
func h3Get(more ...byte) []byte {
	section := append([]byte{0, 0, 0xc0 | 17, 0xc0 | 23, 0xc0 | 1, 0x50, 9}, "shop.test"...)
	return h3Frame(1, append(section, more...))
}

// request opens a stream and says p on it.
func (c *h3Raw) request(p []byte) (*quic.Stream, error) {
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	qs, err := c.OpenStreamSync(ctx)
	if err == nil {
		_, err = qs.Write(p)
	}
	return qs, err
}

// each does something until nothing is left to do, or it fails.
func (c *h3Raw) each(do func() error) (err error) {
	for ; c.left > 0 && err == nil && time.Now().Before(c.until); c.left-- {
		err = do()
	}
	return err
}

func h3Floods() []h3Flood {
	bomb := make([]byte, 0, 60000)
	for range cap(bomb) / 2 {
		bomb = append(bomb, 0xff, 85-63) // content-security-policy, with a long value, in two bytes
	}
	long := append(quicvarint.Append(nil, 1), quicvarint.Append(nil, 1<<30)...)
	ask := func(p []byte) func(*h3Raw) error {
		return func(c *h3Raw) error {
			return c.each(func() error {
				qs, err := c.request(p)
				if err != nil {
					return err
				}
				_ = qs.Close()
				_, _ = qs.Read(make([]byte, 1000)) // whatever the answer is
				qs.CancelRead(0x100)
				return nil
			})
		}
	}
	control := func(p []byte) func(*h3Raw) error {
		return func(c *h3Raw) error {
			return c.each(func() error {
				_, err := c.control.Write(p)
				return err
			})
		}
	}
	return []h3Flood{
		{"resets", func(c *h3Raw) error {
			return c.each(func() error {
				qs, err := c.request(h3Get())
				if err == nil {
					qs.CancelWrite(0x10c)
					qs.CancelRead(0x10c)
				}
				return err
			})
		}},
		{"QPACK bombs", ask(h3Get(bomb...))},
		{"heads that never come", ask(long)},
		{"frames that nobody knows", ask(h3Frame(0x21, make([]byte, 60<<10)))},
		{"empty DATA", func(c *h3Raw) error {
			qs, err := c.request(h3Get())
			if err != nil {
				return err
			}
			return c.each(func() error {
				_, err := qs.Write([]byte{0, 0})
				return err
			})
		}},
		{"frames on the control stream", control(h3Frame(0x21, nil))},
		{"streams without a request", func(c *h3Raw) error {
			return c.each(func() error {
				ctx, cancel := context.WithTimeout(c.Context(), patience)
				defer cancel()
				qs, err := c.OpenUniStreamSync(ctx)
				if err == nil {
					_, err = qs.Write([]byte{0x21})
				}
				return err
			})
		}},
	}
}

// TestH3Floods: what one client sends more than anybody needs costs no memory, and little work: the
// figures are in the log. Others are served meanwhile.
func TestH3Floods(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "log = { access = false }")
	pid := named(t, "sallyport-core").pid
	other := s.h3Visitor(h, "")
	for _, f := range h3Floods() {
		t.Run(f.name, func(t *testing.T) {
			memory, ticks, conns := peakMemory(t, pid), cpuTicks(t, pid), 0
			done := 0
			for begun := time.Now(); done < h3FloodMost && time.Since(begun) < floodTime; conns++ {
				raw, err := s.dialH3(h)
				s.must(err)
				raw.left, raw.until = h3FloodMost-done, begun.Add(floodTime)
				_ = f.pour(raw) // it may well fail
				done = h3FloodMost - raw.left
				raw.CloseWithError(0x100, "")
				if _, err := other.ask("/"); err != nil {
					t.Errorf("somebody else: %v", err)
				}
			}
			grown := peakMemory(t, pid) - memory
			t.Logf("%d on %d connections: %d KiB of memory, %d ms", done, conns, grown>>10, (cpuTicks(t, pid)-ticks)*10)
			if grown > floodMemory {
				t.Errorf("grew by %d MiB", grown>>20)
			}
		})
	}
}

const (
	// h3FloodMost is how many of something a flood has.
	h3FloodMost = 100000
	// floodTime is when a flood is over in any case.
	floodTime = 3 * time.Second
)

// TestH3Amplification: whoever has not shown that he is where he says gets no more than three times
// what he has sent (RFC 9000, section 8.1), and from one who sends many Initials it is asked first.
func TestH3Amplification(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "log = { access = false }")
	pid := named(t, "sallyport-core").pid
	for name, packets := range map[string][][]byte{
		"initials":           initials(t, 2000),
		"version":            strangers(2000),
		"rubbish":            rubbish(2000),
		"short, ids unknown": shorts(2000),
	} {
		t.Run(name, func(t *testing.T) {
			memory, ticks := peakMemory(t, pid), cpuTicks(t, pid)
			conn, err := net.Dial("udp", h.https)
			s.must(err)
			defer conn.Close()
			sent, got := 0, make(chan int)
			go func() {
				total, b := 0, make([]byte, 65536)
				for {
					_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
					n, err := conn.Read(b)
					if err != nil {
						got <- total
						return
					}
					total += n
				}
			}()
			for _, p := range packets {
				n, _ := conn.Write(p)
				sent += n
			}
			back := <-got
			grown := peakMemory(t, pid) - memory
			t.Logf("%d KiB in %d packets: %d KiB back, %d KiB of memory, %d ms", sent>>10, len(packets), back>>10, grown>>10, (cpuTicks(t, pid)-ticks)*10)
			if back > 3*sent {
				t.Errorf("%d bytes for %d", back, sent)
			}
			if grown > floodMemory {
				t.Errorf("grew by %d MiB", grown>>20)
			}
			if _, err := s.h3Visitor(h, "").ask("/"); err != nil {
				t.Error(err)
			}
		})
	}
}

// initials are the first packets of n clients.
func initials(t *testing.T, n int) (packets [][]byte) {
	t.Helper()
	config := &tls.Config{ServerName: "shop.test", NextProtos: []string{"h3"}, CurvePreferences: []tls.CurveID{tls.X25519}} // one packet
	for range n {
		c := &hush{first: make(chan []byte, 1), over: make(chan struct{})}
		transport := &quic.Transport{Conn: c}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = transport.Dial(ctx, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, config, nil)
			close(c.over)
		}()
		packets = append(packets, <-c.first)
		cancel()
		transport.Close()
		<-c.over
	}
	return packets
}

// A hush is a socket that keeps the first packet and says nothing.
type hush struct {
	first chan []byte
	over  chan struct{}
}

func (c *hush) ReadFrom([]byte) (int, net.Addr, error) {
	<-c.over
	return 0, nil, net.ErrClosed
}

func (c *hush) WriteTo(p []byte, _ net.Addr) (int, error) {
	select {
	case c.first <- append([]byte(nil), p...):
	default:
	}
	return len(p), nil
}
func (c *hush) Close() error                       { return nil }
func (c *hush) LocalAddr() net.Addr                { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
func (c *hush) SetDeadline(time.Time) error        { return errors.ErrUnsupported }
func (c *hush) SetReadDeadline(t time.Time) error  { return errors.ErrUnsupported }
func (c *hush) SetWriteDeadline(t time.Time) error { return errors.ErrUnsupported }

// strangers speak a version that nobody knows.
func strangers(n int) (packets [][]byte) {
	for range n {
		p := make([]byte, 1200)
		_, _ = rand.Read(p)
		copy(p, []byte{0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8})
		p[14] = 8
		packets = append(packets, p)
	}
	return packets
}

// rubbish are packets of nothing in particular.
func rubbish(n int) (packets [][]byte) {
	for i := range n {
		p := make([]byte, i%1200+1)
		_, _ = rand.Read(p)
		packets = append(packets, p)
	}
	return packets
}

// shorts are packets of connections that nobody has.
func shorts(n int) (packets [][]byte) {
	for range n {
		p := make([]byte, 60)
		_, _ = rand.Read(p)
		p[0] = 0x40 | p[0]&0x3f
		packets = append(packets, p)
	}
	return packets
}
