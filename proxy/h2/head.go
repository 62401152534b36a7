package h2

import (
	"golang.org/x/net/http2/hpack"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// This file takes field sections: heads of requests, and trailers. Every one that comes is
// decoded, whether or not somebody wants it: "A receiver MUST terminate the connection with a
// connection error [...] of type COMPRESSION_ERROR if it does not decompress a field block"
// RFC 9113, section 4.3.

// A block is a field section that is not complete.
type block struct {
	open   bool
	stream uint32
	end    bool   // END_STREAM came with it
	bytes  []byte // of the frames so far
	frames int
}

// takeHeaders takes a HEADERS frame.
func (c *ClientConn) takeHeaders(h *header, payload []byte) fault {
	section, whole, f := c.in.block.begin(h, payload)
	if f.refusal != nil || !whole {
		return f
	}
	return c.takeSection(h.stream, h.has(flagEndStream), section)
}

// begin takes a HEADERS frame, and returns its field section, if that is whole.
func (b *block) begin(h *header, payload []byte) (section []byte, whole bool, f fault) {
	if h.stream == 0 || h.stream%2 == 0 {
		// "Streams initiated by a client MUST use odd-numbered stream identifiers" section
		// 5.1.1, and there are no others
		return nil, false, protocolFault
	}
	payload, ok := unpad(h, payload)
	if !ok {
		return nil, false, protocolFault
	}
	if h.has(flagPriority) {
		if len(payload) < priorityBytes {
			return nil, false, sizeFault
		}
		if dependsOn(payload) == h.stream {
			return nil, false, protocolFault // "A stream cannot depend on itself" RFC 7540, section 5.3.1
		}
		payload = payload[priorityBytes:]
	}
	if h.has(flagEndHeaders) {
		return payload, true, noFault
	}
	*b = block{open: true, stream: h.stream, end: h.has(flagEndStream), bytes: append(b.bytes[:0], payload...)}
	return nil, false, noFault
}

// takeContinuation takes a CONTINUATION frame, which may come no more often than a head has
// fields, and to no more than twice the bytes that a head may have.
func (c *ClientConn) takeContinuation(h *header, payload []byte) fault {
	b := &c.in.block
	whole, f := b.proceed(h, payload, &c.engine.Limits)
	if f.refusal != nil || !whole {
		return f
	}
	f = c.takeSection(b.stream, b.end, b.bytes)
	*b = block{}
	return f
}

// proceed takes a CONTINUATION frame, and reports whether the section is whole.
func (b *block) proceed(h *header, payload []byte, limits *conf.Limits) (whole bool, f fault) {
	if !b.open {
		return false, protocolFault
	}
	b.frames++
	if b.frames > limits.Fields || len(b.bytes)+len(payload) > 2*limits.HeadBytes {
		return false, fault{codeEnhanceCalm, message.ErrHeadEndless}
	}
	b.bytes = append(b.bytes, payload...)
	return h.has(flagEndHeaders), noFault
}

// takeSection takes a whole field section.
func (c *ClientConn) takeSection(id uint32, end bool, section []byte) fault {
	if s := c.find(id); s != nil {
		return c.takeTrailer(s, end, section)
	}
	if id <= c.last {
		return c.takeLate(id, section)
	}
	c.last = id
	if c.ending.final {
		return c.head.discard(section) // the client knows that nobody looks at it
	}
	if len(c.streams) >= c.engine.Limits.Streams {
		if f := c.head.discard(section); f.refusal != nil {
			return f
		}
		return c.resetStream(id, codeRefused)
	}
	s := c.newStream(id)
	if f := c.head.decode(&s.exchange.Request.Fields, section); f.refusal != nil {
		s.recycle()
		return f
	}
	s.refusal = s.begin(&c.head.section, end)
	c.admit(s)
	return noFault
}

// admit has s served.
func (c *ClientConn) admit(s *stream) {
	c.served++
	c.ending.answered, c.ending.looked = true, false
	c.streams = append(c.streams, s)
	if len(c.streams) == 1 {
		c.limit()
	}
	if most := c.engine.Limits.RequestsPerConnection; most > 0 && c.served == most {
		c.retire()
	} else if most > 0 && c.served == most+c.engine.Limits.Streams { // it does not go
		c.sayLast(c.last, codeNone)
	}
	c.raw.Run(s.run)
}

// takeLate takes a head on a stream that is over.
func (c *ClientConn) takeLate(id uint32, section []byte) fault {
	p, known := c.recall(id)
	switch {
	case known && p.ours:
		return c.head.discard(section) // it crossed our reset
	case known:
		return fault{codeStreamClosed, message.ErrFrames}
	}
	// "An endpoint that receives an unexpected stream identifier MUST respond with a
	// connection error" RFC 9113, section 5.1.1
	return protocolFault
}

// takeTrailer takes the field section behind a body.
func (c *ClientConn) takeTrailer(s *stream, end bool, section []byte) fault {
	switch {
	case s.gone && !s.ours, s.body.ended && !s.gone:
		return fault{codeStreamClosed, message.ErrFrames}
	case s.gone, !s.takes():
		return c.head.discard(section)
	case !end:
		// "An endpoint that receives a HEADERS frame without the END_STREAM flag set after
		// receiving the HEADERS frame that opens a request [...] MUST treat the
		// corresponding request or response as malformed" RFC 9113, section 8.1
		if f := c.head.discard(section); f.refusal != nil {
			return f
		}
		s.refuseBody(message.ErrTrailer)
		return noFault
	}
	trailer := &s.exchange.Request.Trailer
	trailer.Reset()
	if f := c.head.decode(trailer, section); f.refusal != nil {
		return f
	}
	if err := c.head.section.Trailer(); err != nil {
		trailer.Reset()
		s.refuseBody(err)
		return noFault
	}
	s.endBody()
	return noFault
}

// A head decodes field sections, and has the table of all that came before.
type head struct {
	decoder *hpack.Decoder
	bounds  message.Bounds
	replies bool            // the peer is an app
	section message.Section // the last
}

// start readies h for the field sections of a client, or the replies of an app.
func (h *head) start(limits *conf.Limits, replies bool) {
	h.bounds = message.Bounds{HeadBytes: limits.HeadBytes, LineBytes: limits.LineBytes, Fields: limits.Fields}
	h.replies = replies
	h.decoder = hpack.NewDecoder(tableBytes, h.add)
}

// decode decodes a field section into fields.
func (h *head) decode(fields *message.Fields, section []byte) fault {
	if h.replies {
		h.section.BeginReply(fields, h.bounds)
	} else {
		h.section.Begin(fields, h.bounds)
	}
	return h.decompress(section)
}

// add takes a field. After the first that breaks a rule or a limit, the rest are only counted
// by the decoder: each is a copy of what a few bytes stand for.
func (h *head) add(f hpack.HeaderField) {
	if !h.section.Add(f.Name, f.Value) {
		h.decoder.SetEmitEnabled(false)
	}
}

// discard decodes a field section that nobody wants.
func (h *head) discard(section []byte) fault {
	h.decoder.SetEmitEnabled(false)
	return h.decompress(section)
}

func (h *head) decompress(section []byte) fault {
	_, err := h.decoder.Write(section)
	if closed := h.decoder.Close(); err == nil {
		err = closed
	}
	h.decoder.SetEmitEnabled(true)
	if err != nil {
		return fault{codeCompression, message.ErrCompression}
	}
	return noFault
}
