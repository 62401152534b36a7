package h2

import (
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/sockets/loop"
)

// TestClosesAtOnce: a connection that the app closes before a call is there is over after that
// call, not before: whoever made it has it in a list by then.
func TestClosesAtOnce(t *testing.T) {
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	var c AppConn
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := watcher.Adopt(&c.Raw, ends[0]); err != nil {
		t.Fatal(err)
	}
	unix.Close(ends[1])
	over := make(chan struct{}, 1)
	c.Start(new(Apps), &appLimits, patience, 0, func() { over <- struct{}{} })
	for begun, eof := time.Now(), false; !eof && time.Since(begun) < patience; runtime.Gosched() {
		c.mu.Lock()
		eof = c.eof
		c.mu.Unlock()
	}
	c.endIfOver() // as the reader is about to
	if len(over) > 0 {
		t.Fatal("it is over before its call has begun")
	}
	var k Call
	k.Open(&c, patience)
	if _, err := k.Send(asked("POST"), nobody{}); err == nil || !k.Unread() {
		t.Errorf("sent: %v", err)
	}
	k.End()
	<-over
}

// endless is a body that goes on.
type endless struct{}

func (endless) Ready() bool           { return true }
func (endless) Next() ([]byte, error) { return make([]byte, 1<<10), nil }

// TestNoWindow: a body that the app takes nothing of waits no longer than idle, however much is
// going on beside it.
func TestNoWindow(t *testing.T) {
	w := startApp(t, patience)
	w.first(frame(kindSettings, 0, 0, 0, 4, 0, 0, 0, 0))
	if !w.link.Reserve() {
		t.Fatal("no room for a call")
	}
	k, req := new(Call), asked("POST")
	k.Open(&w.link, 20*time.Millisecond) // the app may ping 10,000 times
	req.Length = -1
	over := make(chan error, 1)
	go func() {
		_, err := k.Send(req, endless{})
		over <- err
	}()
	w.greeted()
	ping := frame(kindPing, 0, 0, make([]byte, pingBytes)...)
	w.say(ping)
	for begun := time.Now(); ; {
		select {
		case err := <-over:
			if err != os.ErrDeadlineExceeded {
				t.Error(err)
			}
			go io.Copy(io.Discard, w.conn)
			k.End()
			return
		default:
		}
		if time.Since(begun) > patience/2 {
			t.Fatal("it waits on")
		}
		if a := w.hears(); a.kind == kindPing {
			w.say(ping)
		}
	}
}
