package h2

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"sallyport/proxy/message"
)

// A Call is one request and its reply on an AppConn. It is the Source of the reply's body,
// and to who uses it what h1.AppConn is. Its reply is in callreply.go.
//
//	reserved ── Send ──► begun ──► replied ──► End
//	   ▲                   │ unread
//	   └──── Open ─────────┘
//
// One goroutine may SendBody while another reads. The fields behind conn are guarded by its
// mu, but for what a comment says otherwise.
type Call struct {
	// Client is asked now and then while the app is waited for, whether it wants the reply
	// still; nil: it does.
	Client message.Resetter

	idle time.Duration // of a wait without progress
	kept []byte        // of the body, what was taken from its source; only the sender's business
	lost bool          // likewise: not all of that is kept
	all  bool          // likewise: all of the body was taken

	conn    *AppConn
	id      uint32 // 0 until it has begun
	batch   uint64 // of conn.out, that its head is in
	headEnd int    // where that ends there
	window  int    // what the app takes of the body
	flags   int    // where the flags of the last frame are in conn.out.buf
	framed  uint64 // the batch that they are in
	done    bool   // END_STREAM was sent
	writer  waiter

	heads    []message.Response // had of them have come, shown of them were read
	had      int
	shown    int
	final    bool // the head that counts is among them
	bodiless bool // nothing may follow it
	body     arrival
	trailer  message.Fields
	reader   waiter

	tunnel bool   // an extended CONNECT was sent
	accept []byte // what HTTP/1 answers its key with

	gone   bool  // reset, by one side, or with the connection
	err    error // why; nil if it is as good as over
	unread bool  // the app has done nothing of it
}

// An arrival is the body of a reply, as far as it has come.
type arrival struct {
	chunks   chunks
	taken    int   // of the first chunk, by the last Next
	length   int64 // by Content-Length; -1 when only its end will tell
	got      int64 // bytes, all in all
	read     int64 // of these, by Next
	window   int   // what the app may send
	consumed int   // and not given back to window
	ended    bool  // the app has sent all
}

// errUnwanted ends the body of a request that the app has answered without.
var errUnwanted = errors.New("h2: the app wants no more of the request")

// Open readies k for a request on c, where room was reserved for it. Waits without progress
// end after idle. What k has kept of a request that c had not read stays, for Resend.
func (k *Call) Open(c *AppConn, idle time.Duration) {
	k.leave()
	for i := range k.heads[:k.had] {
		k.heads[i].Fields.Reset()
	}
	k.trailer.Reset()
	*k = Call{
		Client: k.Client, idle: idle, kept: k.kept, lost: k.lost, all: k.all, conn: c,
		writer: k.writer, reader: k.reader, heads: k.heads, trailer: k.trailer,
		body: arrival{chunks: k.body.chunks, window: streamWindow, length: -1},
	}
}

// End gives up what is left of the call, and the connection with it. No one may be reading
// or writing. Without Open it is nothing.
func (k *Call) End() {
	k.leave()
	if c := k.conn; c != nil {
		c.apps.buffers.give(k.kept)
	}
	k.conn, k.kept, k.lost, k.all, k.Client = nil, nil, false, false, nil
}

// leave takes k off its connection.
func (k *Call) leave() {
	c := k.conn
	if c == nil {
		return
	}
	c.mu.Lock()
	if k.id == 0 {
		c.taken--
	} else {
		if !k.gone && !(k.done && k.body.ended) {
			c.out.buf = appendReset(c.out.take(headRoom), k.id, codeCancel)
			c.kick()
		}
		i, _ := c.position(k.id)
		c.calls = slices.Delete(c.calls, i, i+1)
	}
	k.body.chunks.drop(&c.apps.buffers)
	k.gone = true
	c.dismiss()
	c.mu.Unlock()
	c.endIfOver()
}

// Send sends the head of req, and with it whatever of its body is there already. It reports
// whether that was all of it; if not, SendBody sends the rest.
func (k *Call) Send(req *message.Request, body message.Source) (complete bool, err error) {
	if err := k.awaitGreeting(req); err != nil {
		return false, err
	}
	if err := k.begin(req); err != nil || req.Length == 0 {
		return err == nil, err
	}
	for body.Ready() {
		if done, err := k.gather(req, body); done || err != nil {
			return done, err
		}
	}
	k.flush()
	return false, nil
}

// Resendable reports whether Resend can send what was sent.
func (k *Call) Resendable() bool { return !k.lost }

// Begun reports whether anything of the request was sent.
func (k *Call) Begun() bool { return k.id != 0 }

// Resend sends a request once more that is Resendable, on a connection that it was opened on
// since. It reports whether that was all of it.
func (k *Call) Resend(req *message.Request) (complete bool, err error) {
	if err := k.awaitGreeting(req); err != nil {
		return false, err
	}
	if err := k.begin(req); err != nil || req.Length == 0 {
		return err == nil, err
	}
	if err := k.put(k.kept); err != nil {
		return false, err
	}
	if k.all {
		return true, k.finish(&req.Trailer)
	}
	k.flush()
	return false, nil
}

