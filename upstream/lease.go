package upstream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/proxy/h1"
	"sallyport/proxy/h2"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
	"sallyport/upstream/board"
)

// A Lease is the right to run one request on one member, and the connection that it
// runs on. It is the Source of the reply's body. How it comes to a slot is in slot.go.
//
//	queued -> picked -> open -> sent -> replied -> released
//	   ^________/  ^______________/ a request that may be repeated, on a fresh connection
//	   the member is busy or absent
type Lease struct {
	app    *App
	slot   board.Waiter
	client board.Client      // nil: never leaves
	member *Member           // nil until picked
	addr   unix.SockaddrUnix // of member; the kernel's form of it is written into it
	on     *conn             // nil until open, and where the app speaks HTTP/2
	h1     h1.AppConn        // on it
	call   *h2.Call          // nil where the app speaks HTTP/1
	conn   carrier           // which of the two it is
	tries  int               // used up
	reused bool              // the connection carried another request before
	spared bool              // such a one has failed, and cost no try

	begun  time.Time
	absent time.Time // since when no member was there for it; zero: not
	held   bool      // it has waited for an absent app

	Queued    time.Duration // was waited for a slot, and for an absent app
	Connected time.Time     // when the member had taken the connection, or it was taken from the idle ones
	Replied   time.Time     // when the first byte of the reply was there

	complete   bool         // the whole request was sent, not by an upload
	uploading  bool         // upload was started and not waited for
	uploaded   chan error   // its result, when it touches the lease no more
	uploadedAt atomic.Int64 // nanoseconds from begun to its end; 0 before
	clientGone atomic.Bool  // upload is about to cut the connection: the client's half broke
}

// A carrier is one request and its reply on a connection to an app.
type carrier interface {
	message.Spliceable

	Send(req *message.Request, body message.Source) (complete bool, err error)
	SendBody(req *message.Request, body message.Source) error
	Await(firstByte time.Duration) error
	ReadReply(req *message.Request) (*message.Response, error)
	Replied() bool
	Leave()
	Trailer() *message.Fields
	Surplus() bool
	Write(p []byte) (int, error)
	CloseWrite() error
	SetIdle(idle time.Duration)
	Cut()
}

// Socket is the path of the member.
func (l *Lease) Socket() string { return l.member.Socket }

// open takes a slot, and an idle connection to its member or a fresh one.
func (l *Lease) open() error {
	if err := l.enter(); err != nil {
		return err
	}
	if c := l.member.idle.take(); c != nil {
		l.on, l.reused, l.Connected = c, true, time.Now()
		l.arrived()
	} else if err := l.dial(); err != nil {
		return err
	}
	l.h1.Open(&l.on.raw, l.app.buffers, replyLimits, l.app.plan.Idle)
	return nil
}

// dial connects to the member, or to another one that is given to it.
func (l *Lease) dial() error {
	for {
		c := l.member.idle.fresh()
		err := l.connect(&c.raw)
		if err == nil {
			l.on, l.reused, l.Connected = c, false, time.Now()
			l.arrived()
			return nil
		}
		c.pool.spare.Put(c)
		if err := l.elsewhere(err); err != nil {
			return err
		}
	}
}

// renew gives l a fresh connection instead of one that failed. One that was idle says
// nothing of its member, and costs no try. One that was not says that its member may be
// about to end, whose socket takes connections until the last of its processes has.
func (l *Lease) renew() error {
	failed := l.on
	l.app.queue.Count(board.Retried)
	if !l.reused {
		last := l.member
		if err := l.move(); err != nil {
			return err
		}
		if l.member == last {
			time.Sleep(l.app.again)
		}
	}
	if err := l.dial(); err != nil {
		return err // failed stays, for Release
	}
	failed.drop()
	return nil
}

// redial is a fresh connection for a request of which an idle one took not one byte.
// A fresh one that takes none may hold the answer of an app that is too busy to read.
func (l *Lease) redial(err error) (net.Conn, error) {
	if !l.reused {
		return nil, err
	}
	if err := l.renew(); err != nil {
		return nil, err
	}
	return &l.on.raw, nil
}

func (l *Lease) send(req *message.Request, body message.Source) error {
	complete, err := l.conn.Send(req, body)
	if _, failed := errors.AsType[*Error](err); failed || clientFault(err) {
		return err
	}
	l.complete = complete && err == nil
	if !complete && err == nil {
		l.startUpload(req, body)
	}
	return l.hear(err)
}

// resend sends the request once more, on the connection that renew has made.
func (l *Lease) resend() error {
	err := l.h1.Resend(&l.on.raw)
	l.complete = err == nil
	return l.hear(err)
}

