package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// This file is what is measured of HTTP/2: requests by h2load, 32 at a time on each of 16
// connections, and what an idle connection costs.
const (
	h2Connections = "16"
	h2Streams     = "32"
)

func h2loadPlain(ctx context.Context, b *bench, h *house) (sample, error) {
	return b.h2load(ctx, h, "http://"+h.setting.H2C+"/")
}

func h2loadTLS(ctx context.Context, b *bench, h *house) (sample, error) {
	return b.h2load(ctx, h, "https://"+h.setting.HTTPS+"/")
}

// h2load is wrk for HTTP/2. It runs for whole seconds, and prints nothing when it is
// interrupted, so that it is waited for.
func (b *bench) h2load(ctx context.Context, h *house, url string) (sample, error) {
	program := find("h2load", b.bin)
	if program == "" {
		return sample{}, errors.New("bench: h2load is not installed: apt-get install nghttp2-client")
	}
	seconds := math.Ceil(b.turn().Seconds())
	cmd := exec.Command(program, "-t", "1", "-c", h2Connections, "-m", h2Streams, "-D", strconv.Itoa(int(seconds)), url)
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+b.path("openssl.cnf"))
	s, said, err := b.underLoad(ctx, h, cmd, b.turn()-warmUp-end, 0)
	if err != nil {
		return sample{}, err
	}
	found := regexp.MustCompile(`(\d+) failed, (\d+) errored, (\d+) timeout`).FindStringSubmatch(said)
	if found == nil {
		return sample{}, fmt.Errorf("bench: h2load does not say what failed:\n%s", said)
	}
	for _, number := range found[1:] {
		n, err := strconv.Atoi(number)
		if err != nil {
			return sample{}, fmt.Errorf("bench: h2load: %w", err)
		}
		s.errors += n
	}
	return s, ctx.Err()
}

// idleH2 is idle for connections that speak HTTP/2 over TLS.
func idleH2(ctx context.Context, b *bench, h *house) (sample, error) {
	config := b.tls()
	config.NextProtos = []string{"h2"}
	return h.idle(ctx, config, (*client).getH2)
}

// askH2 is how a client of HTTP/2 begins: the preface, no settings of its own, and a GET
// whose fields are those of the static table, but for the host.
var askH2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
	"\x00\x00\x00\x04\x00\x00\x00\x00\x00" +
	"\x00\x00\x0f\x01\x05\x00\x00\x00\x01" + "\x82\x87\x84\x41\x0a" + host

// getH2 asks for / on stream 1, and reads as far as the end of the answer.
func (c *client) getH2() error {
	if err := c.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, askH2); err != nil {
		return err
	}
	for head := make([]byte, 9); ; {
		if _, err := io.ReadFull(c.in, head); err != nil {
			return err
		}
		if _, err := c.in.Discard(int(head[0])<<16 | int(head[1])<<8 | int(head[2])); err != nil {
			return err
		}
		stream, kind, flags := binary.BigEndian.Uint32(head[5:]), head[3], head[4]
		switch {
		case kind == 4 && flags == 0:
			if _, err := io.WriteString(c, "\x00\x00\x00\x04\x01\x00\x00\x00\x00"); err != nil {
				return err
			}
		case kind == 3, kind == 7:
			return fmt.Errorf("bench: frame %x on stream %d", kind, stream)
		case stream == 1 && flags&1 != 0:
			return nil
		}
	}
}
