package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2/hpack"
)

// An h3Client tells the stories to an engine of HTTP/3.
type h3Client struct {
	framedClient
	conn      *quic.Conn
	transport *quic.Transport
	tasks     sync.WaitGroup
	qs        *quic.Stream // the one that goes on
}

// h3HeardMost is how much the client reads ahead of its story.
const h3HeardMost = 64 << 10

func newH3Client(address net.Addr) (*h3Client, error) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	c := &h3Client{transport: &quic.Transport{Conn: udp}}
	c.begins(c, "https")
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "app.test", NextProtos: []string{"h3"}}
	c.conn, err = c.transport.Dial(context.Background(), address, config, &quic.Config{
		InitialStreamReceiveWindow: h3HeardMost, MaxStreamReceiveWindow: h3HeardMost, MaxIdleTimeout: patience,
	})
	if err == nil {
		var control *quic.SendStream
		if control, err = c.conn.OpenUniStream(); err == nil {
			_, err = control.Write([]byte{0, 4, 0})
		}
	}
	if err != nil {
		c.transport.Close()
		udp.Close()
		return nil, err
	}
	c.tasks.Go(c.controlLoop)
	return c, nil
}

// controlLoop reads the server's control stream.
func (c *h3Client) controlLoop() {
	defer c.end()
	qs, err := c.conn.AcceptUniStream(context.Background())
	if err != nil {
		return
	}
	r := bufio.NewReader(qs)
	if kind, err := quicvarint.Read(r); err != nil || kind != 0 {
		return
	}
	for {
		kind, err := quicvarint.Read(r)
		if err != nil {
			return
		}
		n, _ := quicvarint.Read(r)
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
			return
		}
		if kind == 7 {
			c.mu.Lock()
			c.away = true
			c.mu.Unlock()
		}
	}
}

// Write is net.Conn.
func (c *h3Client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, p...)
	return len(p), c.pump()
}

// send sends b, and the end, and lets others on meanwhile. That a request was not wanted any more,
// since its reply came before it was sent, is no error.
func (c *h3Client) send(b []byte, end bool) error {
	var err error
	if len(b) > 0 {
		c.mu.Unlock()
		_, err = c.qs.Write(b)
		c.mu.Lock()
	}
	if end && err == nil {
		err = c.qs.Close()
	}
	if err == nil || c.stream.is {
		return err
	}
	reset, ok := errors.AsType[*quic.StreamError](err)
	if ok && reset.Remote || strings.Contains(err.Error(), "canceled stream") { // so Close says it
		c.said = nil
		c.stream.sent, c.stream.early = true, true
		return nil
	}
	return err
}

func h3Header(kind, n int) []byte {
	return quicvarint.Append(quicvarint.Append(nil, uint64(kind)), uint64(n))
}

// open is framing.
func (c *h3Client) open() (err error) {
	if c.qs, err = c.conn.OpenStream(); err == nil {
		qs := c.qs
		c.tasks.Go(func() { c.readLoop(qs) })
	}
	return err
}

// data is framing; the end of a stream is no frame.
func (c *h3Client) data(n int, end bool) error {
	if n == 0 {
		return c.send(nil, end)
	}
	return c.send(append(h3Header(0, n), c.cut(n)...), end)
}

// head is framing.
func (c *h3Client) head(fields []hpack.HeaderField, end bool) error {
	var section bytes.Buffer
	encoder := qpack.NewEncoder(&section)
	for _, f := range fields {
		_ = encoder.WriteField(qpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	return c.send(append(h3Header(1, section.Len()), section.Bytes()...), end)
}

// SetDeadline is net.Conn.
func (c *h3Client) SetDeadline(t time.Time) error {
	c.expire(t, func() {
		if c.qs != nil {
			_ = c.qs.SetWriteDeadline(time.Now())
		}
	})
	return nil
}

// SetReadDeadline and SetWriteDeadline are net.Conn.
func (c *h3Client) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c *h3Client) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// LocalAddr and RemoteAddr are net.Conn.
func (c *h3Client) LocalAddr() net.Addr  { return c.conn.LocalAddr() }
func (c *h3Client) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// CloseWrite ends a tunnel's half, or the request.
func (c *h3Client) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.qs == nil {
		return c.conn.CloseWithError(0x100, "")
	}
	return c.qs.Close()
}

// Close is net.Conn.
func (c *h3Client) Close() error {
	c.leave()
	err := c.conn.CloseWithError(0x100, "")
	c.tasks.Wait()
	c.transport.Close()
	c.transport.Conn.Close()
	return err
}

// readLoop takes the frames of a reply.
func (c *h3Client) readLoop(qs *quic.Stream) {
	r := bufio.NewReaderSize(qs, 16<<10)
	for {
		kind, err := quicvarint.Read(r)
		if err != nil {
			c.endReply(err)
			return
		}
		n, err := quicvarint.Read(r)
		for n > 0 && err == nil && kind != 1 {
			var piece [16 << 10]byte
			k := int(min(n, uint64(len(piece))))
			if r.Buffered() > 0 {
				k = min(k, r.Buffered())
			}
			k, err = r.Read(piece[:k])
			n -= uint64(k)
			if kind == 0 {
				c.takeData(piece[:k])
			}
		}
		if kind == 1 && err == nil {
			section := make([]byte, n)
			if _, err = io.ReadFull(r, section); err == nil {
				err = c.takeHead(section)
			}
		}
		if err != nil {
			c.endReply(errors.Join(io.ErrUnexpectedEOF, err))
			return
		}
	}
}

// takeData hands the story a part of a body, and waits until there is room for more.
func (c *h3Client) takeData(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hearData(p)
	c.changed.Broadcast()
	for c.heard.Len() > h3HeardMost && !c.over {
		c.changed.Wait()
	}
}

// takeHead takes the head of a reply, or its trailer.
func (c *h3Client) takeHead(section []byte) error {
	var fields []hpack.HeaderField
	for next := qpack.NewDecoder().Decode(section); ; {
		f, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		fields = append(fields, hpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	if s := &c.stream; !s.replied && fields[0].Value == "400" {
		s.early = true // whoever did not understand a request takes no other
	}
	c.hearHead(fields, false)
	c.changed.Broadcast()
	return c.pump() // what was said to a tunnel before it stood
}

// endReply is when a reply has come to its end, which is an orderly one if err is io.EOF.
func (c *h3Client) endReply(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	if err != io.EOF || !c.stream.replied || c.hearEnd() || c.pump() != nil {
		c.over = true
	}
}
