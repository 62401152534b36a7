package upstream

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/proxy/h1"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// A Lease is the right to run one request on one member. It is the Source of the
// reply's body.
//
//	picked -> connected -> sent -> replied -> released
type Lease struct {
	app    *App
	member *Member
	addr   unix.SockaddrUnix // of member; the kernel's form of it is written into it
	raw    loop.Conn
	conn   h1.AppConn // on raw
	open   bool       // conn is

	Connected time.Time // when the member had taken the connection
	Replied   time.Time // when the first byte of the reply was there

	uploading  bool         // upload was started and not waited for
	uploaded   chan error   // its result, when it touches the lease no more
	uploadedAt atomic.Int64 // unix nanoseconds of its end; 0 before
	clientGone atomic.Bool  // upload is about to cut the connection: the client's half broke
}

// Socket is the path of the member.
func (l *Lease) Socket() string { return l.member.Socket }

func (l *Lease) send(req *message.Request, body message.Source) error {
	plan := &l.app.plan
	if err := l.connect(plan.Connect); err != nil {
		return l.fault(Connect, err)
	}
	l.conn.Open(&l.raw, l.app.buffers, replyLimits, plan.Idle)
	l.open, l.Connected = true, time.Now()
	complete, err := l.conn.Send(req, body)
	switch {
	case clientFault(err):
		return err
	case err == nil && !complete:
		l.startUpload(req, body)
	}
	// An error of writing is kept back: an app that refuses a body answers and
	// closes, and its answer is there to be read.
	if readErr := l.await(plan.FirstByte); readErr != nil {
		if err != nil {
			return l.fault(Send, err)
		}
		return l.blame(Read, readErr)
	}
	l.Replied = time.Now()
	return nil
}

// connect connects to the member. A full backlog (EAGAIN, connect(2)) is a busy app
// and no absent one: it is tried again until limit has passed.
func (l *Lease) connect(limit time.Duration) error {
	begun := time.Time{}
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		l.addr = unix.SockaddrUnix{Name: l.member.Socket} // anew: a longer name leaves its end behind
		err := l.app.loop.DialUnix(&l.raw, &l.addr)
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if begun.IsZero() {
			begun = time.Now()
		}
		if time.Since(begun)+wait > limit {
			return err
		}
		time.Sleep(wait)
	}
}

// blame is err as a fault of the app, unless the client's half of the request
// broke first and took the connection with it.
func (l *Lease) blame(op Op, err error) error {
	if l.uploading && l.clientGone.Load() {
		l.uploading = false
		return <-l.uploaded
	}
	return l.fault(op, err)
}

// await waits for the first byte of the reply: for firstByte after the last byte
// of the request was sent. While there are bytes to send, the limits of sending hold.
func (l *Lease) await(firstByte time.Duration) error {
	wait := firstByte
	for {
		err := l.conn.Await(wait)
		if err == nil || !l.uploading || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		wait = firstByte
		if ended := l.uploadedAt.Load(); ended > 0 {
			if wait -= time.Since(time.Unix(0, ended)); wait <= 0 {
				return err
			}
		}
	}
}

func (l *Lease) startUpload(req *message.Request, body message.Source) {
	l.uploading = true
	l.uploadedAt.Store(0)
	l.clientGone.Store(false)
	go l.upload(req, body)
}

// upload sends the rest of a body. It ends when it has, when the client's stream
// or the connection to the app is cut; Release waits for it.
func (l *Lease) upload(req *message.Request, body message.Source) {
	err := l.conn.SendBody(req, body)
	l.uploadedAt.Store(time.Now().UnixNano())
	if clientFault(err) {
		l.clientGone.Store(true) // first: whoever is woken by the cut looks for its reason
		l.conn.Cut()             // so that nobody waits for a reply to half a request
	}
	l.uploaded <- err // last: Release may give the lease to another request now
}

// clientFault reports whether err came from the source of a body and not from
// the app.
func clientFault(err error) bool {
	_, ok := errors.AsType[*message.SourceError](err)
	return ok
}

// ReadReply reads the next head of the reply to req, interim ones too. What it
// returns is valid until the next call or Release.
func (l *Lease) ReadReply(req *message.Request) (*message.Response, error) {
	resp, err := l.conn.ReadReply(req)
	if err != nil {
		return nil, l.blame(Read, err)
	}
	return resp, nil
}

// Next is message.Source.
func (l *Lease) Next() ([]byte, error) {
	piece, err := l.conn.Next()
	if err != nil && err != io.EOF {
		err = l.blame(Read, err)
	}
	return piece, err
}

// Ready is message.Source.
func (l *Lease) Ready() bool { return l.conn.Ready() }

// Ahead is message.Spliceable.
func (l *Lease) Ahead() int64 { return l.conn.Ahead() }

// Splice is message.Spliceable.
func (l *Lease) Splice(pipe, most int) (int, error) {
	n, err := l.conn.Splice(pipe, most)
	if err != nil && err != io.EOF {
		err = l.blame(Read, err)
	}
	return n, err
}

// Trailer are the fields behind the body, once Next returned io.EOF; nil if none.
func (l *Lease) Trailer() *message.Fields { return l.conn.Trailer() }

// Write sends bytes to the app, once the protocol was changed.
func (l *Lease) Write(p []byte) (int, error) {
	n, err := l.conn.Write(p)
	if err != nil {
		err = l.fault(Send, err)
	}
	return n, err
}

// CloseWrite tells the app that nothing more comes, once the protocol was changed.
func (l *Lease) CloseWrite() error { return l.conn.CloseWrite() }

// SetIdle changes the limit of waits without progress.
func (l *Lease) SetIdle(idle time.Duration) { l.conn.SetIdle(idle) }

// Cut ends the connection under whoever reads or writes it.
func (l *Lease) Cut() { l.conn.Cut() }

// Release gives the slot back. The stream that the request's body comes from must
// have been finished or aborted, so that an upload that goes on ends.
func (l *Lease) Release() {
	if l.uploading {
		l.conn.Cut()
		<-l.uploaded
		l.uploading = false
	}
	if l.open {
		l.conn.Close()
		l.open = false
	}
	l.member.inFlight.Add(-1)
	l.app.leases.Put(l)
}

// retryable reports whether req may be sent once more after err: when the app
// cannot have seen it, or when it asks for nothing to be done and the connection
// ended before any byte of an answer. "A proxy MUST NOT automatically retry
// non-idempotent requests" RFC 9110, section 9.2.2.
func (l *Lease) retryable(req *message.Request, err error) bool {
	var fault *Error
	if !errors.As(err, &fault) {
		return false
	}
	if fault.Op == Connect {
		return true
	}
	return hungUp(err) && req.Length == 0 && isSafe(req.Method) && !l.conn.Replied()
}

func isSafe(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return false
}
