package h1

import (
	"io"
	"net"
	"time"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// An AppConn is a connection to an app, for one request and its reply. It is the
// Source of the reply's body.
//
// One goroutine may SendBody while another reads.
type AppConn struct {
	in     reader
	body   body
	limits conf.Limits // of heads
	reply  message.Response
	idle   time.Duration
	out    []byte
	spare  *Buffers

	trailer message.Fields
	minor   int
	read    bool // something of the reply came
}

// Open readies a for a request on conn, which a takes over. Reads and writes
// that make no progress for idle fail.
func (a *AppConn) Open(conn net.Conn, buffers *Buffers, limits conf.Limits, idle time.Duration) {
	a.limits, a.idle, a.spare = limits, idle, buffers
	a.in.wire, a.in.buffers, a.in.idle = wireOf(conn), buffers, idle
	a.body = body{in: &a.in, limits: &a.limits, trailer: &a.trailer}
	a.trailer.Reset()
	a.read = false
}

// Close ends the connection and gives the buffers back. No one may be reading or
// writing.
func (a *AppConn) Close() {
	a.in.discard()
	a.spare.give(a.out)
	a.out = nil
	a.in.conn.Close()
}

// Cut ends the connection under whoever reads or writes it, whose waits fail at
// once. Close is still due.
func (a *AppConn) Cut() { a.in.cut() }

// Send sends the head of req, and with it whatever of its body is there already.
// It reports whether that was all of it; if not, SendBody sends the rest.
func (a *AppConn) Send(req *message.Request, body message.Source) (complete bool, err error) {
	a.out = appendRequest(a.spare.takeOut(), req)
	if req.Length == 0 {
		return true, a.flush()
	}
	for body.Ready() {
		done, err := a.sendPiece(req, body)
		if done || err != nil {
			return done, err
		}
	}
	return false, a.flush()
}

// SendBody sends the rest of the body of req.
func (a *AppConn) SendBody(req *message.Request, body message.Source) error {
	for {
		if !body.Ready() {
			if err := a.flush(); err != nil {
				return err
			}
		}
		if done, err := a.sendPiece(req, body); done || err != nil {
			return err
		}
	}
}

func (a *AppConn) sendPiece(req *message.Request, body message.Source) (done bool, err error) {
	piece, err := body.Next()
	switch {
	case err == io.EOF:
		if req.Length < 0 {
			a.out = appendLastChunk(a.out, &req.Trailer)
		}
		return true, a.flush()
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
	_, err := a.in.write(p, a.idle)
	return err
}

func (a *AppConn) flush() error {
	if len(a.out) == 0 {
		return nil
	}
	_, err := a.in.write(a.out, a.idle)
	a.out = a.out[:0]
	return err
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
	a.in.pace(firstByte)
	err := a.in.fill()
	a.in.pace(a.idle)
	a.read = a.read || err == nil
	return err
}

// Replied reports whether anything came from the app.
func (a *AppConn) Replied() bool { return a.read }

// ReadReply reads the next head of the reply to req, interim ones too, and readies a
// as the Source of its body. What it returns is valid until the next call or Close.
func (a *AppConn) ReadReply(req *message.Request) (*message.Response, error) {
	head, err := a.in.head(&a.limits)
	if err != nil {
		return nil, truncated(err)
	}
	how, minor, err := parseResponse(head, &a.reply, &a.limits)
	if err != nil {
		return nil, err
	}
	a.minor = minor
	return &a.reply, a.frame(req, how)
}

// frame applies RFC 9112, section 6.3, to a reply.
func (a *AppConn) frame(req *message.Request, how message.Framing) error {
	status := a.reply.Status
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
	a.in.pace(idle)
	if idle == 0 {
		a.in.limitWrite(0)
	}
}

var _ message.Source = (*AppConn)(nil)
