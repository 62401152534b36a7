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
	s.refusal = s.begin(&c.head, end)
	c.head.strings = pseudoFields{}
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
	c.head.strings = pseudoFields{}
	if err := c.head.checkTrailer(); err != nil {
		trailer.Reset()
		s.refuseBody(err)
		return noFault
	}
	s.endBody()
	return noFault
}

// checkTrailer is the rule that what was decoded breaks as a trailer, nil if it breaks none.
func (h *head) checkTrailer() *message.Refusal {
	switch {
	case h.refusal != nil:
		return h.refusal
	case h.pseudo:
		return message.ErrPseudo // "Trailers MUST NOT include pseudo-header fields" section 8.1
	case message.CheckTrailer(h.fields) != nil:
		return message.ErrTrailer
	}
	return nil
}

// start readies h for a peer's field sections; pseudo are the pseudo fields that heads of
// the peer may have.
func (h *head) start(limits *conf.Limits, pseudo uint8) {
	h.limits, h.allowed = limits, pseudo
	h.decoder = hpack.NewDecoder(tableBytes, h.add)
}

// decode decodes a field section into fields.
func (h *head) decode(fields *message.Fields, section []byte) fault {
	*h = head{limits: h.limits, decoder: h.decoder, allowed: h.allowed, fields: fields, cookie: h.cookie[:0]}
	return h.decompress(section)
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

// A head is a field section that is being decoded, and the table of all that came before.
type head struct {
	limits  *conf.Limits
	decoder *hpack.Decoder
	allowed uint8 // the pseudo fields that there may be, as bits of seen

	fields   *message.Fields
	strings  pseudoFields
	seen     uint8            // which pseudo fields came
	pseudo   bool             // any did
	regular  bool             // a field came that is none
	bytes    int              // as the lines of HTTP/1 would have
	cookie   []byte           // the value of all Cookie fields
	cookies  bool             // there are some
	priority string           // the value of Priority
	refusal  *message.Refusal // of the first rule that was broken
}

// pseudoFields are those of a request (RFC 9113, section 8.3.1; RFC 8441, section 4), and that
// of a response.
type pseudoFields struct{ method, scheme, authority, path, protocol, status string }

// Bits of head.seen.
const (
	pseudoMethod = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus

	pseudoRequest  = pseudoStatus - 1
	pseudoResponse = pseudoStatus
)

// lineFrame is what a line has besides its name and value.
const lineFrame = len(": \r\n")

// add takes a field. After the first that breaks a rule or a limit, the rest are only counted
// by the decoder: each is a copy of what a few bytes stand for.
func (h *head) add(f hpack.HeaderField) {
	limits := h.limits
	line := len(f.Name) + len(f.Value) + lineFrame
	h.bytes += line
	switch {
	case h.bytes > limits.HeadBytes:
		h.refuse(message.ErrHeadTooLong)
	case f.Name == ":path" && line > limits.LineBytes:
		h.refuse(message.ErrRequestLineLong)
	case line > limits.LineBytes+len("\r\n"):
		h.refuse(message.ErrFieldTooLong)
	case len(f.Name) > 0 && f.Name[0] == ':':
		h.addPseudo(f)
	default:
		h.addRegular(f)
	}
}

func (h *head) refuse(refusal *message.Refusal) {
	if h.refusal == nil {
		h.refusal = refusal
		h.decoder.SetEmitEnabled(false)
	}
}

// addPseudo takes a pseudo field: "all pseudo-header fields MUST appear in a field block
// before all regular field lines", none that is not defined, "the same pseudo-header field
// name MUST NOT appear more than once" RFC 9113, section 8.3.
func (h *head) addPseudo(f hpack.HeaderField) {
	h.pseudo = true
	var into *string
	bit := uint8(pseudoMethod)
	switch f.Name {
	case ":method":
		into = &h.strings.method
	case ":scheme":
		into, bit = &h.strings.scheme, pseudoScheme
	case ":authority":
		into, bit = &h.strings.authority, pseudoAuthority
	case ":path":
		into, bit = &h.strings.path, pseudoPath
	case ":protocol":
		into, bit = &h.strings.protocol, pseudoProtocol
	case ":status":
		into, bit = &h.strings.status, pseudoStatus
	}
	if into == nil || h.regular || h.seen&bit != 0 || h.allowed&bit == 0 {
		h.refuse(message.ErrPseudo)
		return
	}
	h.seen |= bit
	*into = f.Value
}

// addRegular takes a field that is none.
func (h *head) addRegular(f hpack.HeaderField) {
	h.regular = true
	if h.fields.Len() >= h.limits.Fields {
		h.refuse(message.ErrTooManyFields)
		return
	}
	switch f.Name {
	case "cookie":
		h.addCookie(f.Value)
		return
	case "priority":
		h.priority = f.Value
	}
	name := h.fields.AddText(f.Name, f.Value)
	_, key, value := h.fields.Line(h.fields.Len() - 1)
	if err := checkField(name, key, value); err != nil {
		h.refuse(err)
	}
}

// addCookie joins what clients send apart: "If there are multiple Cookie header fields after
// decompression, these MUST be concatenated into a single octet string using the two-octet
// delimiter of 0x3b, 0x20 (the ASCII string "; ") before being passed into a non-HTTP/2
// context" RFC 9113, section 8.2.3.
func (h *head) addCookie(value string) {
	start := len(h.cookie)
	if h.cookies {
		h.cookie = append(h.cookie, "; "...)
		start = len(h.cookie)
	}
	h.cookies = true
	h.cookie = append(h.cookie, value...)
	if err := checkField(message.Other, []byte("cookie"), h.cookie[start:]); err != nil {
		h.refuse(err)
	}
}

// checkField refuses a field that no message of HTTP/2 may have.
func checkField(name message.Name, key, value []byte) *message.Refusal {
	for _, c := range key {
		if 'A' <= c && c <= 'Z' {
			// "A field name MUST NOT contain characters in the ranges 0x00-0x20, 0x41-0x5a, or
			// 0x7f-0xff (all inclusive)" RFC 9113, section 8.2.1
			return message.ErrUpperCase
		}
	}
	if err := message.CheckLine(key, value); err != nil {
		return err.(*message.Refusal)
	}
	if n := len(value); n > 0 && (isSpace(value[0]) || isSpace(value[n-1])) {
		// "A field value MUST NOT start or end with an ASCII whitespace character" ibid.
		return message.ErrFieldValue
	}
	switch name {
	case message.Connection, message.KeepAlive, message.ProxyConnection, message.TransferEncoding, message.Upgrade:
		// "An endpoint MUST NOT generate an HTTP/2 message containing connection-specific
		// header fields [...] Any message containing connection-specific header fields MUST
		// be treated as malformed" RFC 9113, section 8.2.2
		return message.ErrConnectionField
	case message.TE:
		// "The only exception to this is the TE header field, which MAY be present in an
		// HTTP/2 request; when it is, it MUST NOT contain any value other than "trailers""
		if string(value) != "trailers" {
			return message.ErrConnectionField
		}
	}
	return nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }
