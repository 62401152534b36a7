package h2

import (
	"errors"
	"io"
	"os"
	"time"

	"sallyport/proxy/message"
)

// interimsMost bounds the heads of 1xx that wait to be read.
const interimsMost = 16

// ErrLeft is a client that does not want the reply any more.
var ErrLeft = errors.New("h2: the client has left")

// nextHead is where the next head goes, nil where there are too many.
func (k *Call) nextHead() *message.Response {
	if k.had > interimsMost {
		return nil
	}
	if k.had == len(k.heads) {
		k.heads = append(k.heads, message.Response{})
	}
	resp := &k.heads[k.had]
	resp.Fields.Reset()
	return resp
}

// ofAppFraming are the fields of a reply that say what frames say, or belong to a request.
var ofAppFraming = message.SetOf(message.ContentLength, message.Expect)

// takeHead makes resp what head is, which ends the reply if end, and returns the rule that it
// breaks, nil if none.
func (k *Call) takeHead(head *message.Section, resp *message.Response, end bool) *message.Refusal {
	status := head.Status
	switch {
	case head.Refusal != nil:
		return head.Refusal
	case status == "":
		// "This pseudo-header field MUST be included in all responses" RFC 9113, section 8.3.2
		return message.ErrPseudo
	case len(status) != 3 || status[0] < '1' || status[0] > '5' || !isDigit(status[1]) || !isDigit(status[2]):
		return message.ErrStatus
	case resp.Fields.Count(message.TE) > 0:
		return message.ErrConnectionField
	}
	if cookies, ok := head.Cookies(); ok {
		resp.Fields.Add("cookie", cookies)
	}
	resp.Status = int(status[0]-'0')*100 + int(status[1]-'0')*10 + int(status[2]-'0')
	resp.Length, resp.Upgrade = -1, nil
	if value, ok := resp.Fields.Value(message.ContentLength); ok {
		n, digits := message.ParseLength(value)
		switch {
		case resp.Fields.Count(message.ContentLength) > 1:
			return message.ErrLengthTwice
		case !digits:
			return message.ErrLength
		}
		resp.Length = n
	}
	resp.Fields.Remove(ofAppFraming)
	if refusal := k.frameReply(resp, end); refusal != nil {
		return refusal
	}
	k.had++
	if k.final && end {
		k.endBody()
	}
	k.reader.signal()
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// frameReply finds out what becomes of the body.
func (k *Call) frameReply(resp *message.Response, end bool) *message.Refusal {
	switch {
	case k.tunnel && resp.Status/100 == 2:
		return k.beginTunnel(resp)
	case resp.Status == 101:
		// "HTTP/2 removes support for the 101 (Switching Protocols)" RFC 9113, section 8.6
		return message.ErrUpgradeNotAsked
	case resp.Interim():
		if end || resp.Length > 0 {
			// "A HEADERS frame with the END_STREAM flag set that carries an informational
			// status code is malformed" section 8.1.1
			return message.ErrNoContentWithBody
		}
		resp.Length = 0
		return nil
	case resp.Status == 204:
		if resp.Length > 0 {
			return message.ErrNoContentWithBody
		}
		resp.Length = 0
		k.bodiless = true
	case resp.Status == 304:
		k.bodiless = true
	}
	k.final = true
	k.body.length = resp.Length
	if k.bodiless {
		k.body.length = 0
	}
	return nil
}

// beginTunnel makes the 101 that HTTP/1 answers a handshake with of the 2xx that says "that the
// proxying of the tunnel" has begun (RFC 8441, section 5).
func (k *Call) beginTunnel(resp *message.Response) *message.Refusal {
	if resp.Length > 0 {
		return message.ErrNoContentWithBody
	}
	resp.Status, resp.Length = 101, -1
	resp.Fields.Add("Sec-WebSocket-Accept", k.accept)
	k.final = true
	return nil
}

// receive puts p, which has come, behind the body.
func (k *Call) receive(p []byte) {
	b := &k.body
	if b.length >= 0 && b.got+int64(len(p)) > b.length {
		k.refuse(message.ErrLengthDisagrees)
		return
	}
	b.got += int64(len(p))
	b.chunks.put(p, b.got, &k.conn.apps.buffers)
	k.reader.signal()
}

// endBody is when the app has sent all: "A response is also malformed if the value of a
// Content-Length header field does not equal the sum of the DATA frame payload lengths"
// RFC 9113, section 8.1.1.
func (k *Call) endBody() {
	b := &k.body
	switch {
	case !k.final:
		k.refuse(message.ErrFrames)
		return
	case b.length >= 0 && b.got != b.length:
		k.refuse(message.ErrLengthDisagrees)
		return
	}
	b.ended = true
	k.reader.signal()
	k.writer.signal()
}

// returnWindow gives the app n bytes of the window back, by and by.
func (k *Call) returnWindow(n int) {
	b, c := &k.body, k.conn
	b.consumed += n
	if b.ended || k.gone || b.consumed < streamWindow/4 {
		return
	}
	c.out.buf = appendWindow(c.out.take(headRoom), k.id, uint32(b.consumed))
	b.window += b.consumed
	b.consumed = 0
	c.kick()
}

// Await waits until the head of a reply is there, at most for firstByte.
func (k *Call) Await(firstByte time.Duration) error {
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	return k.awaitHead(firstByte)
}

func (k *Call) awaitHead(limit time.Duration) error {
	return k.await(limit, func() bool { return k.shown < k.had })
}

// Of a client that can take its request back it is asked whether it has done so after
// leftFirst, and then after twice as long each time, up to leftMost.
const (
	leftFirst = 20 * time.Millisecond
	leftMost  = 500 * time.Millisecond
)

// await waits until is, for at most limit, 0 is none.
func (k *Call) await(limit time.Duration, is func() bool) error {
	c := k.conn
	waited, look := time.Duration(0), leftFirst
	for !is() {
		if k.gone && k.err != nil {
			return k.err
		}
		step := limit
		if limit > 0 {
			if step -= waited; step <= 0 {
				return k.late()
			}
		}
		looking := k.Client != nil && (limit == 0 || look < step)
		if looking {
			step = look
			look = min(2*look, leftMost)
		}
		if !k.reader.await(&c.mu, step) {
			continue
		}
		if waited += step; !looking {
			return k.late()
		}
		c.mu.Unlock()
		left := k.Client.Gone()
		c.mu.Lock()
		if left {
			return ErrLeft
		}
	}
	return nil
}

// late is a wait that took too long.
func (k *Call) late() error {
	if !k.conn.in.settled {
		return &GreetingError{os.ErrDeadlineExceeded}
	}
	return os.ErrDeadlineExceeded
}

// Replied reports whether anything came from the app for this call.
func (k *Call) Replied() bool {
	if k.conn == nil {
		return false
	}
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	return k.had > 0
}

// Unread reports whether the app has done nothing of the request.
func (k *Call) Unread() bool {
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	return k.unread
}

// ReadReply reads the next head of the reply, interim ones too. What it returns is valid
// until End.
func (k *Call) ReadReply(*message.Request) (*message.Response, error) {
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	if err := k.awaitHead(k.idle); err != nil {
		return nil, err
	}
	k.shown++
	return &k.heads[k.shown-1], nil
}

// Next is message.Source.
func (k *Call) Next() ([]byte, error) {
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	k.settle()
	if err := k.await(k.idle, k.isReady); err == io.EOF {
		return nil, message.ErrBodyTruncated // of the connection: the body has an end of its own
	} else if err != nil {
		return nil, err
	}
	b := &k.body
	n := k.ahead()
	if n == 0 {
		return nil, io.EOF
	}
	piece := b.chunks.first(n)
	b.taken = len(piece)
	b.read += int64(len(piece))
	return piece, nil
}

// Ready is message.Source.
func (k *Call) Ready() bool {
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	return k.isReady() || k.gone && k.err != nil
}

func (k *Call) isReady() bool { return k.body.ended || k.ahead() > 0 }

// ahead is how much of the body may be read: of one with a length the last byte stays here
// until the app has said that it is the last, for the client takes it for the end.
func (k *Call) ahead() int {
	b := &k.body
	n := int(b.got - b.read)
	if n > 0 && b.got == b.length && !b.ended {
		n--
	}
	return n
}

// settle uses up what the last Next has handed out.
func (k *Call) settle() {
	if b := &k.body; b.taken > 0 {
		b.chunks.use(b.taken, &k.conn.apps.buffers)
		k.returnWindow(b.taken)
		b.taken = 0
	}
}

// Leave lets what Next returned last stay as it is: its buffer is the caller's.
func (k *Call) Leave() {
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	if b := &k.body; b.taken > 0 {
		b.chunks.part(b.taken, &k.conn.apps.buffers)
		k.returnWindow(b.taken)
		b.taken = 0
	}
}

// Trailer are the fields behind the body, once Next returned io.EOF; nil if none.
func (k *Call) Trailer() *message.Fields {
	if k.trailer.Len() == 0 {
		return nil
	}
	return &k.trailer
}

// SetIdle changes the limit of waits without progress; 0 is none.
func (k *Call) SetIdle(idle time.Duration) { k.idle = idle }

// Surplus is false: what comes behind a reply is no part of anything.
func (k *Call) Surplus() bool { return false }

// Ahead is message.Spliceable: nothing can be.
func (k *Call) Ahead() int64 { return 0 }

// Splice is message.Spliceable.
func (k *Call) Splice(int, int) (int, error) { return 0, errors.ErrUnsupported }

var _ message.Spliceable = (*Call)(nil)
