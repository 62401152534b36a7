package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// A sample is what one turn of a peer at a work has shown.
type sample struct {
	value        float64       // in the unit of the work
	user, system float64       // the parts of value
	rate         float64       // requests, handshakes or GiB per second
	p50, p99     time.Duration // where the client measures them
	memory       float64       // MiB, where that is of interest
	errors       int
	connections  float64 // from the proxy to the app, per request
	others       float64 // processors that were busy with what is not ours
	note         string
}

// A reading is the state of all counters at one moment.
type reading struct {
	at              time.Time
	house, all      cost // of the proxy; of the benchmark with all that it has started
	busy            time.Duration
	asked, accepted int // of the app
}

// read reads all counters.
func (h *house) read(ctx context.Context) (reading, error) {
	var r reading
	all, err := processes()
	if err != nil {
		return r, err
	}
	r.at = time.Now()
	r.house, r.all = costOf(tree(all, h.pid())), costOf(tree(all, os.Getpid()))
	if r.busy, err = busy(); err != nil {
		return r, err
	}
	r.asked, r.accepted, err = counters(ctx, h.app)
	return r, err
}

// counters asks the app how many requests have come, on how many connections.
func counters(ctx context.Context, socket string) (asked, accepted int, err error) {
	app, err := dial(ctx, "unix", socket, nil)
	if err != nil {
		return 0, 0, err
	}
	defer app.Close()
	if _, err := io.WriteString(app, "GET /counters HTTP/1.1\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, 0, fmt.Errorf("bench: counters of the app: %w", err)
	}
	text, err := io.ReadAll(app.in)
	if err != nil {
		return 0, 0, fmt.Errorf("bench: counters of the app: %w", err)
	}
	_, body, _ := strings.Cut(string(text), "\r\n\r\n")
	if _, err := fmt.Sscan(body, &asked, &accepted); err != nil {
		return 0, 0, fmt.Errorf("bench: counters of the app: %q: %w", body, err)
	}
	return asked, accepted, nil
}

// per makes a sample of what was done between two readings. Processor time is
// given in a unit: time.Microsecond for small things, time.Second for large ones.
func per(before, after reading, done float64, unit time.Duration) sample {
	spent := cost{after.house.user - before.house.user, after.house.system - before.house.system}
	wall := after.at.Sub(before.at)
	s := sample{
		user:   float64(spent.user) / float64(unit) / done,
		system: float64(spent.system) / float64(unit) / done,
		rate:   done / wall.Seconds(),
	}
	s.value = s.user + s.system
	foreign := (after.busy - before.busy) - (after.all.total() - before.all.total())
	s.others = max(0, float64(foreign)/float64(wall))
	if asked := after.asked - before.asked; asked > 0 {
		s.connections = float64(after.accepted-before.accepted) / float64(asked)
	}
	return s
}

// repeat lets some workers do a thing again and again for a while, and returns
// how often it went well and how often it did not.
func repeat(ctx context.Context, workers int, limit time.Duration, thing func(worker int) error) (done, failed int, last error) {
	deadline := time.Now().Add(limit)
	var lock sync.Mutex
	var wait sync.WaitGroup
	for worker := range workers {
		wait.Go(func() {
			for ctx.Err() == nil && time.Now().Before(deadline) {
				err := thing(worker)
				lock.Lock()
				if err == nil {
					done++
				} else {
					failed, last = failed+1, err
				}
				lock.Unlock()
			}
		})
	}
	wait.Wait()
	return done, failed, last
}

// timed measures a house while the benchmark's own client does a thing.
func (b *bench) timed(ctx context.Context, h *house, workers int, each float64, unit time.Duration, thing func(worker int) error) (sample, error) {
	for worker := range workers { // what is done once for each worker is not measured
		if err := thing(worker); err != nil {
			return sample{}, err
		}
	}
	before, err := h.read(ctx)
	if err != nil {
		return sample{}, err
	}
	done, failed, last := repeat(ctx, workers, b.turn()/2, thing)
	if done == 0 {
		return sample{}, fmt.Errorf("bench: nothing was done: %w", last)
	}
	after, err := h.read(ctx)
	if err != nil {
		return sample{}, err
	}
	s := per(before, after, float64(done)*each, unit)
	s.errors = failed
	return s, ctx.Err()
}
