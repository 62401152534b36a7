package h2

import (
	"encoding/binary"

	"sallyport/proxy/message"
)

// This file takes what an app says. An app that breaks the framing loses its connection, with
// all calls on it; one that breaks a rule of a message loses the call.

// take takes the frames in n bytes that have come.
func (c *AppConn) take(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.to += n
	if c.fault.refusal != nil {
		c.in.from = c.in.to
		return
	}
	for {
		before := len(c.out.buf)
		more, f := c.takeFrame()
		c.out.owed += len(c.out.buf) - before
		if f.refusal == nil && c.out.owed > unreadMost {
			f = fault{codeEnhanceCalm, message.ErrUnread}
		}
		if f.refusal != nil {
			c.abandon(f)
			return
		}
		if !more {
			c.kick()
			return
		}
	}
}

const http1 = "HTTP/"

// takeFrame takes the next frame, if all of it is there; of DATA whatever is there.
func (c *AppConn) takeFrame() (more bool, f fault) {
	in := &c.in
	if in.data.left > 0 {
		return c.takeData()
	}
	if unused := in.buf[in.from:in.to]; !in.settled && len(unused) >= len(http1) && string(unused[:len(http1)]) == http1 {
		return false, fault{codeProtocol, message.ErrSpeaksHTTP1}
	}
	h, payload, ok, f := in.next()
	switch {
	case !ok:
		return false, f
	case h.kind == kindData:
		return c.beginData(&h, payload)
	}
	return true, c.dispatch(&h, payload)
}

// dispatch takes a whole frame that is not DATA.
func (c *AppConn) dispatch(h *header, payload []byte) fault {
	switch h.kind {
	case kindHeaders:
		section, whole, f := c.in.block.begin(h, payload)
		if f.refusal != nil || !whole {
			return f
		}
		return c.takeSection(h.stream, h.has(flagEndStream), section)
	case kindContinuation:
		b := &c.in.block
		whole, f := b.proceed(h, payload, c.limits)
		if f.refusal != nil || !whole {
			return f
		}
		f = c.takeSection(b.stream, b.end, b.bytes)
		*b = block{}
		return f
	case kindPush:
		return fault{codeProtocol, message.ErrPushed} // SETTINGS_ENABLE_PUSH is 0: RFC 9113, section 8.4
	}
	if f := c.countControl(); f.refusal != nil {
		return f
	}
	switch h.kind {
	case kindReset:
		return c.takeReset(h, payload)
	case kindWindow:
		return c.takeWindow(h, payload)
	case kindSettings:
		return c.takeSettings(h, payload)
	case kindPing:
		return c.out.pong(h, payload)
	case kindGoAway:
		return c.takeGoAway(h, payload)
	}
	return noFault // "Implementations MUST ignore and discard frames of unknown types" section 4.1
}

// countControl counts a frame that carries nothing.
func (c *AppConn) countControl() fault {
	if c.control.over(c.Raw.Clock(), appControls) {
		return fault{codeEnhanceCalm, message.ErrControls}
	}
	return noFault
}

// isIdle reports whether a stream has not been opened yet.
func (c *AppConn) isIdle(id uint32) bool { return id >= c.next || id%2 == 0 }

// takeSection takes a whole field section.
func (c *AppConn) takeSection(id uint32, end bool, section []byte) fault {
	if c.isIdle(id) {
		return protocolFault
	}
	k := c.find(id)
	switch {
	case k == nil || k.gone:
		if f := c.countControl(); f.refusal != nil {
			return f
		}
		return c.head.discard(section) // it crossed our reset
	case k.body.ended:
		return fault{codeStreamClosed, message.ErrFrames}
	case k.final:
		return k.takeTrailer(end, section)
	}
	resp := k.nextHead()
	if resp == nil {
		k.refuse(message.ErrInterimTooMany)
		return c.head.discard(section)
	}
	if f := c.head.decode(&resp.Fields, section); f.refusal != nil {
		return f
	}
	refusal := k.takeHead(&c.head.section, resp, end)
	if refusal != nil {
		k.refuse(refusal)
	}
	return noFault
}

// takeTrailer takes the field section behind a body.
func (k *Call) takeTrailer(end bool, section []byte) fault {
	c := k.conn
	if !end {
		k.refuse(message.ErrTrailer) // as in requests: RFC 9113, section 8.1
		return c.head.discard(section)
	}
	k.trailer.Reset()
	if f := c.head.decode(&k.trailer, section); f.refusal != nil {
		return f
	}
	refusal := c.head.section.Trailer()
	if refusal != nil {
		k.trailer.Reset()
		k.refuse(refusal)
		return noFault
	}
	k.endBody()
	return noFault
}

