package main

import "context"

// Works that only sallyport is measured at: one side of it against the other.

// besides is how many idle connections wait beside the busy ones.
const besides = 10000

// beside measures how many times the slowest of a hundred answers to busy connections
// is as slow as without them, when there are many idle connections.
func beside(ctx context.Context, b *bench, h *house) (sample, error) {
	before, err := wrkPlain(ctx, b, h)
	if err != nil {
		return sample{}, err
	}
	held, err := h.hold(ctx, nil, besides, (*client).getOnce)
	defer func() { drop(held) }()
	if err != nil {
		return sample{}, err
	}
	s, err := wrkPlain(ctx, b, h)
	if err != nil {
		return sample{}, err
	}
	s.errors += closed(held)
	drop(held)
	held = nil
	after, err := wrkPlain(ctx, b, h) // so that what changes meanwhile is nobody's
	if err != nil {
		return sample{}, err
	}
	s.value = 2 * float64(s.p99) / float64(before.p99+after.p99)
	s.user, s.system = 0, 0 // no parts of the value
	s.errors += before.errors + after.errors
	return s, ctx.Err()
}

// withMemory is a measure and, while everything is still warm, the proportional memory.
func withMemory(measure func(context.Context, *bench, *house) (sample, error)) func(context.Context, *bench, *house) (sample, error) {
	return func(ctx context.Context, b *bench, h *house) (sample, error) {
		s, err := measure(ctx, b, h)
		if err != nil {
			return s, err
		}
		bytes, err := memoryOf(h.pid())
		s.memory = float64(bytes) / (1 << 20)
		return s, err
	}
}

// drop ends connections by a reset: tens of thousands of them that wait for their
// TIME_WAIT would use up the client's ports.
func drop(held []*client) {
	for _, c := range held {
		if tcp := c.tcp(); tcp != nil {
			_ = tcp.SetLinger(0) // of a connection that is gone: fine
			tcp.Close()
		}
	}
}

// closed counts the connections that the other side has not kept.
func closed(held []*client) int {
	count := 0
	for _, c := range held {
		if !c.open() {
			count++
		}
	}
	return count
}
