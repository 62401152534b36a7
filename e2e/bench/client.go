package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// host is what every request asks for, and what the certificate is for.
const host = "bench.test"

// askLimit bounds one request with its answer.
const askLimit = 30 * time.Second

// A client is one connection to a house.
type client struct {
	net.Conn // plain, or TLS
	in       *bufio.Reader
	buffer   []byte // for bodies; nil until there is a large one
}

// dial connects to a house; with a configuration it speaks TLS.
func (h *house) dial(ctx context.Context, config *tls.Config) (*client, error) {
	address := h.setting.HTTP
	if config != nil {
		address = h.setting.HTTPS
	}
	return dial(ctx, "tcp", address, config)
}

func dial(ctx context.Context, network, address string, config *tls.Config) (*client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if config == nil {
		return &client{Conn: conn, in: bufio.NewReaderSize(conn, 4096)}, nil
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: handshake with %s: %w", address, err), conn.Close())
	}
	return &client{Conn: secure, in: bufio.NewReaderSize(secure, 4096)}, nil
}

// get asks for a path and returns the size of the body, which it has read.
func (c *client) get(path string) (int64, error) {
	if err := c.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return 0, err
	}
	return c.answer()
}

// post sends a body of zeros.
func (c *client) post(size int64) error {
	if err := c.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", host, size); err != nil {
		return err
	}
	for size > 0 {
		n, err := c.Write(c.space()[:min(size, bodyPiece)])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	_, err := c.answer()
	return err
}

// bodyPiece is how much of a large body is read or written at once.
const bodyPiece = 256 << 10

func (c *client) space() []byte {
	if c.buffer == nil {
		c.buffer = make([]byte, bodyPiece)
	}
	return c.buffer
}

// answer reads an answer, which must be 200 and say its length.
func (c *client) answer() (int64, error) {
	size := int64(-1)
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			break
		}
		if first && !strings.HasPrefix(text, "HTTP/1.1 200") {
			return 0, fmt.Errorf("bench: answer %q", text)
		}
		name, value, _ := strings.Cut(text, ":")
		if strings.EqualFold(name, "Content-Length") {
			if size, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64); err != nil {
				return 0, fmt.Errorf("bench: answer: %w", err)
			}
		}
	}
	if size < 0 {
		return 0, errors.New("bench: answer without length")
	}
	return size, c.discard(size)
}

func (c *client) discard(size int64) error {
	held, err := c.in.Discard(int(min(size, int64(c.in.Buffered()))))
	size -= int64(held)
	for size > 0 && err == nil {
		var n int
		n, err = c.Read(c.space()[:min(size, bodyPiece)])
		size -= int64(n)
	}
	if size == 0 {
		return nil
	}
	return err
}

// tcp is the connection below TLS; nil where it is none to a house.
func (c *client) tcp() *net.TCPConn {
	conn := c.Conn
	if secure, is := conn.(*tls.Conn); is {
		conn = secure.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// open says whether the other side has kept the connection, and is silent.
func (c *client) open() bool {
	tcp := c.tcp()
	if tcp == nil {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	var peek error
	err = raw.Control(func(fd uintptr) {
		_, _, peek = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err == nil && errors.Is(peek, unix.EAGAIN)
}

// askOnce makes one small request on a connection of its own.
func (h *house) askOnce(ctx context.Context, config *tls.Config) error {
	c, err := h.dial(ctx, config)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.get("/")
	return err
}
