package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// connections is how many wrk keeps busy, by one thread.
const connections = 64

// A turn of wrk begins with a while in which nothing is measured, and ends with
// up to a tenth of a second in which wrk notices that it is over.
const (
	warmUp = 150 * time.Millisecond
	end    = 100 * time.Millisecond
)

// ciphers makes OpenSSL, which wrk is linked with, offer what the benchmark's
// own client prefers: otherwise one proxy would encrypt by AES-128 and another
// by AES-256.
const ciphers = `openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = default
[default]
Ciphersuites = TLS_AES_128_GCM_SHA256
`

// wrk measures a house in the middle of a run of wrk: by the requests that the
// app has seen, and the latencies that wrk has.
func (b *bench) wrk(ctx context.Context, h *house, url string) (sample, error) {
	cmd := exec.Command(b.wrkPath, "-t1", "-c"+strconv.Itoa(connections), "-d10m", "--latency", "-H", "Host: "+host, url)
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+b.path("openssl.cnf"))
	// wrk ends and reports on INT, as it does on Ctrl-C.
	s, said, err := b.underLoad(ctx, h, cmd, b.turn()-warmUp-end, syscall.SIGINT)
	if err != nil {
		return sample{}, err
	}
	if err := s.parseWrk(said); err != nil {
		return sample{}, err
	}
	return s, ctx.Err()
}

// underLoad runs a program that asks, for a turn of which between is measured, and returns what each
// request has cost and what the program has said. It ends by itself, or by a signal.
func (b *bench) underLoad(ctx context.Context, h *house, cmd *exec.Cmd, between time.Duration, by syscall.Signal) (s sample, said string, err error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	c, err := begin(cmd)
	if err != nil {
		return sample{}, "", err
	}
	before, after, err := h.window(ctx, c, max(between, warmUp))
	if by != 0 {
		_ = c.cmd.Process.Signal(by)
	}
	select {
	case <-c.ended:
	case <-time.After(b.turn() + stopLimit):
	}
	if err := errors.Join(err, c.stop()); err != nil {
		return sample{}, "", fmt.Errorf("%w\n%s", err, out.String())
	}
	done := after.asked - before.asked
	if done == 0 {
		return sample{}, "", fmt.Errorf("bench: no request has reached the app\n%s", out.String())
	}
	return per(before, after, float64(done), time.Microsecond), out.String(), nil
}

// window reads all counters before and after a turn of a load.
func (h *house) window(ctx context.Context, load *child, between time.Duration) (before, after reading, err error) {
	for _, one := range []struct {
		wait time.Duration
		into *reading
	}{{warmUp, &before}, {between, &after}} {
		select {
		case <-ctx.Done():
			return before, after, ctx.Err()
		case <-load.ended:
			return before, after, fmt.Errorf("bench: wrk has ended: %v", load.cmd.ProcessState)
		case <-time.After(one.wait):
		}
		if *one.into, err = h.read(ctx); err != nil {
			return before, after, err
		}
	}
	return before, after, nil
}

// parseWrk adds what wrk prints: latencies and errors.
func (s *sample) parseWrk(text string) error {
	for _, one := range []struct {
		name string
		into *time.Duration
	}{{"50", &s.p50}, {"99", &s.p99}} {
		found := regexp.MustCompile(`(?m)^ +` + one.name + `% +([0-9.]+[a-z]+)$`).FindStringSubmatch(text)
		if found == nil {
			return fmt.Errorf("bench: wrk does not say the latency of %s%%:\n%s", one.name, text)
		}
		d, err := time.ParseDuration(found[1]) // "us", "ms", "s", "m" and "h" are the same in both
		if err != nil {
			return fmt.Errorf("bench: wrk: %w", err)
		}
		*one.into = d
	}
	for _, mark := range []string{
		`Non-2xx or 3xx responses: (\d+)`,
		`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`,
	} {
		found := regexp.MustCompile(mark).FindStringSubmatch(text)
		if found == nil {
			continue
		}
		for _, number := range found[1:] {
			n, err := strconv.Atoi(number)
			if err != nil {
				return fmt.Errorf("bench: wrk: %w", err)
			}
			s.errors += n
		}
	}
	return nil
}
