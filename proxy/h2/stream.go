package h2

import (
	"errors"
	"sync"
	"time"

	"sallyport/proxy/message"
)

// A stream is one exchange of a connection, and its message.Stream. It has a goroutine, a
// worker of the loop, from the end of the request's head until it is over:
//
//	head ─┬─► serving ──► finished or aborted ──► gone
//	      └─► refused ───────────▲
//
// The fields below exchange are guarded by conn.mu, but for what a comment says otherwise.
type stream struct {
	conn     *ClientConn
	id       uint32
	run      func() // serve, made once
	exchange message.Exchange
	opening  message.Opening
	refusal  *message.Refusal // of the head; nil if it is in order
	counted  bool             // in engine.tunnels; guarded by engine.mu

	body     body
	reply    reply
	tunnel   bool // 101 was answered: bytes now
	gone     bool // reset, by one side
	ours     bool // by us
	aborted  bool // likewise, or by the handler
	stopped  bool // nobody is to wait for the body any more
	finished bool // all of the answer was handed on
	source   message.Drainable
}

// errReset is what a stream comes to that its client has reset, or that we had to.
var (
	errReset    = errors.New("h2: stream reset")
	errLingered = errors.New("h2: the client goes on sending")
	errStalled  = errors.New("h2: the client takes nothing for limits.write_idle")
	errCut      = errors.New("h2: connection cut")
)

// newStream readies a stream for the head of a request.
func (c *ClientConn) newStream(id uint32) *stream {
	s, ok := c.engine.streams.Get().(*stream)
	if !ok {
		s = new(stream)
		s.run = s.serve
	}
	s.conn, s.id = c, id
	limits := &c.engine.Limits
	s.body.window, s.body.pace = streamWindow, message.NewRate(limits.BodyRate, limits.BodyIdle)
	s.reply.window, s.reply.priority = c.out.streamWindow, message.UsualPriority()
	ex := &s.exchange
	ex.Request.Reset()
	ex.Request.Secure = c.records != nil
	ex.Peer, ex.Protocol, ex.Stream, ex.Begun = c.peer, "HTTP/2", s, time.Now()
	return s
}

// recycle gives s back, which nobody knows of any more.
func (s *stream) recycle() {
	e := s.conn.engine
	s.exchange.Stream, s.conn, s.refusal, s.source = nil, nil, nil, nil
	s.tunnel, s.gone, s.ours, s.aborted, s.stopped, s.finished = false, false, false, false, false, false
	s.body = body{chunks: s.body.chunks[:0], reader: s.body.reader}
	s.reply = reply{writer: s.reply.writer}
	e.streams.Put(s)
}

// serve runs the exchange.
func (s *stream) serve() {
	c := s.conn
	if s.refusal == nil && s.body.length == 0 {
		s.awaitNothing()
	}
	if s.refusal != nil {
		s.refuse()
	} else {
		c.engine.Handler.Serve(&s.exchange)
	}
	c.mu.Lock()
	s.end()
	c.mu.Unlock()
	if s.tunnel {
		c.engine.leave(s)
	}
	c.remove(s)
	s.recycle()
}

// awaitNothing waits for the end of a body that is to be empty: nobody would read it, and
// see that it is not.
func (s *stream) awaitNothing() {
	if s.Whole() {
		return
	}
	if _, err := s.Next(); err != nil {
		s.refusal, _ = errors.AsType[*message.Refusal](err)
	}
}

// refuse answers a request that breaks a rule: "a server MAY send an HTTP response prior to
// closing or resetting the stream" RFC 9113, section 8.1.1.
func (s *stream) refuse() {
	s.conn.engine.Refused(&s.exchange, s.refusal)
	page := message.Page{Status: s.refusal.Status, Text: s.refusal.Cause}
	_ = page.Send(s) // the stream ends either way
}

// end ends what a handler has left of the stream.
func (s *stream) end() {
	if !s.finished {
		s.abort(codeInternal)
	}
	s.drop()
}

// abort resets the stream, unless one side has already.
func (s *stream) abort(why code) {
	s.aborted, s.finished = true, true
	s.conn.unqueue(s)
	if !s.gone && s.conn.ending.broken == nil && !s.conn.ending.fatal {
		s.reset(why)
		s.conn.kick()
	}
	s.gone = true
	s.wake()
}

// wake has whoever waits for the client look again.
func (s *stream) wake() {
	s.body.reader.signal()
	s.reply.writer.signal()
}

// Left is message.Stream.
func (s *stream) Left() bool {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.gone || c.ending.eof || c.ending.broken != nil || c.raw.Ended()
}

// Gone is message.Resetter.
func (s *stream) Gone() bool { return s.Left() }

// A waiter is one goroutine that waits for a signal.
type waiter struct {
	wake  chan struct{} // 1 slot; made when it is first needed
	timer *time.Timer   // likewise
	waits bool
}

// signal ends the wait, if there is one; the lock is held that await was called with.
func (w *waiter) signal() {
	if w.waits {
		w.waits = false
		w.wake <- struct{}{} // empty: only who waits has asked for it
	}
}

// await gives mu up until a signal, or for at most limit, 0 is none. It reports whether the
// limit was over first.
func (w *waiter) await(mu *sync.Mutex, limit time.Duration) (late bool) {
	if w.wake == nil {
		w.wake = make(chan struct{}, 1)
	}
	w.waits = true
	mu.Unlock()
	late = w.wait(limit)
	mu.Lock()
	if late && !w.waits {
		<-w.wake // it came since
		return false
	}
	w.waits = false
	return late
}

func (w *waiter) wait(limit time.Duration) (late bool) {
	switch {
	case limit == 0:
		<-w.wake
		return false
	case w.timer == nil:
		w.timer = time.NewTimer(limit)
	default:
		w.timer.Reset(limit)
	}
	defer w.timer.Stop()
	select {
	case <-w.wake:
		return false
	case <-w.timer.C:
		return true
	}
}

var _ message.Resetter = (*stream)(nil)