// SendBody sends the rest of the body of req.
func (k *Call) SendBody(req *message.Request, body message.Source) error {
	for {
		if !body.Ready() {
			k.flush()
		}
		if done, err := k.gather(req, body); done || err != nil {
			return err
		}
	}
}

func (k *Call) flush() {
	k.conn.mu.Lock()
	k.conn.kick()
	k.conn.mu.Unlock()
}

// gather sends the next piece of a body.
func (k *Call) gather(req *message.Request, body message.Source) (done bool, err error) {
	piece, err := body.Next()
	switch {
	case err == io.EOF:
		k.all = true
		return true, k.finish(&req.Trailer)
	case err != nil:
		return false, &message.SourceError{Err: err}
	}
	k.keep(piece)
	return false, k.put(piece)
}

// keep keeps p for Resend, unless it is too much.
func (k *Call) keep(p []byte) {
	pool := &k.conn.apps.buffers
	switch need := len(k.kept) + len(p); {
	case k.lost:
		return
	case need > chunkBytes:
		k.lost = true
		pool.give(k.kept)
		k.kept = nil
		return
	case k.kept == nil && need <= firstBytes:
		k.kept = pool.takeFirst()
	case need > cap(k.kept):
		larger := append(pool.takeChunk(), k.kept...)
		pool.give(k.kept)
		k.kept = larger
	}
	k.kept = append(k.kept, p...)
}

// begin sends the head of req.
func (k *Call) begin(req *message.Request) error {
	c := k.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.sendable(); err != nil || c.refuses || c.next > streamMost || len(c.calls) >= min(c.said.streams, callsMost) {
		switch {
		case err == nil:
			err = &message.ResetError{Code: message.CodeRefused}
		case !c.in.settled && c.fault.refusal == nil:
			err = &GreetingError{err}
		}
		k.fail(err, true)
		return err
	}
	c.taken--
	k.id = c.next
	if c.next += 2; c.next > streamMost {
		c.away = true // "a client [...] can establish a new connection for new streams" section 5.1.1
	}
	c.calls = append(c.calls, k)
	c.control.earn(2 << 10) // a reset, or a window, that its end may take
	k.window, k.batch = c.out.streamWindow, c.out.batch
	k.bodiless = string(req.Method) == "HEAD"
	start := c.out.beginHead(k.id)
	c.out.buf = k.appendRequest(c.out.buf, req)
	k.endHead(start, req.Length == 0 && !k.tunnel)
	k.headEnd = len(c.out.buf)
	if req.Length == 0 {
		c.kick()
	}
	return nil
}

// endHead ends a field section of k, and the request if that is its last.
func (k *Call) endHead(start int, last bool) {
	o := &k.conn.out
	k.flags, k.framed = start+flagsAt, o.batch
	if last {
		o.buf[k.flags] |= flagEndStream
		k.done = true
	}
	o.buf = closeSection(o.buf, start, k.id)
}

// appendRequest appends the field section of a request.
func (k *Call) appendRequest(b []byte, req *message.Request) []byte {
	if k.tunnel {
		b = appendLiteral(b, indexGET, []byte("CONNECT"))
		b = appendField(b, []byte(":protocol"), []byte("websocket"))
	} else {
		b = appendMethod(b, req.Method)
	}
	scheme := byte(indexHTTP)
	if req.Secure {
		scheme = indexHTTPS
	}
	b = append(b, 0x80|scheme)
	b = appendLiteral(b, indexAuthority, req.Host)
	b = appendLiteral(b, indexPath, req.Target)
	for i := range req.Fields.Len() {
		if _, key, value := req.Fields.Line(i); !k.tunnel || !message.IsKey(key) {
			b = appendField(b, key, value)
		}
	}
	if req.Length > 0 || req.Length == 0 && mayHaveBody(req.Method) {
		var digits [20]byte
		b = appendLiteral(b, indexContentLength, strconv.AppendInt(digits[:0], req.Length, 10))
	}
	if req.Trailers {
		// What the client takes, we do: "the TE header field [...] MUST NOT contain any
		// value other than "trailers"" RFC 9113, section 8.2.2. gRPC goes by it.
		b = appendField(b, []byte("te"), []byte("trailers"))
	}
	return b
}

// ErrNoTunnel is an app that takes no WebSockets by HTTP/2.
var ErrNoTunnel = errors.New("h2: the app takes no extended CONNECT")

// awaitGreeting waits for the first word of the app, which says how many calls it takes: to be
// refused costs more, and a body that is under way cannot be sent again. It readies k for a
// WebSocket, where the app takes them: "A client MUST NOT send" that before it has said so
// (RFC 8441, section 4).
func (k *Call) awaitGreeting(req *message.Request) error {
	c := k.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.in.settled {
		c.kick()
		c.early = append(c.early, k)
		err := k.await(k.idle, func() bool { return c.in.settled || c.sendable() != nil })
		if i := slices.Index(c.early, k); i >= 0 {
			c.early = slices.Delete(c.early, i, i+1)
		}
		if err != nil {
			k.fail(err, false)
			return err
		}
	}
	// "The method of the request MUST be GET" RFC 6455, section 4.1: CONNECT is none other.
	if k.tunnel = string(req.Method) == "GET" && message.EqualFold(req.Upgrade, "websocket"); !k.tunnel {
		return nil
	}
	if c.in.settled && !c.said.connect {
		k.fail(ErrNoTunnel, false)
		return ErrNoTunnel
	}
	for i := range req.Fields.Len() {
		if _, key, value := req.Fields.Line(i); message.IsKey(key) {
			k.accept = message.AcceptOf(value)
		}
	}
	return nil
}

