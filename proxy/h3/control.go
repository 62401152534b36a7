package h3

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// This file takes the streams that carry no request (RFC 9114, section 6.2). The client's
// control stream is read to its end, which is the connection's; those of QPACK are not read,
// for there is no table, and two more goroutines of every idle connection would only see them end: what a
// client may put there is what their windows have. Others are refused.

// criticals are the streams of which there is one each, that came.
type criticals [streamDecoder + 1]atomic.Bool

// uniLoop takes such streams until the connection ends.
func (c *ClientConn) uniLoop() {
	var seen criticals
	for {
		qs, err := c.conn.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		if f := c.countControl(); f != nil {
			c.failOn(f)
			return
		}
		c.running.Go(func() { c.takeUni(qs, &seen) })
	}
}

// takeUni takes one stream.
func (c *ClientConn) takeUni(qs *quic.ReceiveStream, seen *criticals) {
	if limit := c.engine.Limits.HeadTime; limit > 0 {
		_ = qs.SetReadDeadline(time.Now().Add(limit)) // never fails
	}
	r := uniReader{from: qs}
	kind, err := r.varint()
	if err != nil {
		qs.CancelRead(quic.StreamErrorCode(codeStreamCreation))
		qs.ReleaseStreamCredit()
		return
	}
	_ = qs.SetReadDeadline(time.Time{}) // never fails
	if kind < uint64(len(seen)) && seen[kind].Swap(true) {
		// "receipt of a second stream claiming to be a control stream MUST be treated as a
		// connection error of type H3_STREAM_CREATION_ERROR" RFC 9114, section 6.2.1; for those of
		// QPACK RFC 9204, section 4.2
		c.failOn(errStreamCreation)
		return
	}
	switch kind {
	case streamControl:
		c.failOn(c.controlLoop(&r))
	case streamPush:
		// "Only servers can push" RFC 9114, section 6.2.2
		c.failOn(errStreamCreation)
	case streamEncoder, streamDecoder:
	default:
		// "Recipients of unknown stream types MUST either abort reading of the stream or
		// discard incoming data" RFC 9114, section 6.2
		qs.CancelRead(quic.StreamErrorCode(codeStreamCreation))
		qs.ReleaseStreamCredit()
	}
}

// The streams of QPACK (RFC 9204, section 4.2).
const (
	streamEncoder = 0x2
	streamDecoder = 0x3
)

// controlLoop reads the client's control stream, and returns a fault, or the end of the
// connection.
func (c *ClientConn) controlLoop(r *uniReader) error {
	ids := pushIDs{least: 1 << 62}
	for first := true; ; first = false {
		kind, err := r.varint()
		if errors.Is(err, io.EOF) {
			// "If either control stream is closed at any point, this MUST be treated as a
			// connection error of type H3_CLOSED_CRITICAL_STREAM" RFC 9114, section 6.2.1
			return errClosedCritical
		}
		if err != nil {
			return closedBy(err)
		}
		n, err := r.varint()
		if err != nil {
			return closedBy(err)
		}
		if first != (kind == kindSettings) {
			if first {
				return errMissingSettings
			}
			return errFrameUnexpected
		}
		if err := c.takeControl(r, kind, n, &ids); err != nil {
			return closedBy(err)
		}
	}
}

// closedBy is what an error of the control stream means.
func closedBy(err error) error {
	if _, reset := errors.AsType[*quic.StreamError](err); reset {
		return errClosedCritical
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errFrame
	}
	return err
}

// takeControl takes a frame of n bytes.
func (c *ClientConn) takeControl(r *uniReader, kind, n uint64, ids *pushIDs) error {
	if f := c.countControl(); f != nil && kind != kindSettings {
		return f
	}
	switch {
	case kind == kindSettings:
		return takeSettings(r, n)
	case kind == kindData, kind == kindHeaders, kind == kindPushPromise, isOfHTTP2(kind):
		return errFrameUnexpected
	case kind == kindCancelPush, kind == kindGoAway, kind == kindMaxPushID:
		end := r.read + n
		id, err := r.varint()
		if err != nil {
			return err
		}
		if r.read != end {
			return errFrame
		}
		return ids.take(kind, id)
	}
	return r.skip(n)
}

// pushIDs are those that a client has named: of what it does not take any more, and of what it takes.
type pushIDs struct{ least, most uint64 }

// take takes an id out of a frame. "Receiving a GOAWAY containing a larger identifier than previously
// received MUST be treated as a connection error of type H3_ID_ERROR" RFC 9114, section 5.2;
// MAX_PUSH_ID must not become smaller, section 7.2.7; nothing was ever pushed that could be
// cancelled, section 7.2.3.
func (p *pushIDs) take(kind, id uint64) error {
	switch {
	case kind == kindCancelPush, kind == kindGoAway && id > p.least, kind == kindMaxPushID && id < p.most:
		return errID
	case kind == kindGoAway:
		p.least = id
	default:
		p.most = id
	}
	return nil
}

// settingsBytesMost bounds a SETTINGS frame, of which nothing is of use here.
const settingsBytesMost = 4 << 10

// takeSettings checks SETTINGS. There is nothing in them that we need: no table, and a section
// of ours is as long as the app's head.
func takeSettings(r *uniReader, n uint64) error {
	if n > settingsBytesMost {
		return errSettings
	}
	var known uint64 // of the ids below 64 those that came
	for end := r.read + n; r.read < end; {
		id, err := r.varint()
		if err != nil {
			return err
		}
		if _, err := r.varint(); err != nil {
			return err
		}
		if r.read > end {
			return errFrame
		}
		switch {
		case id >= 2 && id <= 5:
			return errSettings // "reserved and MUST NOT be sent" section 7.2.4.1
		case id < 64 && known&(1<<id) != 0:
			return errSettings // "The same setting identifier MUST NOT occur more than once"
		case id < 64:
			known |= 1 << id
		}
	}
	return nil
}

// A uniReader reads a stream of a client.
type uniReader struct {
	from io.Reader
	buf  [64]byte
	used int
	to   int
	read uint64 // bytes, all in all
}

// varint reads an integer. The error is io.EOF only if nothing of it came.
func (r *uniReader) varint() (uint64, error) {
	for {
		if v, n := parseVarint(r.buf[r.used:r.to]); n > 0 {
			r.used += n
			r.read += uint64(n)
			return v, nil
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && r.used < r.to {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
}

func (r *uniReader) fill() error {
	r.to = copy(r.buf[:], r.buf[r.used:r.to])
	r.used = 0
	n, err := r.from.Read(r.buf[r.to:])
	r.to += n
	if n > 0 {
		return nil
	}
	return err
}

// skip reads n bytes of no use.
func (r *uniReader) skip(n uint64) error {
	for n > 0 {
		if r.used == r.to {
			if err := r.fill(); err != nil {
				return err
			}
		}
		k := min(n, uint64(r.to-r.used))
		r.used += int(k)
		r.read += k
		n -= k
	}
	return nil
}
