package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"sallyport/e2e/bench/app"
)

// A work is one thing that all peers are measured at.
type work struct {
	name, title string
	unit        string // of the figure; less is better everywhere
	keep        bool   // the app keeps its connections
	log         bool   // with an access log
	once        bool   // one round tells all
	quic        bool   // by HTTP/3, which not every peer has
	own         bool   // only sallyport takes part
	asked       bool   // it is left out unless it is asked for by name
	note        string // what the best must have agreed to; "" for anything
	measure     func(context.Context, *bench, *house) (sample, error)
}

func works() []work {
	const request, handshake, body, memory = "µs/request", "µs/handshake", "s/GiB", "KiB/connection"
	return []work{
		{name: "keepalive", title: "keepalive", unit: request, keep: true, measure: wrkPlain},
		{name: "keepalive-log", title: "keepalive, access log", unit: request, keep: true, log: true, measure: wrkPlain},
		{name: "closes", title: "app closes", unit: request, measure: wrkPlain},
		{name: "closes-log", title: "app closes, access log", unit: request, log: true, measure: wrkPlain},
		{name: "tls", title: "keepalive, TLS 1.3", unit: request, keep: true, measure: wrkTLS},
		{name: "h2", title: "HTTP/2, in clear text", unit: request, keep: true, measure: h2loadPlain},
		{name: "h2-tls", title: "HTTP/2, TLS 1.3", unit: request, keep: true, measure: h2loadTLS},
		{name: "h3", title: "HTTP/3", unit: request, keep: true, quic: true, measure: h3loadTLS},
		{name: "full", title: "full handshake, X25519", unit: handshake, keep: true, note: "X25519", measure: full(tls.X25519)},
		{
			name: "full-mlkem", title: "full handshake, X25519MLKEM768", unit: handshake, keep: true,
			note: "X25519MLKEM768", measure: full(tls.X25519MLKEM768, tls.X25519),
		},
		{name: "resumed", title: "resumed handshake, X25519", unit: handshake, keep: true, measure: resumed},
		{name: "down", title: "100 MiB down", unit: body, keep: true, measure: bodies(false, down)},
		{name: "down-tls", title: "100 MiB down, TLS 1.3", unit: body, keep: true, measure: bodies(true, down)},
		{name: "up", title: "100 MiB up", unit: body, keep: true, measure: bodies(false, up)},
		{name: "up-tls", title: "100 MiB up, TLS 1.3", unit: body, keep: true, measure: bodies(true, up)},
		{name: "idle", title: "idle connection", unit: memory, keep: true, once: true, measure: idle(false)},
		{name: "idle-tls", title: "idle connection, TLS 1.3", unit: memory, keep: true, once: true, measure: idle(true)},
		{name: "idle-h2", title: "idle connection, HTTP/2 over TLS 1.3", unit: memory, keep: true, once: true, measure: idleH2},
		{name: "idle-h3", title: "idle connection, HTTP/3", unit: memory, keep: true, once: true, quic: true, measure: idleH3},
		{name: "beside", title: "p99 beside 10,000 idle connections", unit: "× p99 without", keep: true, own: true, measure: beside},
		{name: "workers", title: "keepalive, by workers", unit: request, keep: true, own: true, asked: true, measure: withMemory(wrkPlain)},
		{name: "workers-tls", title: "keepalive, TLS 1.3, by workers", unit: request, keep: true, own: true, asked: true, measure: withMemory(wrkTLS)},
	}
}

func wrkPlain(ctx context.Context, b *bench, h *house) (sample, error) {
	return b.wrk(ctx, h, "http://"+h.setting.HTTP+"/")
}

func wrkTLS(ctx context.Context, b *bench, h *house) (sample, error) {
	return b.wrk(ctx, h, "https://"+h.setting.HTTPS+"/")
}

// callers is how many connections are in the making at once.
const callers = 8

// full measures handshakes without a session, each with one small request.
func full(offered ...tls.CurveID) func(context.Context, *bench, *house) (sample, error) {
	return func(ctx context.Context, b *bench, h *house) (sample, error) {
		config := b.tls()
		config.CurvePreferences = offered
		agreed := make([]tls.CurveID, callers)
		s, err := b.timed(ctx, h, callers, 1, time.Microsecond, func(worker int) error {
			state, err := h.shake(ctx, config)
			agreed[worker] = state.CurveID
			if err == nil && state.DidResume {
				err = errors.New("bench: a session was resumed that nobody had")
			}
			return err
		})
		s.note = agreed[0].String()
		return s, err
	}
}

