package h2

import (
	"encoding/binary"

	"sallyport/proxy/message"
)

// A fault is why a connection has to end; none where refusal is nil.
type fault struct {
	code    code
	refusal *message.Refusal
}

var (
	noFault       = fault{}
	protocolFault = fault{codeProtocol, message.ErrFrames} // of most rules
	sizeFault     = fault{codeFrameSize, message.ErrFrames}
)

// take takes the frames that have come, and returns why the connection is to end.
func (c *ClientConn) take() *message.Refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.kick()
	if c.ending.fatal || c.ending.closing {
		c.linger()
		return nil
	}
	for {
		before := len(c.out.buf)
		more, fault := c.takeFrame()
		c.out.owed += len(c.out.buf) - before
		if fault.refusal != nil {
			c.abandon(fault.code)
			return fault.refusal
		}
		if c.out.owed > unreadMost {
			c.fail(errUnread)
			return message.ErrUnread
		}
		if !more {
			return nil
		}
	}
}

// linger throws away what still comes: closing with unread bytes resets the connection,
// and the reset may overtake what was said last.
func (c *ClientConn) linger() {
	c.ending.lingered += c.in.to - c.in.from
	c.in.from = c.in.to
	if c.ending.lingered > lingerBytes {
		c.fail(errLingered)
	}
}

