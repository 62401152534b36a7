// Package app is what the proxies of the benchmark have behind them: an app on
// a unix socket that costs so little that the proxies are what is measured. It
// answers everything with 1 KiB, /large with [LargeSize] bytes, and /counters
// with what it has seen. Bodies of requests are read to their end.
//
// One thread does everything, and never blocks but to wait for all of its
// descriptors:
//
//	accept -> read a head -> read the body -> write the answer -> read ...
//	                                                          \-> close
//
// It is no model for anything: it believes every byte it reads, and knows
// neither chunked bodies nor pipelining, which the proxies here do not send.
package app

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// LargeSize is the size of the body of /large.
const LargeSize = 100 << 20

// headMax is more than any of the proxies makes of the client's head.
const headMax = 16 << 10

const fields = "Server: app\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n"

var (
	errHead    = errors.New("app: a head that is no request, or too long")
	errChunked = errors.New("app: a body without Content-Length")
)

// A conn is one connection, in the middle of one request or answer.
type conn struct {
	fd      int
	head    []byte // what has come of a head
	body    int64  // bytes of the request's body that have to come
	inBody  bool
	out     []byte // what is still to be written,
	filler  int64  // and how much filler after it
	path    string
	last    bool // close after the answer
	blocked bool // the answer waits for the socket
	counted bool // as one that brought a request
}

// take adds what was read, and says whether the request is complete.
func (c *conn) take(data []byte) (complete bool, err error) {
	if !c.inBody {
		c.head = append(c.head, data...)
		end := bytes.Index(c.head, []byte("\r\n\r\n"))
		if end < 0 {
			if len(c.head) > headMax {
				return false, errHead
			}
			return false, nil
		}
		data = c.head[end+4:]
		if err := c.understand(c.head[:end+2]); err != nil {
			return false, err
		}
		c.inBody = true
	}
	c.body -= int64(len(data))
	if c.body > 0 {
		return false, nil
	}
	c.head, c.inBody = c.head[:0], false
	return true, nil
}

// understand reads a head: its path, and how the request and the connection end.
func (c *conn) understand(head []byte) error {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	words := bytes.Fields(line)
	if len(words) != 3 {
		return errHead
	}
	c.path, c.body, c.last = "/", 0, false
	if len(words[1]) > 1 {
		c.path = string(words[1])
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		var err error
		switch {
		case len(name) == len("Connection") && bytes.EqualFold(name, []byte("Connection")):
			c.last = bytes.EqualFold(value, []byte("close"))
		case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			c.body, err = strconv.ParseInt(string(value), 10, 64)
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			err = errChunked
		}
		if err != nil {
			return fmt.Errorf("app: %s: %w", name, err)
		}
	}
	return nil
}

// answer puts the answer to the request that is complete on its way out.
func (l *loop) answer(c *conn) {
	c.last = c.last || !l.keep
	closing := ""
	if c.last {
		closing = "Connection: close\r\n"
	}
	if c.path == "/counters" {
		body := fmt.Sprintf("%d %d\n", l.asked, l.accepted)
		c.out = fmt.Appendf(c.out[:0], "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(body), closing, body)
		return
	}
	l.asked++
	if !c.counted {
		c.counted = true
		l.accepted++
	}
	size, filler := 1024, int64(0)
	if c.path == "/large" {
		size, filler = 0, LargeSize
	}
	c.out = append(c.out[:0], "HTTP/1.1 200 OK\r\n"+fields+"Content-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(size)+filler, 10)
	c.out = append(append(append(c.out, "\r\n"...), closing...), "\r\n"...)
	c.out = append(c.out, l.filler[:size]...)
	c.filler = filler
}
