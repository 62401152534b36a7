package upstream

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
	"sallyport/sockets/loop"
)

// A Dialer connects to members for a core that cannot, over its link to the process of that
// name: all of them, or those whose folders are not in its root.
type Dialer struct {
	link *os.File
	raw  syscall.RawConn
	here atomic.Bool // somebody is at the other end, and knows where the sockets are

	mu    sync.Mutex
	tag   uint32 // of the last call
	calls map[uint32]chan dialed
}

// A dialed is what became of a call: a connection, or why there is none.
type dialed struct {
	fd    int
	errno syscall.Errno
}

const (
	// dialsMax is how many calls may wait. One more is as if the backlog were full.
	dialsMax = 256
	// dialTime is how long a call waits for a dialer that is about to be there again.
	dialTime = time.Second
)

// NewDialer is the core's side of a link. It is never closed: a core has it until it ends.
func NewDialer(link int) (*Dialer, error) {
	if err := unix.SetNonblock(link, true); err != nil {
		return nil, fmt.Errorf("upstream: link to the dialer: %w", err)
	}
	d := &Dialer{link: os.NewFile(uintptr(link), "dialer"), calls: map[uint32]chan dialed{}}
	var err error
	if d.raw, err = d.link.SyscallConn(); err != nil {
		return nil, fmt.Errorf("upstream: link to the dialer: %w", err)
	}
	return d, nil
}

// Serve takes the answers. It ends with the link, which is with the warden.
func (d *Dialer) Serve() {
	buffer := make([]byte, sockets.DialBytes)
	for {
		answer, fd, err := d.receive(buffer)
		if err != nil {
			d.here.Store(false)
			return
		}
		if answer.Tag == sockets.TagHello {
			d.greet()
			continue
		}
		d.settle(answer.Tag, dialed{fd, answer.Errno})
	}
}

// receive waits for an answer; fd is -1 where none came along.
func (d *Dialer) receive(buffer []byte) (answer sockets.Dialed, fd int, err error) {
	var n int
	var descriptors []int
	var failed error
	err = d.raw.Read(func(link uintptr) bool {
		n, descriptors, failed = sockets.Receive(int(link), buffer)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err = errors.Join(err, failed); err != nil {
		return answer, -1, err
	}
	answer, err = sockets.ParseDialed(buffer[:n])
	want := 0
	if answer.Errno == 0 && answer.Tag != sockets.TagHello {
		want = 1
	}
	if err == nil && len(descriptors) != want {
		err = fmt.Errorf("upstream: dialer: %d descriptors where %d belong", len(descriptors), want)
	}
	if err != nil || want == 0 {
		sockets.CloseAll(descriptors)
		return answer, -1, err
	}
	return answer, descriptors[0], nil
}

// greet notes that there is a dialer. What a predecessor had heard is lost with that one:
// who has asked is to ask again, as after a full backlog. Of the first one nothing is: it
// has yet to read what it was asked.
func (d *Dialer) greet() {
	if !d.here.Swap(true) {
		return
	}
	d.mu.Lock()
	lost := d.calls
	d.calls = map[uint32]chan dialed{}
	d.mu.Unlock()
	for _, call := range lost {
		call <- dialed{-1, unix.EAGAIN}
	}
}

// settle gives an answer to who waits for it. An answer that comes too late is closed.
func (d *Dialer) settle(tag uint32, answer dialed) {
	d.mu.Lock()
	call, waits := d.calls[tag]
	delete(d.calls, tag)
	d.mu.Unlock()
	if waits {
		call <- answer // it has room for one, and gets one
	} else if answer.fd >= 0 {
		unix.Close(answer.fd)
	}
}

// connect is a connection to the member of this number among all. EAGAIN is that of
// connect(2), or of a dialer that has no room or is not there.
func (d *Dialer) connect(member int) (fd int, err error) {
	call := make(chan dialed, 1)
	d.mu.Lock()
	if len(d.calls) >= dialsMax {
		d.mu.Unlock()
		return -1, unix.EAGAIN
	}
	if d.tag++; d.tag == sockets.TagHello {
		d.tag = 0
	}
	tag := d.tag
	d.calls[tag] = call
	d.mu.Unlock()
	if err := d.send(sockets.Dial{Tag: tag, Member: uint32(member)}); err != nil {
		d.forget(tag, call)
		return -1, unix.EAGAIN
	}
	late := time.NewTimer(dialTime)
	defer late.Stop()
	select {
	case answer := <-call:
		return answer.result()
	case <-late.C:
		return d.forget(tag, call)
	}
}

// send is one sendto(2): a core may not send descriptors.
func (d *Dialer) send(call sockets.Dial) (err error) {
	var message [sockets.DialBytes]byte
	text := call.Append(message[:0])
	controlled := d.raw.Control(func(link uintptr) {
		err = unix.Sendto(int(link), text, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
	})
	return errors.Join(controlled, err)
}

// forget gives a call up, unless its answer has just come.
func (d *Dialer) forget(tag uint32, call chan dialed) (fd int, err error) {
	d.mu.Lock()
	_, waits := d.calls[tag]
	delete(d.calls, tag)
	d.mu.Unlock()
	if waits {
		return -1, unix.EAGAIN
	}
	answer := <-call
	return answer.result()
}

func (a dialed) result() (fd int, err error) {
	if a.errno != 0 {
		return -1, a.errno
	}
	return a.fd, nil
}

// A Way is how connections to members are made.
type Way struct {
	Dialer *Dialer // nil: there is none, and none is needed
	Always bool    // by the dialer; else where a socket is not in the root of this core
}

// dial connects c to m. Whoever needs no dialer pays one comparison for it.
func (a *App) dial(c *loop.Conn, to *unix.SockaddrUnix, m *Member) error {
	by := a.way.Dialer
	if by == nil {
		return a.loop.DialUnix(c, to)
	}
	if !a.way.Always {
		err := a.loop.DialUnix(c, to)
		if !errors.Is(err, unix.ENOENT) || !by.here.Load() {
			return err
		}
	}
	fd, err := by.connect(m.number)
	if err != nil {
		return fmt.Errorf("upstream: dialer: %w", err)
	}
	return a.loop.Adopt(c, fd)
}
