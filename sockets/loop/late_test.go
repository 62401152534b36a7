package loop

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestLateEvent: the end of a closed connection is not the end of the one that has its
// number and its Conn now.
func TestLateEvent(t *testing.T) {
	l := started(t)
	c, _ := pair(t, l)
	number := c.fd
	late := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(number), Pad: c.turn}
	c.Close()
	other, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other[1])
	if other[0] != number { // it is free, and so is most often the first to be used
		if err := unix.Dup3(other[0], number, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		unix.Close(other[0])
	}
	if err := l.Adopt(c, number); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l.tell(&late)
	if c.Ended() || c.Ready() {
		t.Error("the event of the connection before was taken for its own")
	}
	late.Pad = c.turn
	if l.tell(&late); !c.Ended() || !c.Ready() {
		t.Error("its own event was not taken")
	}
}