// Write sends bytes to the app in a tunnel.
func (k *Call) Write(p []byte) (int, error) {
	if err := k.put(p); err != nil {
		return 0, err
	}
	k.flush()
	return len(p), nil
}

// CloseWrite tells the app that nothing more comes in a tunnel.
func (k *Call) CloseWrite() error { return k.finish(nil) }

func appendMethod(b, method []byte) []byte {
	switch string(method) {
	case "GET":
		return append(b, 0x80|indexGET)
	case "POST":
		return append(b, 0x80|indexPOST)
	}
	return appendLiteral(b, indexGET, method)
}

// mayHaveBody is h1's: "a user agent SHOULD send Content-Length" with methods that
// anticipate a body, even when there is none (RFC 9110, section 8.6).
func mayHaveBody(method []byte) bool {
	switch string(method) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}

// sendable is nil as long as the app may get more of k.
func (k *Call) sendable() error {
	switch {
	case k.gone && k.err != nil:
		return k.err
	case k.gone:
		return errUnwanted
	}
	return k.conn.sendable()
}

// put sends p, as the windows let it, and waits for room no longer than idle at a time.
func (k *Call) put(p []byte) error {
	c := k.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	since, seen := time.Time{}, 0 // of the wait; zero: there is none
	for len(p) > 0 {
		if err := k.sendable(); err != nil {
			return err
		}
		at := len(c.out.buf) + flagsAt
		if n := c.out.data(k.id, p, &k.window); n > 0 {
			k.flags, k.framed = at, c.out.batch
			p, since = p[n:], time.Time{}
			c.control.earn(n)
			continue
		}
		if since.IsZero() || k.window > 0 && c.out.bodies != seen { // it is others' turn
			since, seen = time.Now(), c.out.bodies
		}
		if k.awaitRoom(since) {
			return os.ErrDeadlineExceeded
		}
	}
	if len(c.out.buf) > outBytes {
		c.kick()
	}
	return nil
}

// awaitRoom waits until there may be room, and reports whether idle is over.
func (k *Call) awaitRoom(since time.Time) (late bool) {
	c, wait := k.conn, k.idle
	if wait > 0 {
		if wait -= time.Since(since); wait <= 0 {
			return true
		}
	}
	c.waiting = append(c.waiting, k)
	c.kick()
	late = k.writer.await(&c.mu, wait)
	c.unqueue(k)
	return late
}

// unqueue takes k out of those that wait.
func (c *AppConn) unqueue(k *Call) {
	if i := slices.Index(c.waiting, k); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

// finish says that the request is over: in its last frame, if that is still here.
func (k *Call) finish(trailer *message.Fields) error {
	c := k.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := k.sendable(); err != nil {
		return err
	}
	switch {
	case trailer != nil && trailer.Len() > 0:
		start := c.out.beginHead(k.id)
		c.out.buf = appendFields(c.out.buf, trailer)
		k.endHead(start, true)
	case k.framed == c.out.batch && len(c.out.buf) > k.flags:
		c.out.buf[k.flags] |= flagEndStream
	default:
		c.out.buf = appendHeader(c.out.take(headRoom), 0, kindData, flagEndStream, k.id)
	}
	k.done = true
	c.kick()
	return nil
}

// Cut ends the call under whoever reads or writes it, whose waits fail at once. End is still
// due.
func (k *Call) Cut() {
	c := k.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !k.gone && k.id != 0 {
		c.out.buf = appendReset(c.out.take(headRoom), k.id, codeCancel)
		c.kick()
	}
	k.fail(net.ErrClosed, false)
}

// fail ends k because of err, unless it has ended: whatever has come of the reply is read
// before. unread says that the app has done nothing of it.
func (k *Call) fail(err error, unread bool) {
	if !k.gone {
		k.gone, k.unread = true, unread
		k.err = err
	}
	k.reader.signal()
	k.writer.signal()
}

// refuse resets the call because of what the app did.
func (k *Call) refuse(refusal *message.Refusal) {
	why := codeProtocol
	if refusal == message.ErrWindow {
		why = codeFlowControl
	}
	k.conn.out.buf = appendReset(k.conn.out.take(headRoom), k.id, why)
	k.fail(refusal, false)
}

// reset is when the app has reset the call: "a server MAY request that the client abort
// transmission of a request without error by sending a RST_STREAM with an error code of
// NO_ERROR after sending a complete response" RFC 9113, section 8.1.
func (k *Call) reset(why message.Code) {
	if k.body.ended {
		k.gone = true
		k.writer.signal()
		return
	}
	k.fail(&message.ResetError{Code: why}, why == message.CodeRefused && k.had == 0)
}
