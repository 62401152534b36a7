package loop

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Pipe carries bytes from one Conn to another inside the kernel (splice(2)). It is
// filled when it is empty and drained before it is filled again, so that EAGAIN has one
// meaning each way: nothing to read, no room to write.
type Pipe struct {
	pool *pipes
	out  int // the end that is drained
	in   int // the end that is filled
	held int // bytes
}

// Sizes and bounds of pipes. A loop has at most pipesMax of them, two descriptors each;
// whoever comes after that copies. Those that nobody uses are kept up to pipesKept.
const (
	pipeBytes = 256 << 10
	pipesMax  = 256
	pipesKept = 32
)

// pipes are the pipes of a loop.
type pipes struct {
	mu     sync.Mutex
	made   int // and not closed
	free   []*Pipe
	closed bool
}

// TakePipe is an empty pipe, or nil where none is to be had: then copy. Give gives it
// back.
func (c *Conn) TakePipe() *Pipe { return c.loop.pipes.take() }

func (l *pipes) take() *Pipe {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := len(l.free) - 1; last >= 0 {
		p := l.free[last]
		l.free = l.free[:last]
		return p
	}
	if l.made == pipesMax {
		return nil
	}
	p, err := openPipe(l)
	if err != nil {
		return nil // out of descriptors or of pages (pipe(7)): the bytes take the other way
	}
	l.made++
	return p
}

// openPipe makes a pipe of pipeBytes. A user who has many pipes gets smaller ones, of
// two pages in the end (pipe(7), pipe-user-pages-soft); those are worse than copying.
func openPipe(pool *pipes) (*Pipe, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	p := &Pipe{pool: pool, out: ends[0], in: ends[1]}
	size, err := unix.FcntlInt(uintptr(p.in), unix.F_SETPIPE_SZ, pipeBytes)
	if err != nil {
		size, err = unix.FcntlInt(uintptr(p.in), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || size < pipeBytes/4 {
		p.close()
		return nil, unix.EPERM
	}
	return p, nil
}

func (p *Pipe) close() {
	unix.Close(p.in)
	unix.Close(p.out)
}

// Give gives p back. One that still holds bytes is closed with them.
func (p *Pipe) Give() {
	l := p.pool
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.held > 0 || l.closed || len(l.free) == pipesKept {
		p.close()
		l.made--
		return
	}
	l.free = append(l.free, p)
}

func (l *pipes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, p := range l.free {
		p.close()
		l.made--
	}
	l.free = nil
}

// In is the descriptor that is filled, by SpliceTo; Filled must be told of it.
func (p *Pipe) In() int { return p.in }

// Filled notes that n bytes were put into p.
func (p *Pipe) Filled(n int) { p.held += n }

// Held is how many bytes are in p.
func (p *Pipe) Held() int { return p.held }

// Size is the most that one filling should ask for.
func (p *Pipe) Size() int { return pipeBytes }

// SpliceTo moves at most most bytes that c has received into an empty pipe. As Read, it
// waits until there are some, the end (io.EOF) or the deadline.
func (c *Conn) SpliceTo(pipe, most int) (int, error) {
	for {
		if err := c.await(&c.reading, c.instant); err != nil {
			return 0, err
		}
		n, errno := rawSplice(c.fd, pipe, most)
		if errno == unix.EAGAIN {
			continue
		}
		// However little came, more may be there: a pipe counts pieces, not bytes.
		c.reading.again()
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return 0, os.NewSyscallError("splice", errno)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// DrainTo sends what p holds to c. As Write, it waits until all of it is taken, or the
// deadline.
func (p *Pipe) DrainTo(c *Conn) (int, error) {
	sent := 0
	for p.held > 0 {
		if err := c.await(&c.writing, false); err != nil {
			return sent, err
		}
		n, errno := rawSplice(p.out, c.fd, p.held)
		if errno == 0 {
			sent += n
			p.held -= n
		}
		if err := c.afterWrite("splice", errno); err != nil {
			return sent, err
		}
	}
	return sent, nil
}