// beginData takes the header of a DATA frame, and the length of its padding.
func (c *AppConn) beginData(h *header, payload []byte) (more bool, f fault) {
	if c.isIdle(h.stream) {
		return false, protocolFault
	}
	d, used, ok, f := newData(h, payload)
	if !ok {
		return false, f
	}
	if h.length > c.in.window {
		return false, fault{codeFlowControl, message.ErrWindow}
	}
	k := c.find(h.stream)
	live := k != nil && !k.gone
	if d.left == d.padding && !d.end || !live {
		if f := c.countControl(); f.refusal != nil {
			return false, f
		}
	}
	if live && k.body.ended {
		return false, fault{codeStreamClosed, message.ErrFrames}
	}
	c.in.from += used
	c.in.data = d
	// The window of the connection keeps nobody waiting: what a call does not read is
	// bounded by its own, and calls by the slots of the app.
	c.in.window -= h.length
	c.credit(h.length)
	if live {
		k.admitData(h, h.length-(d.left-d.padding))
	}
	if d.left == 0 {
		c.endData()
	}
	return true, noFault
}

// admitData counts a DATA frame, or refuses it.
func (k *Call) admitData(h *header, padding int) {
	switch {
	case !k.final:
		k.refuse(message.ErrFrames) // a body before its head: RFC 9113, section 8.1
	case h.length > k.body.window:
		k.refuse(message.ErrWindow)
	default:
		k.body.window -= h.length
		k.returnWindow(padding)
	}
}

// credit gives the app n bytes of the connection's window back, by and by.
func (c *AppConn) credit(n int) {
	if c.in.consumed += n; c.in.consumed >= appWindow/4 {
		c.out.buf = appendWindow(c.out.take(headRoom), 0, uint32(c.in.consumed))
		c.in.window += c.in.consumed
		c.in.consumed = 0
	}
}

// takeData takes what is there of a DATA frame.
func (c *AppConn) takeData() (more bool, f fault) {
	content, more := c.in.piece()
	if k := c.find(c.in.data.stream); k != nil && !k.gone && len(content) > 0 {
		k.receive(content)
	}
	if more && c.in.data.left == 0 {
		c.endData()
	}
	return more, noFault
}

// endData is when a DATA frame is over.
func (c *AppConn) endData() {
	if k := c.find(c.in.data.stream); c.in.data.end && k != nil && !k.gone {
		k.endBody()
	}
}

func (c *AppConn) takeReset(h *header, payload []byte) fault {
	switch {
	case h.stream == 0 || c.isIdle(h.stream):
		return protocolFault
	case len(payload) != 4:
		return sizeFault
	}
	why := message.Code(binary.BigEndian.Uint32(payload))
	if k := c.find(h.stream); k != nil && !k.gone {
		k.reset(why)
	}
	return noFault
}

func (c *AppConn) takeWindow(h *header, payload []byte) fault {
	switch {
	case len(payload) != 4:
		return sizeFault
	case h.stream != 0 && c.isIdle(h.stream):
		return protocolFault
	}
	more := int(binary.BigEndian.Uint32(payload) & windowMost)
	if h.stream == 0 {
		if c.out.window += more; more == 0 || c.out.window > windowMost {
			return windowFault(more)
		}
		c.wakeWaiting()
		return noFault
	}
	k := c.find(h.stream)
	if k == nil || k.gone {
		return noFault // "WINDOW_UPDATE can be sent [...] on a "half-closed" or "closed" stream" section 6.9
	}
	if k.window += more; more == 0 || k.window > windowMost {
		k.refuse(message.ErrWindow)
	}
	k.writer.signal()
	return noFault
}

func (c *AppConn) takeSettings(h *header, payload []byte) fault {
	if !c.in.settled {
		c.said.streams = callsMost // "Initially, there is no limit to this value" section 6.5.2
	}
	before := c.said.window
	if f := c.said.read(h, payload); f.refusal != nil {
		return f
	}
	if h.has(flagAck) {
		if !c.in.settled {
			return protocolFault // the first is its own
		}
		return noFault
	}
	c.in.settled = true
	c.wakeEarly()
	if c.said.streams == 0 {
		c.leave(errRetired) // others are made instead, and are not to become many
	}
	c.out.streamWindow = c.said.window
	for _, k := range c.calls {
		if k.window += c.said.window - before; k.window > windowMost {
			return fault{codeFlowControl, message.ErrWindow}
		}
		k.writer.signal()
	}
	c.out.buf = appendHeader(c.out.take(headRoom), 0, kindSettings, flagAck, 0)
	return noFault
}

// takeGoAway is when an app takes no new calls. Those behind the last that it names "might
// be retried [...] on a new connection" RFC 9113, section 6.8: nothing was done of them.
func (c *AppConn) takeGoAway(h *header, payload []byte) fault {
	if f := h.ofConnection(payload, 8); f.refusal != nil {
		return f
	}
	c.away, c.refuses = true, true
	last := binary.BigEndian.Uint32(payload) & streamMost
	for _, k := range c.calls {
		if k.id > last && !k.gone {
			k.reset(message.CodeRefused)
		}
	}
	if len(c.calls)+c.taken == 0 {
		c.leave(errRetired)
	}
	return noFault
}
