package proxy_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2/hpack"
)

// An h2Client tells the stories to an engine of HTTP/2. What is written to it is sent by the time
// Write returns.
type h2Client struct {
	net.Conn
	framedClient

	wire    bytes.Buffer // what is to be sent
	encoder *hpack.Encoder
	section bytes.Buffer
	decoder *hpack.Decoder
	window  int
	initial int
	room    int    // the window of the stream
	last    uint32 // stream
	owed    int    // of windows, until the story has heard it
	silent  bool   // CloseWrite was called
}

const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

var (
	errH2Window = errors.New("h2 client: window")
	errH2Over   = errors.New("h2 client: over")
)

func newH2Client(conn net.Conn) (*h2Client, error) {
	c := &h2Client{Conn: conn, window: 65535, initial: 65535}
	c.begins(c, "http")
	c.encoder = hpack.NewEncoder(&c.section)
	c.decoder = hpack.NewDecoder(4096, nil)
	c.wire.WriteString(h2Preface)
	c.frame(4, 0, 0, []byte{0, 2, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0}) // no push, and a window of 64 KiB
	c.initial = 1 << 16
	if err := c.flush(); err != nil {
		return nil, err
	}
	go c.readLoop()
	return c, nil
}

func (c *h2Client) frame(kind, flags byte, stream uint32, payload []byte) {
	n := len(payload)
	c.wire.Write([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags})
	_ = binary.Write(&c.wire, binary.BigEndian, stream)
	c.wire.Write(payload)
}

func (c *h2Client) flush() error {
	if c.silent {
		c.wire.Reset()
		return nil
	}
	_, err := c.Conn.Write(c.wire.Bytes())
	c.wire.Reset()
	return err
}

// push sends what can be sent, frames that answer others with it.
func (c *h2Client) push() error {
	err := c.pump()
	if flushed := c.flush(); err == nil {
		err = flushed
	}
	return err
}

// Write is net.Conn.
func (c *h2Client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, p...)
	for {
		if c.stream.dead {
			return len(p), nil // the reply is complete, and the last one
		}
		err := c.push()
		if c.late {
			err = os.ErrDeadlineExceeded
		}
		if err != errH2Window {
			return len(p), err
		}
		c.changed.Wait()
	}
}

// open is framing.
func (c *h2Client) open() error {
	if c.last += 2; c.last == 2 {
		c.last = 1
	}
	c.room = c.initial
	return nil
}

// data is framing; windows bound it.
func (c *h2Client) data(n int, end bool) error {
	for {
		part := min(n, 16384, c.window, c.room)
		if part <= 0 && n > 0 {
			return errH2Window
		}
		flags := byte(0)
		if end && part == n {
			flags = 1
		}
		c.frame(0, flags, c.last, c.cut(part))
		c.window -= part
		c.room -= part
		if n -= part; n == 0 {
			return nil
		}
	}
}

// head is framing.
func (c *h2Client) head(fields []hpack.HeaderField, end bool) error {
	c.section.Reset()
	for _, f := range fields {
		_ = c.encoder.WriteField(f)
	}
	section := c.section.Bytes()
	kind, flags := byte(1), byte(4)
	if end {
		flags = 5
	}
	for len(section) > 16384 {
		c.frame(kind, flags&1, c.last, section[:16384])
		section, kind, flags = section[16384:], 9, flags&^1
	}
	c.frame(kind, flags, c.last, section)
	return nil
}

// Read is net.Conn. What was heard is given back to the windows.
func (c *h2Client) Read(p []byte) (int, error) {
	n, err := c.framedClient.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	give := min(n, c.owed)
	if c.heard.Len() == 0 {
		give = c.owed
	}
	if c.owed -= give; give > 0 && !c.over {
		more := binary.BigEndian.AppendUint32(nil, uint32(give))
		c.frame(8, 0, 0, more)
		if c.stream.open {
			c.frame(8, 0, c.last, more)
		}
		_ = c.flush() // a connection that is gone ends the loop
	}
	return n, err
}

// SetDeadline is net.Conn.
func (c *h2Client) SetDeadline(t time.Time) error {
	c.expire(t, func() {})
	return c.Conn.SetDeadline(t)
}

// CloseWrite ends a tunnel's half, or the connection's.
func (c *h2Client) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream.is {
		c.frame(0, 1, c.last, nil)
		return c.flush()
	}
	c.silent = true
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// Close is net.Conn.
func (c *h2Client) Close() error {
	c.leave()
	return c.Conn.Close()
}

// readLoop takes frames until the connection ends.
func (c *h2Client) readLoop() {
	var section []byte
	for {
		head := make([]byte, 9)
		_, err := io.ReadFull(c.Conn, head)
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		payload := make([]byte, length)
		if err == nil {
			_, err = io.ReadFull(c.Conn, payload)
		}
		c.mu.Lock()
		if err == nil {
			stream := binary.BigEndian.Uint32(head[5:])
			switch kind := head[3]; {
			case kind == 1, kind == 9:
				if section = append(section, payload...); head[4]&4 != 0 {
					err = c.takeHead(section, stream, head[4]&1 != 0)
					section = nil
				}
			default:
				err = c.take(kind, head[4], stream, payload)
			}
		}
		if err == nil {
			if err = c.push(); err == errH2Window {
				err = nil
			}
		}
		if err != nil {
			c.mu.Unlock()
			c.end()
			c.Conn.Close()
			return
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

func (c *h2Client) take(kind, flags byte, stream uint32, payload []byte) error {
	s := &c.stream
	current := stream == c.last && s.open
	switch kind {
	case 0:
		c.owed += len(payload)
		if current {
			c.hearData(payload)
			if flags&1 != 0 {
				return c.endReply()
			}
		}
	case 3:
		if !current {
			return nil
		}
		s.last = s.last || s.holds
		if code := binary.BigEndian.Uint32(payload); s.holds || code == 0 && s.replied {
			return c.endReply()
		}
		return errH2Over
	case 4:
		for ; flags&1 == 0 && len(payload) > 0; payload = payload[6:] {
			if value := int(binary.BigEndian.Uint32(payload[2:])); payload[1] == 4 {
				c.room += value - c.initial
				c.initial = value
			}
		}
		if flags&1 == 0 {
			c.frame(4, 1, 0, nil)
		}
	case 6:
		if flags&1 == 0 {
			c.frame(6, 1, 0, payload)
		}
	case 7:
		c.away = true
	case 8:
		n := int(binary.BigEndian.Uint32(payload))
		if stream == 0 {
			c.window += n
		} else if current {
			c.room += n
		}
	}
	return nil
}

// takeHead takes the head of a reply, or its trailer.
func (c *h2Client) takeHead(section []byte, stream uint32, end bool) error {
	fields, err := c.decoder.DecodeFull(section)
	if err != nil || stream != c.last || !c.stream.open {
		return err
	}
	if c.hearHead(fields, end); end {
		return c.endReply()
	}
	return nil
}

func (c *h2Client) endReply() error {
	if c.hearEnd() {
		return errH2Over
	}
	return nil
}
