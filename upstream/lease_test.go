package upstream

import (
	"net"
	"os"
	"testing"
	"time"

	"sallyport/proxy/h1"
)

// A lateConn is an app that lets the limit of so many reads pass, and then answers.
type lateConn struct {
	net.Conn // nil
	late     int
	limits   []time.Duration
}

func (c *lateConn) Read(p []byte) (int, error) {
	if c.late--; c.late >= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(p, "H"), nil
}

func (c *lateConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		c.limits = append(c.limits, time.Until(t).Round(time.Minute))
	}
	return nil
}

// TestAwait: timeout.first_byte begins with the last byte of the request.
func TestAwait(t *testing.T) {
	const firstByte = 10 * time.Minute
	for name, test := range map[string]struct {
		late      int
		uploading bool
		uploaded  time.Duration // ago; 0: not yet
		want      error
		limits    []time.Duration
	}{
		"in time":                   {limits: []time.Duration{firstByte}},
		"late":                      {late: 1, want: os.ErrDeadlineExceeded, limits: []time.Duration{firstByte}},
		"as long as it uploads":     {late: 3, uploading: true, limits: []time.Duration{firstByte, firstByte, firstByte, firstByte}},
		"a while behind the upload": {late: 1, uploading: true, uploaded: 4 * time.Minute, limits: []time.Duration{firstByte, 6 * time.Minute}},
		"late behind the upload":    {late: 2, uploading: true, uploaded: 11 * time.Minute, want: os.ErrDeadlineExceeded, limits: []time.Duration{firstByte}},
	} {
		conn := &lateConn{late: test.late}
		const ago = time.Hour
		l := &Lease{uploading: test.uploading, begun: time.Now().Add(-ago)}
		l.conn = &l.h1
		l.h1.Open(conn, new(h1.Buffers), replyLimits, 0)
		if test.uploaded > 0 {
			l.uploadedAt.Store(int64(ago - test.uploaded))
		}
		if err := l.await(firstByte); err != test.want {
			t.Errorf("%s: %v", name, err)
		}
		if len(conn.limits) != len(test.limits) {
			t.Fatalf("%s: waits %v, want %v", name, conn.limits, test.limits)
		}
		for i, want := range test.limits {
			if conn.limits[i] != want {
				t.Errorf("%s: waits %v, want %v", name, conn.limits, test.limits)
			}
		}
	}
}
