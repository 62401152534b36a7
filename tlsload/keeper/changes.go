package keeper

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// changes is how others get at what belongs to the thread of Serve: they say what is to be
// done, and it is done there, between two packets.
type changes struct {
	fd int // an eventfd: readable while something waits

	mu      sync.Mutex
	waiting []func()
}

func newChanges() (*changes, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("keeper: eventfd: %w", err)
	}
	return &changes{fd: fd}, nil
}

// do has one thing done, soon. As many wait at most as there are certificates and
// challenges: whoever asks has one of them in hand.
func (c *changes) do(change func()) {
	c.mu.Lock()
	c.waiting = append(c.waiting, change)
	c.mu.Unlock()
	// It fails when the counter is full only, and then there is something to read. eventfd(2)
	_, _ = unix.Write(c.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// make does what waits. Only the thread of Serve calls it.
func (c *changes) make() {
	var count [8]byte
	_, _ = unix.Read(c.fd, count[:]) // EAGAIN is nothing to do
	c.mu.Lock()
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	for _, change := range waiting {
		change()
	}
}
