package proxy

import (
	"errors"
	"io"
	"os"
	"time"

	"sallyport/proxy/message"
	"sallyport/upstream"
	"sallyport/upstream/spool"
)

// This file is how the body of a request waits until it is complete, before a slot is
// asked for: the app has no part in how slowly a client sends. What becomes of its reply
// is in bufferreply.go.

// Buffer lets the bodies of routes that are buffered wait in arena. It is called before
// the first Serve; without it nothing is buffered.
func (f *Forwarder) Buffer(arena *spool.Arena) {
	if arena == nil {
		return
	}
	f.sites.each(func(r *route) {
		if r.buffer {
			r.share = arena.App(r.index)
		}
	})
}

// A heldBody is the body of a request that waited: all of it, or, if the spool had no room
// for that, the beginning, and behind it what the client still sends.
type heldBody struct {
	spool  *spool.Spool // nil: the body did not wait
	length int64        // of what is in spool
	taken  int64        // of that, by the app
	rest   []byte       // was read and found no room
	live   *boundedBody // behind rest; nil when the body is complete
}

// Next is message.Source.
func (h *heldBody) Next() ([]byte, error) {
	piece, err := h.spool.Next()
	h.taken += int64(len(piece))
	if err != io.EOF || h.live == nil {
		return piece, err
	}
	if piece, h.rest = h.rest, nil; len(piece) > 0 {
		return piece, nil
	}
	return h.live.Next()
}

// Ready is message.Source. What goes with the head is what is in memory: to send more at
// once could wait for an app that answers before it reads.
func (h *heldBody) Ready() bool {
	return h.live == nil && (h.taken == 0 || h.taken == h.length)
}

// source is the body of p's request for the app.
func (p *passage) source() message.Source {
	if p.held.spool != nil {
		return &p.held
	}
	return &p.body
}

// isWhole reports whether nothing of p's request is still to come from the client.
func (p *passage) isWhole() bool { return p.held.live == nil }

// receive waits for the body of p's request, if it is buffered and not there already. A
// body without a length has one then, and no trailer: "A recipient MAY discard a received
// trailer section" is what RFC 9110, section 6.5.1, comes to, and no interface of Ruby or
// Python for apps has a place for one.
func (f *Forwarder) receive(p *passage) error {
	req := &p.exchange.Request
	if p.share == nil || req.Length == 0 || p.exchange.Stream.Whole() {
		return nil
	}
	p.held.spool = p.share.Request()
	for p.held.live == nil {
		piece, err := p.body.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = f.hold(p, piece)
		}
		if err != nil {
			return err
		}
	}
	p.received = time.Now()
	p.held.length = p.held.spool.Len()
	if p.held.live != nil {
		return nil
	}
	p.held.spool.CloseWrite(nil)
	if req.Length < 0 {
		req.Length = p.held.length
		req.Fields.Remove(message.SetOf(message.Trailer))
		req.Trailer.Reset()
	}
	return nil
}

// hold puts a piece of p's body into the spool. When there is no room, the app's oldest
// request that is not complete is sent as it comes; the others wait, no longer than a
// client may be silent.
func (f *Forwarder) hold(p *passage, piece []byte) error {
	s := p.held.spool
	for {
		n, err := s.Write(piece)
		piece = piece[n:]
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, spool.ErrFull):
			return err
		case s.Overflow():
			p.app.Count(upstream.Overflowed)
			p.short = true
			p.held.rest, p.held.live = piece, &p.body
			return nil
		}
		waited := s.Await(p.exchange.Stream, f.bodyIdle)
		if errors.Is(waited, os.ErrDeadlineExceeded) {
			p.app.Count(upstream.Unspooled)
			return refusalOfFull(err)
		} else if waited != nil {
			return waited
		}
	}
}

// refusalOfFull is what a client is told because of err, an ErrFull.
func refusalOfFull(err error) *message.Refusal {
	if full, ok := errors.AsType[*spool.FullError](err); ok && full.App != "" {
		return message.ErrSpoolShare
	}
	return message.ErrSpoolFull
}

// failSpool logs a failure of the spool itself, and reports whether err is one.
func (f *Forwarder) failSpool(p *passage, err error) bool {
	hint := ""
	if folder, ok := errors.AsType[*spool.FolderError](err); ok {
		hint = folder.Hint()
	} else if _, ok := errors.AsType[*spool.MemoryError](err); !ok {
		return false
	}
	e := f.log.Error().Bytes(keyRequestID, p.id).Err(err)
	if hint != "" {
		e.Str(keyHint, hint)
	}
	e.Msg("spool failed")
	return true
}