// hear waits for the reply. An error of sending is kept back: an app that refuses a
// body answers and closes, and its answer is there to be read.
func (l *Lease) hear(sending error) error {
	if err := l.await(l.app.plan.FirstByte); err != nil {
		if sending != nil {
			return l.blame(Send, sending)
		}
		return l.blame(Read, err)
	}
	l.Replied = time.Now()
	return nil
}

// connect connects raw to the member. A full backlog is EAGAIN (connect(2)).
func (l *Lease) connect(raw *loop.Conn) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		l.addr = unix.SockaddrUnix{Name: l.member.Socket} // anew: a longer name leaves its end behind
		err := l.app.dial(raw, &l.addr, l.member)
		if l.app.plan.QueueLen > 0 || !errors.Is(err, unix.EAGAIN) || time.Since(l.begun)+wait > l.app.plan.Connect {
			return err
		}
		time.Sleep(wait) // there is no line to wait in
	}
}

// blame is err as a fault of the app, unless the client's half of the request
// broke first and took the connection with it.
func (l *Lease) blame(op Op, err error) error {
	if l.uploading && l.clientGone.Load() {
		l.uploading = false
		return <-l.uploaded
	}
	if err == h2.ErrLeft {
		return board.ErrGone
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
			if wait -= time.Since(l.begun) - time.Duration(ended); wait <= 0 {
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
	l.uploadedAt.Store(int64(time.Since(l.begun)))
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
		err = l.blame(Read, err)
		l.count(err)
		return nil, err
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

// Leave lets what Next returned last stay as it is: its buffer is the caller's.
func (l *Lease) Leave() { l.conn.Leave() }

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

// Surplus is the fault of an app that sent more than its reply, once that was read to
// its end; nil if it did not, or if its connection is not kept anyway.
func (l *Lease) Surplus() *Error {
	if !l.conn.Surplus() {
		return nil
	}
	return &Error{App: l.app.Name, Socket: l.member.Socket, Op: Read, Err: ErrSurplus}
}

// Release gives the slot back, and keeps the connection if it may carry another
// request. The stream that the request's body comes from must have been finished or
// aborted, so that an upload that goes on ends.
func (l *Lease) Release() {
	sent := l.complete
	if l.uploading {
		sent = l.endUpload()
	}
	if l.call != nil {
		l.releaseCall()
	}
	if l.on != nil {
		if l.conn.Replied() {
			l.app.queue.CountMember(l.member.index, board.Served)
		}
		if sent && l.h1.Rest() {
			l.on.pool.put(l.on)
		} else {
			l.h1.Close()
			l.on.drop()
		}
		l.on = nil
	}
	l.app.queue.Release(&l.slot)
	l.client = nil
	l.app.leases.Put(l)
}

// endUpload ends an upload that goes on, and reports whether it was over with all of
// the request sent.
func (l *Lease) endUpload() (sent bool) {
	l.uploading = false
	select {
	case err := <-l.uploaded:
		return err == nil
	default:
	}
	l.conn.Cut()
	<-l.uploaded
	return false
}

// resendMax is the longest request, with its head, that is sent again because its
// connection was reset; see Lease.repeatable.
const resendMax = 4 << 10

// repeatable reports whether req may be sent once more, on a fresh connection: after
// a connection that was idle before, which the app may have closed meanwhile, and else
// while there are tries left. Nothing of a reply may have come, and either
//
//   - nothing was sent, or
//   - it asks for nothing to be done: "A proxy MUST NOT automatically retry
//     non-idempotent requests" RFC 9110, section 9.2.2, or
//   - it was one write of at most resendMax, and the connection was reset. A unix
//     socket is reset when it is closed with bytes in it that nobody has read
//     (unix_release_sock in net/unix/af_unix.c): the app has not read all of the
//     request. And as such a write is one buffer of the kernel's, which servers read at
//     once (gunicorn 8 KiB, puma 16 KiB, others more), it has not begun to either.
func (l *Lease) repeatable(req *message.Request, err error) bool {
	fault, ok := errors.AsType[*Error](err)
	if !ok || fault.Op == Connect || !hungUp(err) || l.h1.Replied() || l.h1.Resendable() == 0 {
		return false
	}
	if !l.reused && l.tries == l.app.plan.Retries {
		return false
	}
	return l.h1.Sent() == 0 || req.Length == 0 && isSafe(req.Method) ||
		errors.Is(err, unix.ECONNRESET) && l.h1.Resendable() <= resendMax
}

func isSafe(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return false
}
