package loop

import (
	"io"
	"testing"
	"time"
)

// TestStall: a write that finds no room says so once each time, waits on, and is done when
// there is room. One that finds room says nothing.
func TestStall(t *testing.T) {
	l := started(t)
	c, peer := pair(t, l)
	defer c.Close()
	defer peer.Close()
	const long = 4 << 20
	stalled := make(chan struct{}, 1)
	c.OnStall(time.Millisecond, func() {
		select {
		case stalled <- struct{}{}:
		default:
		}
	})
	if _, err := c.Write([]byte("short")); err != nil || len(stalled) > 0 {
		t.Fatalf("%v, stalled %d times", err, len(stalled))
	}
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, long))
		written <- err
	}()
	<-stalled
	if n, err := io.CopyN(io.Discard, peer, long+int64(len("short"))); err != nil {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	for len(stalled) > 0 { // this reader may have been slow once more
		<-stalled
	}
	c.OnStall(0, nil)
	go func() {
		_, err := c.Write(make([]byte, long))
		written <- err
	}()
	if n, err := io.CopyN(io.Discard, peer, long); err != nil {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if err := <-written; err != nil || len(stalled) > 0 {
		t.Errorf("%v, stalled %d times after it was over", err, len(stalled))
	}
}
