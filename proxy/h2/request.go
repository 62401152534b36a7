package h2

import (
	"crypto/rand"
	"encoding/base64"

	"sallyport/proxy/message"
)

// begin makes the request of s what h is, and returns the rule that it breaks, nil if none.
func (s *stream) begin(h *head, end bool) *message.Refusal {
	req := &s.exchange.Request
	s.body.ended = end
	req.Length, s.body.length = -1, -1
	s.setPseudo(&h.strings)
	if h.refusal != nil {
		return h.refusal
	}
	if h.cookies {
		req.Fields.Add("cookie", h.cookie)
	}
	if err := s.checkTarget(&h.strings); err != nil {
		return err
	}
	if err := s.takeFraming(end); err != nil {
		return err
	}
	s.reply.priority = parsePriority(h.priority)
	return nil
}

// setPseudo keeps a copy of the pseudo fields: those of h are of the decoder's.
func (s *stream) setPseudo(p *pseudoFields) {
	b := s.text[:0]
	b = append(b, p.method...)
	method := len(b)
	b = append(b, p.authority...)
	authority := len(b)
	b = append(b, p.path...)
	path := len(b)
	b = append(b, p.protocol...)
	s.text = b
	req := &s.exchange.Request
	req.Method, req.Host = b[:method:method], b[method:authority:authority]
	req.Target = b[authority:path:path]
	req.Upgrade = b[path:]
	if len(p.protocol) == 0 {
		req.Upgrade = nil
	}
}

// checkTarget finds out what a request is for: "All HTTP/2 requests MUST include exactly one
// valid value for the ":method", ":scheme", and ":path" pseudo-header fields, unless they are
// CONNECT requests" RFC 9113, section 8.3.1.
func (s *stream) checkTarget(p *pseudoFields) *message.Refusal {
	req := &s.exchange.Request
	switch {
	case len(req.Method) == 0:
		return message.ErrPseudo
	case string(req.Method) == "CONNECT" && req.Upgrade != nil:
		s.connect = true
	case req.Upgrade != nil:
		return message.ErrPseudo // ":protocol" is for CONNECT (RFC 8441, section 4)
	default:
		if err := message.CheckMethod(req.Method); err != nil {
			return err.(*message.Refusal)
		}
	}
	switch {
	case p.scheme != "http" && p.scheme != "https", len(req.Target) == 0:
		return message.ErrPseudo
	case p.scheme == "https" && !req.Secure:
		return message.ErrScheme // as message.CheckScheme has it
	}
	authority, _, err := message.ParseTarget(req.Method, req.Target)
	if err != nil || authority != nil {
		return message.ErrTarget
	}
	return s.checkHost(p.authority != "")
}

// checkHost finds the host: "a server SHOULD treat a request as malformed if it contains a
// Host header field that identifies an entity that differs from the entity in the
// ":authority" pseudo-header field" RFC 9113, section 8.3.1.
func (s *stream) checkHost(named bool) *message.Refusal {
	req := &s.exchange.Request
	host, ok := req.Fields.Value(message.Host)
	switch {
	case req.Fields.Count(message.Host) > 1:
		return message.ErrHostTwice
	case !named && !ok:
		return message.ErrHostMissing
	case !named:
		req.Host = host
	case ok && !message.SameFold(host, req.Host):
		return message.ErrHostDisagrees
	}
	if err := message.CheckAuthority(req.Host); err != nil {
		return message.ErrHost
	}
	s.authority = append(s.authority[:0], req.Host...)
	for i, c := range s.authority {
		s.authority[i] = lower(c)
	}
	req.Authority = s.authority
	req.Fields.Remove(message.SetOf(message.Host))
	return nil
}

// ofFraming are the fields that say what frames say.
var ofFraming = message.SetOf(message.ContentLength, message.Expect, message.TE)

// takeFraming finds out what becomes of the body.
func (s *stream) takeFraming(end bool) *message.Refusal {
	req := &s.exchange.Request
	if value, ok := req.Fields.Value(message.ContentLength); ok {
		n, digits := message.ParseLength(value)
		switch {
		case req.Fields.Count(message.ContentLength) > 1:
			return message.ErrLengthTwice
		case !digits:
			return message.ErrLength
		case end && n > 0, s.connect:
			return message.ErrLengthDisagrees
		}
		req.Length = n
	}
	if value, ok := req.Fields.Value(message.Expect); ok {
		if !message.EqualFold(value, "100-continue") {
			return message.ErrExpect
		}
		s.body.expect = !end
	}
	_, req.Trailers = req.Fields.Value(message.TE) // checkField lets nothing else pass
	req.Fields.Remove(ofFraming)
	if end {
		req.Length = 0
	}
	if s.connect {
		return s.beginConnect()
	}
	s.body.length = req.Length
	return nil
}

const websocketKey = "sec-websocket-key"

// beginConnect makes the upgrade of HTTP/1 of an extended CONNECT, with the key that only
// that has (RFC 8441, section 5).
func (s *stream) beginConnect() *message.Refusal {
	req := &s.exchange.Request
	if !message.IsToken(req.Upgrade) || message.EqualFold(req.Upgrade, "h2c") {
		return message.ErrPseudo
	}
	for i := range req.Fields.Len() {
		if _, name, _ := req.Fields.Line(i); message.EqualFold(name, websocketKey) {
			return message.ErrConnectionField
		}
	}
	req.Method, req.Length = []byte("GET"), 0
	if message.EqualFold(req.Upgrade, "websocket") {
		nonce := make([]byte, 16) // RFC 6455, section 4.1
		_, _ = rand.Read(nonce)   // never fails
		s.key = base64.StdEncoding.AppendEncode(nil, nonce)
		req.Fields.Add("Sec-WebSocket-Key", s.key)
	}
	return nil
}
