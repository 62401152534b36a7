package proxy

import (
	"errors"
	"io"
	"sync"

	"sallyport/proxy/message"
	"sallyport/upstream"
	"sallyport/upstream/spool"
)

// A replyBody is the body of a reply that is buffered. While the client keeps up, it is
// the lease's. Once the client has fallen behind, a goroutine takes the rest from the app,
// as fast as it comes, and the lease is released with the last of it. If the client is
// quicker than the app in the end, and waits for it, it has the lease again:
//
//	lease ──────────────────────────► stream
//	  │ Behind          ▲ errCaughtUp    ▲
//	  └── drain ────────┴─► spool ───────┘
//
// What goes through the spool is freed as the client takes it. A spool without room makes
// the app wait, as the client would without one.
type replyBody struct {
	lease *upstream.Lease   // nil when it was released; guarded by mu once the rest is drained
	resp  *message.Response // the lease's
	share *spool.App
	app   *upstream.App

	spool   *spool.Spool // nil until Behind
	atEnd   bool         // nothing more is the lease's to give; only while there is no spool
	short   bool         // the spool had no room
	trailer message.Fields
	surplus *upstream.Error

	mu   sync.Mutex
	over chan struct{} // 1 slot: drain has ended
}

// begin readies b for the body of resp.
func (b *replyBody) begin(lease *upstream.Lease, resp *message.Response, app *upstream.App, share *spool.App) {
	b.lease, b.resp, b.app, b.share = lease, resp, app, share
	b.spool, b.atEnd, b.short, b.surplus = nil, false, false, nil
	b.trailer.Reset()
	if b.over == nil {
		b.over = make(chan struct{}, 1)
	}
}

// Next is message.Source.
func (b *replyBody) Next() ([]byte, error) {
	if b.spool != nil {
		piece, err := b.spool.Next()
		if err != errCaughtUp {
			return piece, err
		}
		b.closeSpool()
	}
	piece, err := b.lease.Next()
	b.atEnd = err == io.EOF
	return piece, err
}

// Ready is message.Source.
func (b *replyBody) Ready() bool {
	if b.isSpooled() {
		return b.spool.Ready()
	}
	return b.lease.Ready()
}

// Ahead is message.Spliceable.
func (b *replyBody) Ahead() int64 {
	if b.isSpooled() {
		return 0
	}
	return b.lease.Ahead()
}

// Splice is message.Spliceable.
func (b *replyBody) Splice(pipe, most int) (int, error) {
	n, err := b.lease.Splice(pipe, most)
	b.atEnd = err == io.EOF
	return n, err
}

// isSpooled reports whether what comes next comes from the spool.
func (b *replyBody) isSpooled() bool {
	if b.spool != nil && b.spool.Over() == errCaughtUp {
		b.closeSpool()
	}
	return b.spool != nil
}

// closeSpool waits for drain, which has ended the body, or is about to find that nobody
// reads it.
func (b *replyBody) closeSpool() {
	<-b.over
	b.spool.Close()
	b.spool = nil
}

// Behind is message.Drainable.
func (b *replyBody) Behind() {
	switch {
	case b.spool != nil || b.lease == nil || isEvents(b.resp):
		return
	case b.atEnd:
		b.surplus = b.lease.Surplus()
		b.lease.Release()
		b.lease = nil
		return
	}
	s := b.share.Reply()
	if err := s.Reserve(); err != nil {
		s.Close()
		if !b.short {
			b.short = true
			b.app.Count(upstream.Clogged)
		}
		return
	}
	b.app.Count(upstream.Drained)
	b.lease.Leave()
	b.spool = s
	go b.drain()
}

// drain takes the rest of the body from the app. It ends with the body, with the app, when
// the client waits for it, or when end says that nobody wants it.
func (b *replyBody) drain() {
	err := b.fill()
	if err == nil {
		if trailer := b.lease.Trailer(); trailer != nil {
			trailer.RemoveNamed(&b.resp.Fields)
			b.trailer.Copy(trailer)
		}
		b.surplus = b.lease.Surplus()
		b.mu.Lock()
		lease := b.lease
		b.lease = nil
		b.mu.Unlock()
		lease.Release()
	}
	b.spool.CloseWrite(err)
	b.over <- struct{}{}
}

func (b *replyBody) fill() error {
	for {
		piece, err := b.lease.Next()
		if err == io.EOF {
			return nil
		}
		caughtUp := b.spool.CaughtUp()
		for err == nil && len(piece) > 0 {
			var n int
			n, err = b.spool.Write(piece)
			piece = piece[n:]
			if errors.Is(err, spool.ErrFull) {
				err = b.spool.Await(nil, 0) // the client's limits are the engine's business
			}
		}
		switch {
		case err != nil:
			return err
		case caughtUp:
			return errCaughtUp
		}
	}
}

// errCaughtUp ends what is in the spool, but not the body.
var errCaughtUp = errors.New("proxy: the client has caught up")

// end is when nobody reads any more. The lease is released if it was not yet.
func (b *replyBody) end() {
	if b.spool != nil {
		b.spool.CloseRead(errUnread)
		b.mu.Lock()
		if b.lease != nil {
			b.lease.Cut()
		}
		b.mu.Unlock()
		b.closeSpool()
	}
	if b.lease != nil {
		b.lease.Release()
	}
	b.lease, b.resp, b.share = nil, nil, nil
}

// errUnread ends the drain of a reply whose client is gone.
var errUnread = errors.New("proxy: nobody reads the reply")

// tail is the trailer behind the body, once it has ended; nil if there is none.
func (b *replyBody) tail() *message.Fields {
	switch {
	case b.trailer.Len() > 0:
		return &b.trailer
	case b.lease == nil || b.spool != nil:
		return nil
	}
	return tailOf(b.lease, b.resp)
}

// excess is the fault of an app that sent more than its reply, nil if it did not.
func (b *replyBody) excess() *upstream.Error {
	if b.lease != nil && b.spool == nil {
		return b.lease.Surplus()
	}
	return b.surplus
}

// tailOf is the trailer of a reply as the client may have it.
func tailOf(lease *upstream.Lease, resp *message.Response) *message.Fields {
	trailer := lease.Trailer()
	if trailer != nil {
		trailer.RemoveNamed(&resp.Fields)
	}
	return trailer
}

// isEvents reports whether resp is a stream of events, whose app goes by whether somebody
// reads them.
func isEvents(resp *message.Response) bool {
	kind, _ := resp.Fields.Value(message.ContentType)
	const events = "text/event-stream"
	return len(kind) >= len(events) && message.EqualFold(kind[:len(events)], events)
}

// isGRPC reports whether fields are of a call of gRPC, both sides of which may speak at once:
// to wait for all that one has to say may be to wait for ever ("Content-Type → "content-type"
// "application/grpc" [("+proto" / "+json" / {custom})]", PROTOCOL-HTTP2.md of gRPC).
func isGRPC(fields *message.Fields) bool {
	kind, _ := fields.Value(message.ContentType)
	const grpc = "application/grpc"
	return len(kind) >= len(grpc) && message.EqualFold(kind[:len(grpc)], grpc)
}

// unbuffered takes what an app says of buffering out of its reply, and reports whether it
// wants none: "X-Accel-Buffering: no" is nginx's, and what frameworks write.
func unbuffered(resp *message.Response) bool {
	value, ok := resp.Fields.Value(message.XAccelBuffering)
	if !ok {
		return false
	}
	no := message.EqualFold(value, "no")
	resp.Fields.Remove(message.SetOf(message.XAccelBuffering))
	return no
}

var _ message.Drainable = (*replyBody)(nil)
