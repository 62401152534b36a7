package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"sallyport/e2e/bench/h3load"
)

// This file is what is measured of HTTP/3: requests by a load of our own, for there is none in
// Debian, in a process of its own, 32 at a time on each of 16 connections, and what an idle
// connection costs.
const (
	h3Connections = 16
	h3Streams     = 32
)

// loadH3 is the process that asks: bench h3load ADDRESS ROOT SECONDS. It prints what failed.
func loadH3(args []string) error {
	pem, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	long, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	sum, err := h3load.Load{Address: args[0], Host: host, Roots: roots, Connections: h3Connections, Streams: h3Streams}.Run(ctx)
	if err == nil {
		fmt.Printf("%d requests, %d failed\n", sum.Requests, sum.Failed)
	}
	return err
}

// h3loadTLS is wrk for HTTP/3.
func h3loadTLS(ctx context.Context, b *bench, h *house) (sample, error) {
	cmd := exec.Command("/proc/self/exe", "h3load", h.setting.HTTPS, b.path("root.pem"), b.turn().String())
	s, said, err := b.underLoad(ctx, h, cmd, b.turn()-2*warmUp-end, 0)
	if err != nil {
		return sample{}, err
	}
	var asked int
	if _, err := fmt.Sscanf(said, "%d requests, %d failed", &asked, &s.errors); err != nil {
		return sample{}, fmt.Errorf("bench: h3load: %w\n%s", err, said)
	}
	return s, ctx.Err()
}

// idleH3 is idle for connections of HTTP/3.
func idleH3(ctx context.Context, b *bench, h *house) (s sample, err error) {
	before, err := memoryOf(h.pid())
	if err != nil {
		return s, err
	}
	load := h3load.Load{Address: h.setting.HTTPS, Host: host, Roots: b.roots}
	var mu sync.Mutex
	var held []*quic.Conn
	defer func() {
		for _, conn := range held {
			_ = conn.CloseWithError(0x100, "") // it is gone either way
		}
	}()
	var opening sync.WaitGroup
	for range openers {
		opening.Go(func() {
			for range h3Idlers / openers {
				conn, failed := load.Dial(ctx)
				mu.Lock()
				if failed != nil {
					err = failed
				} else {
					held = append(held, conn)
				}
				mu.Unlock()
			}
		})
	}
	opening.Wait()
	if err != nil {
		return s, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(settling):
	}
	after, err := memoryOf(h.pid())
	if err != nil {
		return s, err
	}
	for _, conn := range held {
		if conn.Context().Err() != nil {
			s.errors++
		}
	}
	s.value = float64(after-before) / 1024 / float64(len(held))
	return s, ctx.Err()
}

// h3Idlers is how many idle connections of HTTP/3 there are: each has a socket of the benchmark's.
const h3Idlers = 1000
