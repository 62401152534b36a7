package loop

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Records are what a TLS session runs on: a connection that knows where records begin.
// It sends those of a long body together, and tells when the session has nothing left of
// what it has read. It is a net.Conn.
//
// While they are gathered the session never waits, and a peer that is slow cannot break
// it: a Write that times out is the end of a session of crypto/tls, a Flush is not.
type Records struct {
	net.Conn // raw, or made on it by something that has read ahead
	raw      *Conn

	// Of the reader.
	header  [recordHeader]byte // of the record that began last
	begun   int                // bytes of the header that have come; 0 between records
	left    int                // of the payload
	seen    int                // records that began in the last Read
	aligned bool               // the last Read began with a record

	mu   sync.Mutex    // a reader writes too: alerts, and answers to a key update
	held []byte        // gathered and not sent; nil when nothing is gathered
	idle time.Duration // by Renew
}

// recordHeader is the type, the version and the length before each record (RFC 8446,
// section 5.1).
const recordHeader = 5

// RecordBytes is how much of a body one record carries at most (RFC 8446, section 5.1).
const RecordBytes = 16 << 10

// RecordFrame is the most by which a record that crypto/tls sends is longer than its part
// of a body: the header, and the first block, the SHA-256 and the padding of CBC, which
// TLS 1.2 still has (RFC 5246, section 6.2.3.2).
const RecordFrame = recordHeader + 16 + 32 + 16

// NewRecords are the Records of conn, which is raw or made on it.
func NewRecords(conn net.Conn, raw *Conn) *Records { return &Records{Conn: conn, raw: raw} }

// Raw is the connection below.
func (r *Records) Raw() *Conn { return r.raw }

// Read is net.Conn.
func (r *Records) Read(p []byte) (int, error) {
	r.seen, r.aligned = 0, r.begun == 0
	n, err := r.Conn.Read(p)
	r.follow(p[:n])
	return n, err
}

// follow goes through the records in p.
func (r *Records) follow(p []byte) {
	for len(p) > 0 {
		if r.begun == 0 {
			r.seen++
		}
		if r.begun < recordHeader {
			n := copy(r.header[r.begun:], p)
			r.begun += n
			p = p[n:]
			r.left = int(r.header[3])<<8 | int(r.header[4])
		}
		n := min(r.left, len(p))
		p = p[n:]
		if r.begun < recordHeader {
			return
		}
		if r.left -= n; r.left == 0 {
			r.begun = 0
		}
	}
}

// Drained reports whether the session has opened all records that have come. It asks for
// bytes when it has no whole record; so, if it asked where a record begins, it had
// nothing, and if exactly that one came, it has nothing again.
func (r *Records) Drained() bool { return r.aligned && r.seen == 1 && r.begun == 0 }

// Renew gives a Write that begins beyond the deadline one of its own, idle from then. A
// reader that answers a key update sets none, and what is left of the writer's last one
// must not end the session.
func (r *Records) Renew(idle time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = idle
}

// Write is net.Conn. It sends p, or puts it behind what is gathered.
func (r *Records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) > cap(r.held)-len(r.held) { // always if nothing is gathered
		if r.idle > 0 {
			r.raw.renewWrite(r.idle)
		}
		if _, err := r.raw.Write(r.held); err != nil {
			return 0, err
		}
		r.held = r.held[:0]
		return r.raw.Write(p)
	}
	r.held = append(r.held, p...)
	return len(p), nil
}

// Gather keeps what is written from now on in buffer, until Flush. What does not fit is
// sent, as without it.
func (r *Records) Gather(buffer []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = buffer[:0]
}

// Flush sends what was gathered, as WriteSteps does. The buffer is the caller's again.
func (r *Records) Flush(idle time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.raw.WriteSteps(r.held, idle)
	r.held = nil
	return err
}

// WriteSteps is Write with a limit on progress: a peer that takes a little within each
// idle may take as long as it likes. 0 leaves the deadline as it stands.
func (c *Conn) WriteSteps(p []byte, idle time.Duration) (int, error) {
	sent := 0
	for {
		if idle > 0 {
			c.LimitWrite(idle)
		}
		n, err := c.Write(p[sent:])
		sent += n
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return sent, err
		}
	}
}

var _ net.Conn = (*Records)(nil)
