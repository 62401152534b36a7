package h1

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// An AppConn is one request and its reply on a connection to an app. It is the Source
// of the reply's body.
//
// One goroutine may SendBody while another reads.
type AppConn struct {
	// Keep asks the app not to close the connection; see Rest. It stands when Send begins.
	Keep bool

	// Redial is another connection instead of one that took not one byte of the
	// request, because of err; or err again where there is none. nil: there never is.
	// Only Send asks.
	Redial func(err error) (net.Conn, error)

	in     reader
	body   body
	limits conf.Limits // of heads
	reply  message.Response
	idle   time.Duration
	out    []byte
	spare  *Buffers

	trailer message.Fields
	read    bool  // something of the reply came
	framed  bool  // its head did, and leaves the connection open behind a framed body
	sent    int64 // bytes of the request
	once    int   // of a.out, when they are all of the request, and one write was to send them
}

// Open readies a for a request on conn, which a takes over until Close or Rest. Reads
// and writes that make no progress for idle fail.
func (a *AppConn) Open(conn net.Conn, buffers *Buffers, limits conf.Limits, idle time.Duration) {
	a.limits, a.idle, a.spare = limits, idle, buffers
	a.in.wire, a.in.buffers, a.in.idle = wireOf(conn), buffers, idle
	a.body = body{in: &a.in, limits: &a.limits, trailer: &a.trailer}
	a.trailer.Reset()
	a.read, a.framed, a.sent, a.once = false, false, 0, 0
}

// Close ends the connection and gives the buffers back. No one may be reading or
// writing.
func (a *AppConn) Close() {
	a.giveBack()
	a.in.conn.Close()
}

func (a *AppConn) giveBack() {
	a.in.discard()
	a.spare.give(a.out)
	a.out = nil
}

// Rest reports whether the connection may carry another request, by what came from
// the app: the whole reply, by its own framing, and nothing behind it; "If the
// "close" connection option is present [...] the connection will not persist" (RFC
// 9112, section 9.3), and HTTP/1.0 has to ask for it. Then the buffers are given
// back, and the connection is the caller's again; else Close is due.
//
// That the whole request was sent is for the caller to know.
func (a *AppConn) Rest() bool {
	if !a.framed || !a.body.done() || a.Surplus() {
		return false
	}
	a.giveBack()
	return true
}

// Surplus reports whether bytes follow a reply that was read to its end. Taken for the
// reply to the next request, they would be somebody else's.
func (a *AppConn) Surplus() bool {
	if !a.framed || !a.body.done() {
		return false
	}
	a.body.settle()
	return len(a.in.unused()) > 0
}

// Cut ends the connection under whoever reads or writes it, whose waits fail at
// once. Close is still due.
func (a *AppConn) Cut() { a.in.cut() }

// Send sends the head of req, and with it whatever of its body is there already.
// It reports whether that was all of it; if not, SendBody sends the rest.
func (a *AppConn) Send(req *message.Request, body message.Source) (complete bool, err error) {
	connection := closing
	if a.Keep {
		connection = keeping
	}
	a.out = appendRequest(a.spare.takeOut(), req, connection)
	if req.Length == 0 {
		return true, a.sendOnce()
	}
	for body.Ready() {
		done, err := a.gather(req, body)
		if done && err == nil {
			err = a.sendOnce()
		}
		if done || err != nil {
			return done, err
		}
	}
	return false, a.flush()
}

// sendOnce sends what is left of a request. If that is all of it, it is kept for Resend.
func (a *AppConn) sendOnce() error {
	if a.sent == 0 {
		a.once = len(a.out)
	}
	return a.flush()
}

// Resendable is the length of a request that one write was to send whole, of which
// not one byte may have been taken; 0 if it took more writes.
func (a *AppConn) Resendable() int { return a.once }

// Resend sends a request that is Resendable once more, on conn, which a takes over;
// the old connection is the caller's. Nothing of a reply may have come.
func (a *AppConn) Resend(conn net.Conn) error {
	a.in.discard()
	a.in.wire, a.sent = wireOf(conn), 0
	return a.write(a.out[:a.once])
}

// SendBody sends the rest of the body of req.
func (a *AppConn) SendBody(req *message.Request, body message.Source) error {
	for {
		if !body.Ready() {
			if err := a.flush(); err != nil {
				return err
			}
		}
		done, err := a.gather(req, body)
		if done && err == nil {
			err = a.flush()
		}
		if done || err != nil {
			return err
		}
	}
}

// gather takes the next piece of a body, and sends what is too long to be buffered.
func (a *AppConn) gather(req *message.Request, body message.Source) (done bool, err error) {
	piece, err := body.Next()
	switch {
	case err == io.EOF:
		if req.Length < 0 {
			a.out = appendLastChunk(a.out, &req.Trailer)
		}
		return true, nil
	case err != nil:
		return false, &message.SourceError{Err: err}
	}
	if req.Length < 0 {
		a.out = appendChunk(a.out, len(piece))
	}
	if err := a.put(piece); err != nil {
		return false, err
	}
	if req.Length < 0 {
		a.out = append(a.out, "\r\n"...)
	}
	return false, nil
}

