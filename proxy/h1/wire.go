package h1

import (
	"errors"
	"net"
	"os"
	"time"

	"sallyport/sockets/loop"
)

// A wire is a connection, and the loop's part of it. It is where limits are set and
// bytes go; reads are the reader's.
type wire struct {
	conn    net.Conn
	raw     *loop.Conn    // what conn is, or is made on; nil where conn waits by itself
	records *loop.Records // between the two, if conn is a TLS session
}

// wireOf is the wire of a connection that is raw itself, or waits by itself.
func wireOf(conn net.Conn) wire {
	raw, _ := conn.(*loop.Conn)
	return wire{conn: conn, raw: raw}
}

// limitRead ends reads that go on after wait; 0 is no limit, and less is the past.
func (w *wire) limitRead(wait time.Duration) {
	if w.raw != nil {
		w.raw.LimitRead(wait)
		return
	}
	// The only error is that of a closed connection, which the next read reports.
	_ = w.conn.SetReadDeadline(deadlineOf(wait))
}

// now is the time in nanoseconds, for differences only: where there is a loop by its
// clock, which costs nothing.
func (w *wire) now() int64 {
	if w.raw != nil {
		return w.raw.Clock()
	}
	return time.Now().UnixNano()
}

// limitWrite is limitRead for writes.
func (w *wire) limitWrite(wait time.Duration) {
	if w.raw != nil {
		w.raw.LimitWrite(wait)
		return
	}
	_ = w.conn.SetWriteDeadline(deadlineOf(wait)) // as in limitRead
}

func deadlineOf(wait time.Duration) time.Time {
	if wait == 0 {
		return time.Time{}
	}
	return time.Now().Add(wait)
}

// write sends all of p. The limit is on progress: a peer that takes a little within
// each idle may take as long as it likes. 0 leaves the limit as it stands. A TLS session
// cannot go on after a limit, so no more than a record is given to it.
func (w *wire) write(p []byte, idle time.Duration) (int, error) {
	sent := 0
	for {
		if idle > 0 {
			w.limitWrite(idle)
		}
		n, err := w.conn.Write(p[sent:])
		sent += n
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return sent, err
		}
	}
}

// cut ends the connection under whoever reads or writes it.
func (w *wire) cut() {
	if w.raw != nil {
		w.raw.Cut() // its Close is for the last one alone
		return
	}
	w.conn.Close()
}

// closeWrite tells the peer that nothing more comes. It reports whether there is a way.
func (w *wire) closeWrite() error {
	if half, ok := w.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// reset closes so that the peer takes what it has for a fragment: by a TCP reset,
// and under TLS without a closing alert.
func (w *wire) reset() {
	conn := w.conn
	if w.raw != nil {
		conn = w.raw
	} else if inner, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = inner.NetConn()
	}
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // a connection that is gone needs no reset
	}
	conn.Close()
}
