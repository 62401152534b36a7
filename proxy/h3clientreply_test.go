package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// This file is how the client of HTTP/3 reads replies.

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
	c.changed.Broadcast()
	for c.heard.Len() > h3HeardMost && !c.over {
		c.changed.Wait()
	}
}

// takeHead takes the head of a reply, or its trailer.
func (c *h3Client) takeHead(section []byte) error {
	var fields []qpack.HeaderField
	for next := qpack.NewDecoder().Decode(section); ; {
		f, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		fields = append(fields, f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	s := &c.stream
	if s.replied {
		if s.chunked {
			c.heard.WriteString("0\r\n")
			for _, f := range fields {
				fmt.Fprintf(&c.heard, "%s: %s\r\n", http.CanonicalHeaderKey(f.Name), f.Value)
			}
			c.heard.WriteString("\r\n")
			s.chunked = false
		}
		return nil
	}
	c.writeHead(fields)
	c.changed.Broadcast()
	return c.pump() // what was said to a tunnel before it stood
}

// writeHead tells the story the head of a reply.
func (c *h3Client) writeHead(fields []qpack.HeaderField) {
	s := &c.stream
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
	default:
		s.chunked = true
		out.WriteString("Transfer-Encoding: chunked\r\n")
	}
	if s.last = s.replied && !s.is && (c.away || !s.sent || s.early || status == 400); s.last && !s.holds {
		out.WriteString("Connection: close\r\n")
	}
	if s.holds {
		out.WriteString("\x00") // where the empty line will be
	} else {
		out.WriteString("\r\n")
	}
}

// endReply is when a reply has come to its end, which is an orderly one if err is io.EOF.
func (c *h3Client) endReply(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	s := &c.stream
	if err != io.EOF || !s.replied {
		c.over = true
		return
	}
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
		s.open, s.dead, c.over = true, true, true
		return
	}
	if err := c.pump(); err != nil {
		c.over = true
	}
}