// resumed measures handshakes with a session ticket, each with one small request.
func resumed(ctx context.Context, b *bench, h *house) (sample, error) {
	configs := make([]*tls.Config, callers)
	for i := range configs {
		configs[i] = b.tls()
		configs[i].CurvePreferences = []tls.CurveID{tls.X25519}
		configs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	first := make([]bool, callers)
	return b.timed(ctx, h, callers, 1, time.Microsecond, func(worker int) error {
		state, err := h.shake(ctx, configs[worker])
		if err == nil && !state.DidResume && first[worker] {
			err = errors.New("bench: a session was not resumed")
		}
		first[worker] = true
		return err
	})
}

// shake connects, asks once, and says what was agreed.
func (h *house) shake(ctx context.Context, config *tls.Config) (tls.ConnectionState, error) {
	c, err := h.dial(ctx, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	_, err = c.get("/")
	secure, is := c.Conn.(*tls.Conn)
	if err != nil || !is {
		return tls.ConnectionState{}, err
	}
	return secure.ConnectionState(), nil
}

func down(c *client) error {
	size, err := c.get("/large")
	if err == nil && size != app.LargeSize {
		err = fmt.Errorf("bench: a large body of %d bytes", size)
	}
	return err
}

func up(c *client) error { return c.post(app.LargeSize) }

// bodies measures large bodies, one after the other on one connection.
func bodies(secure bool, one func(*client) error) func(context.Context, *bench, *house) (sample, error) {
	return func(ctx context.Context, b *bench, h *house) (sample, error) {
		var config *tls.Config
		if secure {
			config = b.tls()
		}
		c, err := h.dial(ctx, config)
		if err != nil {
			return sample{}, err
		}
		defer c.Close()
		const each = float64(app.LargeSize) / (1 << 30)
		return b.timed(ctx, h, 1, each, time.Second, func(int) error { return one(c) })
	}
}

// idlers is how many idle connections are held, and opened how many at a time.
const (
	idlers  = 5000
	openers = 16
)

// settling is how long a proxy has to give back what it does not need.
const settling = 300 * time.Millisecond

// idle measures how the proportional set size of all processes of a proxy grows
// by connections that made one request each and wait since.
func idle(secure bool) func(context.Context, *bench, *house) (sample, error) {
	return func(ctx context.Context, b *bench, h *house) (sample, error) {
		var config *tls.Config
		if secure {
			config = b.tls()
		}
		return h.idle(ctx, config, (*client).getOnce)
	}
}

func (c *client) getOnce() error {
	_, err := c.get("/")
	return err
}

// idle is what an idle connection costs that was asked once.
func (h *house) idle(ctx context.Context, config *tls.Config, ask func(*client) error) (sample, error) {
	before, err := memoryOf(h.pid())
	if err != nil {
		return sample{}, err
	}
	held, err := h.hold(ctx, config, idlers, ask)
	defer drop(held)
	if err != nil {
		return sample{}, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(settling):
	}
	after, err := memoryOf(h.pid())
	if err != nil {
		return sample{}, err
	}
	s := sample{value: float64(after-before) / 1024 / float64(len(held))}
	s.errors = closed(held)
	return s, ctx.Err()
}

// hold opens idle connections.
func (h *house) hold(ctx context.Context, config *tls.Config, count int, ask func(*client) error) ([]*client, error) {
	held := make([]*client, count)
	next := make(chan int, count)
	for i := range held {
		next <- i
	}
	close(next)
	failures := make(chan error, openers)
	for range openers {
		go func() {
			for i := range next {
				c, err := h.dial(ctx, config)
				if err != nil {
					failures <- err
					return
				}
				held[i] = c
				if err := ask(c); err != nil {
					failures <- err
					return
				}
			}
			failures <- nil
		}()
	}
	var failed error
	for range openers {
		failed = errors.Join(failed, <-failures)
	}
	open := held[:0]
	for _, c := range held {
		if c != nil {
			open = append(open, c)
		}
	}
	return open, failed
}
