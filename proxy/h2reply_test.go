package proxy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// end ends what the story hears.
func (c *h2Client) end() {
	c.over = true
	c.changed.Broadcast()
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
			err = c.pump()
			if err == errH2Window {
				err = nil
			}
			if flushed := c.flush(); err == nil {
				err = flushed
			}
		}
		if err != nil {
			c.end()
			c.mu.Unlock()
			c.Conn.Close()
			return
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

var errH2Over = errors.New("h2 client: over")

func (c *h2Client) take(kind, flags byte, stream uint32, payload []byte) error {
	s := &c.stream
	current := stream == c.last && s.open
	switch kind {
	case 0:
		c.owed += len(payload)
		if current {
			c.takeData(payload)
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
				s.window += value - c.initial
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
			s.window += n
		}
	}
	return nil
}

func (c *h2Client) takeData(p []byte) {
	s := &c.stream
	out := &c.heard
	if s.holds {
		out = &s.held
	}
	switch {
	case len(p) == 0:
	case s.chunked:
		fmt.Fprintf(out, "%x\r\n%s\r\n", len(p), p)
	default:
		out.Write(p)
	}
}

// takeHead takes the head of a reply, or its trailer.
func (c *h2Client) takeHead(section []byte, stream uint32, end bool) error {
	fields, err := c.decoder.DecodeFull(section)
	s := &c.stream
	if err != nil || stream != c.last || !s.open {
		return err
	}
	if s.replied {
		if s.chunked {
			c.heard.WriteString("0\r\n")
			for _, f := range fields {
				fmt.Fprintf(&c.heard, "%s: %s\r\n", http.CanonicalHeaderKey(f.Name), f.Value)
			}
			c.heard.WriteString("\r\n")
			s.chunked = false
		}
		return c.endReply()
	}
	status, _ := strconv.Atoi(fields[0].Value)
	s.is = status == 200 && s.tunnel != ""
	if s.is {
		status = 101
	}
	s.replied = status >= 200 || s.is
	out := &c.heard
	if status >= 400 {
		s.holds, out = true, &s.held
	}
	fmt.Fprintf(out, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	framed := false
	for _, f := range fields[1:] {
		framed = framed || f.Name == "content-length"
		fmt.Fprintf(out, "%s: %s\r\n", http.CanonicalHeaderKey(f.Name), f.Value)
	}
	switch {
	case s.is:
		fmt.Fprintf(out, "Connection: Upgrade\r\nUpgrade: %s\r\n", s.tunnel)
	case !s.replied, framed, status == 204, status == 304, s.method == "HEAD":
	case end:
		out.WriteString("Content-Length: 0\r\n")
	default:
		s.chunked = true
		out.WriteString("Transfer-Encoding: chunked\r\n")
	}
	if s.last = s.replied && !s.is && (c.away || !s.sent); s.last && !s.holds {
		out.WriteString("Connection: close\r\n")
	}
	if !s.holds {
		out.WriteString("\r\n")
	}
	if s.holds {
		out.WriteString("\x00") // where the empty line will be
	}
	if end {
		return c.endReply()
	}
	return nil
}

// endReply is when a reply has come to its end.
func (c *h2Client) endReply() error {
	s := &c.stream
	if s.holds {
		last := "\r\n"
		if s.last = s.last || c.away; s.last {
			last = "Connection: close\r\n\r\n"
		}
		c.heard.WriteString(strings.Replace(s.held.String(), "\x00", last, 1))
	}
	if s.chunked {
		c.heard.WriteString("0\r\n\r\n")
	}
	s.open = false
	if s.last || s.is {
		s.open, s.dead = true, true
		return errH2Over
	}
	return nil
}