// put appends p to what is buffered if that keeps it small, and else sends both.
func (a *AppConn) put(p []byte) error {
	if len(a.out)+len(p)+chunkFrame <= cap(a.out) {
		a.out = append(a.out, p...)
		return nil
	}
	if err := a.flush(); err != nil {
		return err
	}
	return a.write(p)
}

func (a *AppConn) flush() error {
	if len(a.out) == 0 {
		return nil
	}
	err := a.write(a.out)
	a.out = a.out[:0]
	return err
}

// write sends p, on another connection if this one is closed to the first byte of a
// request. A unix socket knows: once the peer has closed, a write is EPIPE, or
// ECONNRESET where an error waited to be read (unix(7)); nothing is under way.
func (a *AppConn) write(p []byte) error {
	n, err := a.in.write(p, a.idle)
	if n == 0 && a.sent == 0 && a.Redial != nil && isHangup(err) {
		conn, err := a.Redial(err)
		if err != nil {
			return err
		}
		a.in.wire = wireOf(conn)
		n, err = a.in.write(p, a.idle)
		a.sent += int64(n)
		return err
	}
	a.sent += int64(n)
	return err
}

func isHangup(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// Write sends p as it is: the client's bytes, once the protocol was changed.
func (a *AppConn) Write(p []byte) (int, error) { return a.in.write(p, a.idle) }

// CloseWrite tells the app that nothing more comes.
func (a *AppConn) CloseWrite() error { return a.in.closeWrite() }

// Await waits until the first byte of a reply is there, at most for firstByte.
func (a *AppConn) Await(firstByte time.Duration) error {
	if len(a.in.unused()) > 0 {
		return nil
	}
	a.in.pace(firstByte, message.Rate{})
	err := a.in.fill()
	a.in.pace(a.idle, message.Rate{})
	a.read = a.read || err == nil
	return err
}

// Replied reports whether anything came from the app.
func (a *AppConn) Replied() bool { return a.read }

// Sent is how many bytes of the request the connection has taken.
func (a *AppConn) Sent() int64 { return a.sent }

// ReadReply reads the next head of the reply to req, interim ones too, and readies a
// as the Source of its body. What it returns is valid until the next call or Close.
func (a *AppConn) ReadReply(req *message.Request) (*message.Response, error) {
	head, err := a.in.head(&a.limits)
	a.in.idle = a.idle // again, if the head had to be waited for
	if err != nil {
		return nil, truncated(err)
	}
	how, minor, err := parseResponse(head, &a.reply, &a.limits)
	if err != nil {
		return nil, err
	}
	if err := a.frame(req, how); err != nil {
		return &a.reply, err
	}
	a.framed = a.Keep && a.reply.Status >= 200 && a.body.state != untilClose &&
		!how.Close && (minor == 1 || how.Keep)
	return &a.reply, nil
}

// frame applies RFC 9112, section 6.3, to a reply.
func (a *AppConn) frame(req *message.Request, how message.Framing) error {
	status := a.reply.Status
	a.reply.Upgrade = nil
	if status == 426 {
		a.reply.Upgrade = how.Upgrade
	}
	switch {
	case status == 101:
		// "A server MUST NOT switch to a protocol that was not indicated by the client
		// in the corresponding request's Upgrade header field" RFC 9110, section 7.8
		if req.Upgrade == nil || !message.SameFold(how.Upgrade, req.Upgrade) {
			return message.ErrUpgradeNotAsked
		}
		if how.Chunked || how.Length > 0 {
			return message.ErrNoContentWithBody
		}
		a.reply.Length = -1
		a.body.toClose()
	case a.reply.Interim(), status == 204:
		// "A server MUST NOT send a Transfer-Encoding header field in any response
		// with a status code of 1xx (Informational) or 204 (No Content)" RFC 9112,
		// section 6.1; and of Content-Length section 8.6 of RFC 9110 says the same.
		// Zero is what many frameworks add; it frames nothing.
		if how.Chunked || how.Length > 0 {
			return message.ErrNoContentWithBody
		}
		a.reply.Length = 0
		a.body.sized(0)
	case string(req.Method) == "HEAD", status == 304:
		a.body.sized(0)
	case how.Chunked:
		a.body.inChunks()
	case how.Length >= 0:
		a.body.sized(how.Length)
	default:
		a.body.toClose()
	}
	return nil
}

// Next is message.Source.
func (a *AppConn) Next() ([]byte, error) { return a.body.Next() }

// Ready is message.Source.
func (a *AppConn) Ready() bool { return a.body.Ready() }

// Leave lets what Next returned last stay as it is: its buffer is the caller's.
func (a *AppConn) Leave() {
	a.body.settle()
	a.in.leave()
}

// Trailer are the fields behind the body, once Next returned io.EOF; nil if none.
func (a *AppConn) Trailer() *message.Fields {
	if a.trailer.Len() == 0 {
		return nil
	}
	return &a.trailer
}

// SetIdle changes the limit of waits without progress; 0 is none.
func (a *AppConn) SetIdle(idle time.Duration) {
	a.idle = idle
	a.in.pace(idle, message.Rate{})
	if idle == 0 {
		a.in.limitWrite(0)
	}
}

var _ message.Source = (*AppConn)(nil)
