package message

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
)

// An Opening is what a request of HTTP/2 or HTTP/3 begins with besides its fields. Its
// buffers hold what the Request points to, and are used again.
type Opening struct {
	Connect bool // the request is an extended CONNECT (RFC 8441, RFC 9220)
	Expect  bool // a 100 Continue is waited for

	text []byte // of the pseudo fields
	host []byte // in lower case
	key  []byte // the Sec-WebSocket-Key that was made for the app; nil if none
}

// Take makes req what s is, and returns the rule that it breaks, nil if none. end says that no
// body follows.
func (o *Opening) Take(req *Request, s *Section, end bool) *Refusal {
	*o = Opening{text: o.text, host: o.host}
	req.Length = -1
	pseudo := s.strings
	s.strings = pseudoFields{} // they may be long, and s lives on
	o.setPseudo(req, &pseudo)
	if s.Refusal != nil {
		return s.Refusal
	}
	if cookies, ok := s.Cookies(); ok {
		req.Fields.Add("cookie", cookies)
	}
	if err := o.checkTarget(req, &pseudo); err != nil {
		return err
	}
	return o.takeFraming(req, end)
}

// setPseudo keeps a copy of the pseudo fields: those of p are of the decoder's.
func (o *Opening) setPseudo(req *Request, p *pseudoFields) {
	b := append(o.text[:0], p.method...)
	method := len(b)
	b = append(b, p.authority...)
	authority := len(b)
	b = append(b, p.path...)
	path := len(b)
	b = append(b, p.protocol...)
	o.text = b
	req.Method, req.Host = b[:method:method], b[method:authority:authority]
	req.Target, req.Upgrade = b[authority:path:path], b[path:]
	if len(p.protocol) == 0 {
		req.Upgrade = nil
	}
}

// checkTarget finds out what a request is for: "All HTTP/3 requests MUST include exactly one
// value for the :method, :scheme, and :path pseudo-header fields, unless the request is a
// CONNECT request" RFC 9114, section 4.3.1.
func (o *Opening) checkTarget(req *Request, p *pseudoFields) *Refusal {
	switch {
	case len(req.Method) == 0:
		return ErrPseudo
	case string(req.Method) == "CONNECT" && req.Upgrade != nil:
		o.Connect = true
	case req.Upgrade != nil:
		return ErrPseudo // ":protocol" is for CONNECT (RFC 8441, section 4)
	default:
		if err := CheckMethod(req.Method); err != nil {
			return err.(*Refusal)
		}
	}
	switch {
	case p.scheme != "http" && p.scheme != "https", len(req.Target) == 0:
		return ErrPseudo
	case p.scheme == "https" && !req.Secure:
		return ErrScheme // as CheckScheme has it
	}
	authority, _, err := ParseTarget(req.Method, req.Target)
	if err != nil || authority != nil {
		return ErrTarget
	}
	return o.checkHost(req, p.authority != "")
}

// checkHost finds the host: "If both fields are present, they MUST contain the same value"
// RFC 9114, section 4.3.1.
func (o *Opening) checkHost(req *Request, named bool) *Refusal {
	host, ok := req.Fields.Value(Host)
	switch {
	case req.Fields.Count(Host) > 1:
		return ErrHostTwice
	case !named && !ok:
		return ErrHostMissing
	case !named:
		req.Host = host
	case ok && !SameFold(host, req.Host):
		return ErrHostDisagrees
	}
	if err := CheckAuthority(req.Host); err != nil {
		return ErrHost
	}
	o.host = append(o.host[:0], req.Host...)
	for i, c := range o.host {
		o.host[i] = lower(c)
	}
	req.Authority = o.host
	req.Fields.Remove(SetOf(Host))
	return nil
}

// ofFrames are the fields that say what frames say.
const ofFrames = Set(1<<ContentLength | 1<<Expect | 1<<TE)

// takeFraming finds out what becomes of the body.
func (o *Opening) takeFraming(req *Request, end bool) *Refusal {
	if value, ok := req.Fields.Value(ContentLength); ok {
		n, digits := ParseLength(value)
		switch {
		case req.Fields.Count(ContentLength) > 1:
			return ErrLengthTwice
		case !digits:
			return ErrLength
		case end && n > 0, o.Connect:
			return ErrLengthDisagrees
		}
		req.Length = n
	}
	if value, ok := req.Fields.Value(Expect); ok {
		if !EqualFold(value, "100-continue") {
			return ErrExpect
		}
		o.Expect = !end
	}
	_, req.Trailers = req.Fields.Value(TE) // checkBinaryField lets nothing else pass
	req.Fields.Remove(ofFrames)
	if end {
		req.Length = 0
	}
	if o.Connect {
		return o.beginConnect(req)
	}
	return nil
}

// beginConnect makes the upgrade of HTTP/1 of an extended CONNECT, with the key that only
// that has (RFC 8441, section 5; RFC 9220, section 3).
func (o *Opening) beginConnect(req *Request) *Refusal {
	if !IsToken(req.Upgrade) || EqualFold(req.Upgrade, "h2c") {
		return ErrPseudo
	}
	for i := range req.Fields.Len() {
		if _, key, _ := req.Fields.Line(i); IsKey(key) {
			return ErrConnectionField
		}
	}
	req.Method, req.Length = []byte("GET"), 0
	if EqualFold(req.Upgrade, "websocket") {
		nonce := make([]byte, 16) // RFC 6455, section 4.1
		_, _ = rand.Read(nonce)   // never fails
		o.key = base64.StdEncoding.AppendEncode(nil, nonce)
		req.Fields.Add("Sec-WebSocket-Key", o.key)
	}
	return nil
}

// IsKey reports whether a field is the key of a WebSocket's handshake in HTTP/1, which others
// have not (RFC 8441, section 5).
func IsKey(key []byte) bool { return EqualFold(key, "sec-websocket-key") }

// IsAccept reports whether a field is the app's answer to a key that the client does not know
// of.
func IsAccept(key []byte) bool { return EqualFold(key, "sec-websocket-accept") }

// Accepts reports whether a 101 answers the key that was made for it (RFC 6455, section 4.1).
// Only of WebSockets there is one.
func (o *Opening) Accepts(resp *Response) bool {
	if o.key == nil {
		return o.Connect
	}
	want := AcceptOf(o.key)
	for i := range resp.Fields.Len() {
		if _, key, value := resp.Fields.Line(i); IsAccept(key) {
			return string(value) == string(want)
		}
	}
	return false
}

// AcceptOf is what a key of a WebSocket is answered with (RFC 6455, section 4.2.2).
func AcceptOf(key []byte) []byte {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	sum := sha1.Sum(append(append([]byte(nil), key...), guid...))
	return base64.StdEncoding.AppendEncode(nil, sum[:])
}
