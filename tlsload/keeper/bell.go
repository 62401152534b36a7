package keeper

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// A bell makes the end of a context a readable descriptor, for poll.
type bell struct {
	fd    int
	rung  chan struct{} // closed when ring has ended
	leave func() bool   // false when ring has begun
}

func newBell(ctx context.Context) (*bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("keeper: eventfd: %w", err)
	}
	b := &bell{fd: fd, rung: make(chan struct{})}
	b.leave = context.AfterFunc(ctx, b.ring)
	return b, nil
}

// ring runs in a goroutine of the context, once, when it is done.
func (b *bell) ring() {
	defer close(b.rung)
	// It fails when the counter is full only; once is not full. eventfd(2)
	_, _ = unix.Write(b.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (b *bell) close() {
	if !b.leave() {
		<-b.rung
	}
	unix.Close(b.fd)
}