// takeFrame takes the next frame, if all of it is there; of DATA whatever is there.
func (c *ClientConn) takeFrame() (more bool, f fault) {
	in := &c.in
	if !in.greeted {
		return c.takePreface()
	}
	if in.data.left > 0 {
		return c.takeData()
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

// next takes the next frame, if all of it is there; of DATA, which is not taken, it shows
// what is there.
func (in *input) next() (h header, payload []byte, ok bool, f fault) {
	unused := in.buf[in.from:in.to]
	if len(unused) < headerBytes {
		return h, nil, false, noFault
	}
	h = parseHeader(unused)
	switch {
	case h.length > frameBytesLeast:
		return h, nil, false, sizeFault
	case !in.settled && h.kind != kindSettings:
		// "the first frame [...] MUST be a SETTINGS frame" RFC 9113, section 3.4
		return h, nil, false, protocolFault
	case in.block.open && (h.kind != kindContinuation || h.stream != in.block.stream):
		// "a frame of any other type or a frame on a different stream [...] MUST be treated
		// as a connection error" RFC 9113, section 6.2
		return h, nil, false, protocolFault
	case h.kind == kindData:
		return h, unused[headerBytes:], true, noFault
	case len(unused) < headerBytes+h.length:
		return h, nil, false, noFault
	}
	in.from += headerBytes + h.length
	return h, unused[headerBytes : headerBytes+h.length], true, noFault
}

// takePreface takes what each client begins with, and answers it with our settings.
func (c *ClientConn) takePreface() (more bool, f fault) {
	in := &c.in
	unused := in.buf[in.from:in.to]
	n := min(len(unused), len(preface))
	if string(unused[:n]) != preface[:n] {
		return false, protocolFault
	}
	if n < len(preface) {
		return false, noFault
	}
	in.from += n
	in.greeted = true
	c.out.buf = c.appendSettings(c.takeOut())
	if c.engine.retired.Load() {
		c.retire()
	}
	return true, noFault
}

// appendSettings appends our settings, and the rest of the window.
func (c *ClientConn) appendSettings(b []byte) []byte {
	start := len(b)
	b = appendHeader(b, 0, kindSettings, 0, 0)
	b = appendSetting(b, settingStreams, uint32(c.engine.Limits.Streams))
	b = appendSetting(b, settingWindow, streamWindow)
	b = appendSetting(b, settingListBytes, uint32(c.engine.Limits.HeadBytes))
	b = appendSetting(b, settingConnect, 1)
	b = appendSetting(b, settingNoPriorities, 1)
	b[start+2] = byte(len(b) - start - headerBytes)
	return appendWindow(b, 0, connWindow-windowAtFirst)
}

// dispatch takes a whole frame that is not DATA.
func (c *ClientConn) dispatch(h *header, payload []byte) fault {
	switch h.kind {
	case kindHeaders:
		return c.takeHeaders(h, payload)
	case kindContinuation:
		return c.takeContinuation(h, payload)
	case kindReset:
		return c.takeReset(h, payload)
	case kindWindow:
		return c.takeWindow(h, payload)
	}
	if c.control.over(c.raw.Clock(), c.engine.Limits.ControlFrames) {
		return fault{codeEnhanceCalm, message.ErrControls}
	}
	switch h.kind {
	case kindSettings:
		return c.takeSettings(h, payload)
	case kindPing:
		return c.takePing(h, payload)
	case kindPriority:
		return c.takePriority(h, payload)
	case kindPriorityUpdate:
		return c.takePriorityUpdate(h, payload)
	case kindGoAway:
		return c.takeGoAway(h, payload)
	case kindPush:
		// "A client cannot push" RFC 9113, section 8.4
		return protocolFault
	}
	return noFault // "Implementations MUST ignore and discard frames of unknown types" section 4.1
}

// isIdle reports whether a stream has not been opened yet.
func (c *ClientConn) isIdle(id uint32) bool { return id > c.last || id%2 == 0 }

// resetStream ends a stream because of what the client did, which may do so no more than
// it may reset streams itself: it is as much work.
func (c *ClientConn) resetStream(id uint32, why code) fault {
	c.out.buf = appendReset(c.takeOut(), id, why)
	if s := c.find(id); s != nil {
		s.gone, s.ours = true, true
		s.wake()
	} else {
		c.remember(id, true)
	}
	return c.countReset()
}

func (c *ClientConn) countReset() fault {
	if c.resets.over(c.raw.Clock(), c.engine.Limits.StreamResets) {
		return fault{codeEnhanceCalm, message.ErrResets}
	}
	return noFault
}

func (c *ClientConn) takeReset(h *header, payload []byte) fault {
	switch {
	case h.stream == 0 || c.isIdle(h.stream):
		return protocolFault
	case len(payload) != 4:
		return sizeFault
	}
	s := c.find(h.stream)
	if s == nil || s.gone {
		if c.control.over(c.raw.Clock(), c.engine.Limits.ControlFrames) {
			return fault{codeEnhanceCalm, message.ErrControls}
		}
		return noFault
	}
	s.gone = true
	s.wake()
	return c.countReset()
}

func (c *ClientConn) takeWindow(h *header, payload []byte) fault {
	switch {
	case len(payload) != 4:
		return sizeFault
	case h.stream != 0 && c.isIdle(h.stream):
		return protocolFault
	case c.control.over(c.raw.Clock(), c.engine.Limits.ControlFrames): // what was sent has earned some; see account.earn
		return fault{codeEnhanceCalm, message.ErrControls}
	}
	more := int(binary.BigEndian.Uint32(payload) & windowMost)
	if h.stream == 0 {
		if c.out.window += more; more == 0 || c.out.window > windowMost {
			return windowFault(more)
		}
		return noFault
	}
	s := c.find(h.stream)
	switch {
	case more == 0 && s == nil:
		return protocolFault // the answer was quicker, and a reset would be of nothing
	case s == nil || s.gone:
		return noFault // "WINDOW_UPDATE can be sent [...] on a "half-closed" or "closed" stream" section 6.9
	}
	if s.reply.window += more; more == 0 || s.reply.window > windowMost {
		return c.resetStream(h.stream, windowFault(more).code)
	}
	return noFault
}

// windowFault is that of a window that grew by more: "A receiver MUST treat the receipt of a
// WINDOW_UPDATE frame with a flow-control window increment of 0 as a stream error of type
// PROTOCOL_ERROR" RFC 9113, section 6.9; and one beyond 2^31-1 as FLOW_CONTROL_ERROR, 6.9.1.
func windowFault(more int) fault {
	if more == 0 {
		return protocolFault
	}
	return fault{codeFlowControl, message.ErrWindow}
}

func (c *ClientConn) takeSettings(h *header, payload []byte) fault {
	said := settings{window: c.out.streamWindow}
	f := said.read(h, payload)
	if f.refusal != nil {
		return f
	}
	c.in.settled = true
	if h.has(flagAck) {
		return noFault
	}
	// "a receiver MUST adjust the size of all stream flow-control windows that it maintains
	// by the difference" RFC 9113, section 6.9.2
	more := said.window - c.out.streamWindow
	c.out.streamWindow = said.window
	for _, s := range c.streams {
		if s.reply.window += more; s.reply.window > windowMost {
			return fault{codeFlowControl, message.ErrWindow}
		}
	}
	c.out.buf = appendHeader(c.takeOut(), 0, kindSettings, flagAck, 0)
	return noFault
}

// settings are what a peer says of what it takes.
type settings struct {
	window  int  // of a stream
	streams int  // at a time
	connect bool // extended CONNECT
}

// read reads a SETTINGS frame. What it does not name stays as it is.
func (s *settings) read(h *header, payload []byte) fault {
	switch {
	case h.stream != 0:
		return protocolFault
	case len(payload)%settingBytes != 0, h.has(flagAck) && len(payload) > 0:
		return sizeFault
	}
	for ; len(payload) > 0; payload = payload[settingBytes:] {
		value := int(binary.BigEndian.Uint32(payload[2:]))
		switch binary.BigEndian.Uint16(payload) {
		case settingPush:
			if value > 1 {
				return protocolFault
			}
		case settingStreams:
			s.streams = value
		case settingWindow:
			if value > windowMost {
				return fault{codeFlowControl, message.ErrWindow}
			}
			s.window = value
		case settingFrameBytes:
			if value < frameBytesLeast || value > frameBytesMost {
				return protocolFault
			}
		case settingConnect:
			if value > 1 || s.connect && value == 0 {
				return protocolFault // RFC 8441, section 3
			}
			s.connect = value == 1
		}
	}
	return noFault
}

func (c *ClientConn) takePing(h *header, payload []byte) fault {
	f := c.out.pong(h, payload)
	if f.refusal == nil && h.has(flagAck) && c.ending.away && string(payload) == lastPing {
		c.knows()
	}
	return f
}

// pong answers a PING.
func (o *output) pong(h *header, payload []byte) fault {
	switch {
	case h.stream != 0:
		return protocolFault
	case len(payload) != pingBytes:
		return sizeFault
	case !h.has(flagAck):
		o.buf = append(appendHeader(o.take(headRoom), pingBytes, kindPing, flagAck, 0), payload...)
	}
	return noFault
}

// lastPing goes with the first GOAWAY, and comes back behind what crossed it.
const lastPing = "goodbye."

func (c *ClientConn) takePriority(h *header, payload []byte) fault {
	switch {
	case h.stream == 0:
		return protocolFault
	case len(payload) != priorityBytes:
		return sizeFault
	case dependsOn(payload) == h.stream:
		return protocolFault // "A stream cannot depend on itself" RFC 7540, section 5.3.1
	}
	return noFault // "the use of RFC 7540 priorities is deprecated" RFC 9113, section 5.3.2
}

func dependsOn(priority []byte) uint32 { return binary.BigEndian.Uint32(priority) & streamMost }

func (c *ClientConn) takePriorityUpdate(h *header, payload []byte) fault {
	if f := h.ofConnection(payload, 4); f.refusal != nil {
		return f
	}
	id := dependsOn(payload)
	if id == 0 {
		return protocolFault
	}
	if s := c.find(id); s != nil && len(payload) <= priorityUpdatesBytes {
		s.reply.priority = message.ParsePriority(string(payload[4:]))
	}
	return noFault
}

// ofConnection checks a frame that is of no stream, and has so many bytes at least.
func (h *header) ofConnection(payload []byte, least int) fault {
	switch {
	case h.stream != 0:
		return protocolFault
	case len(payload) < least:
		return sizeFault
	}
	return noFault
}

func (c *ClientConn) takeGoAway(h *header, payload []byte) fault {
	if f := h.ofConnection(payload, 8); f.refusal != nil {
		return f
	}
	c.ending.away, c.ending.answered, c.ending.crossed = true, true, true // nothing new will come
	if len(c.streams) == 0 {
		c.sayLast(c.last, codeNone)
	}
	return noFault
}
