package message

import "bytes"

// The rules of this file keep a message from being read in two ways. What breaks
// one is refused, never repaired: a peer behind us may repair it differently, and
// that difference is a smuggled request.

// A Refusal is the rule that a message broke, and the status that says so to a
// client. A message of an app that breaks a rule is 502, whatever Status says.
type Refusal struct {
	Status int
	Cause  string // a constant of few words: the log and the counters go by it
}

func (r *Refusal) Error() string {
	return "message: refused: " + r.Cause
}

// The refusals. Each is named where its rule is quoted.
var (
	ErrMethod            = &Refusal{400, "method is no token"}
	ErrMethodNotServed   = &Refusal{501, "method CONNECT or TRACE"}
	ErrTarget            = &Refusal{400, "request target malformed"}
	ErrVersion           = &Refusal{505, "version is not HTTP/1.0 or HTTP/1.1"}
	ErrRequestLine       = &Refusal{400, "request line malformed"}
	ErrStatusLine        = &Refusal{502, "status line malformed"}
	ErrLineEnd           = &Refusal{400, "line does not end in CRLF"}
	ErrFieldName         = &Refusal{400, "field name malformed"}
	ErrFieldValue        = &Refusal{400, "field value malformed"}
	ErrFold              = &Refusal{400, "folded field"}
	ErrHostMissing       = &Refusal{400, "no host"}
	ErrHostTwice         = &Refusal{400, "more than one host"}
	ErrHost              = &Refusal{400, "host malformed"}
	ErrHostDisagrees     = &Refusal{400, "host and target disagree"}
	ErrScheme            = &Refusal{421, "target of https without TLS"}
	ErrLength            = &Refusal{400, "content-length malformed"}
	ErrLengthTwice       = &Refusal{400, "more than one content-length"}
	ErrLengthAndCoding   = &Refusal{400, "content-length and transfer-encoding"}
	ErrCoding            = &Refusal{501, "transfer-encoding is more than chunked"}
	ErrCodingEnd         = &Refusal{400, "transfer-encoding does not end in chunked"}
	ErrCodingTwice       = &Refusal{400, "more than one transfer-encoding"}
	ErrCodingVersion     = &Refusal{400, "transfer-encoding in HTTP/1.0"}
	ErrExpect            = &Refusal{417, "expectation is not 100-continue"}
	ErrConnection        = &Refusal{400, "connection field malformed"}
	ErrConnectionNames   = &Refusal{400, "connection names a field that every message needs"}
	ErrMaxForwards       = &Refusal{400, "max-forwards malformed"}
	ErrTrailer           = &Refusal{400, "field not allowed in a trailer"}
	ErrChunk             = &Refusal{400, "chunk malformed"}
	ErrHeadTooLong       = &Refusal{431, "head longer than limits.head"}
	ErrTooManyFields     = &Refusal{431, "more fields than limits.fields"}
	ErrFieldTooLong      = &Refusal{431, "field longer than limits.line"}
	ErrRequestLineLong   = &Refusal{414, "request line longer than limits.line"}
	ErrHeadTime          = &Refusal{408, "head not complete within limits.head_time"}
	ErrBodyIdle          = &Refusal{408, "body silent for limits.body_idle"}
	ErrBodyRate          = &Refusal{408, "body slower than limits.body_rate"}
	ErrBodyTooLong       = &Refusal{413, "body longer than max_body"}
	ErrBodyTruncated     = &Refusal{400, "body shorter than announced"}
	ErrSpoolShare        = &Refusal{503, "spool.per_app of the app is used up"}
	ErrSpoolFull         = &Refusal{503, "spool is full"}
	ErrUpgradeNotAsked   = &Refusal{502, "101 to what was not asked for"}
	ErrInterimTooMany    = &Refusal{502, "too many interim replies"}
	ErrStatus            = &Refusal{502, "status is not 100 to 599"}
	ErrNoContentWithBody = &Refusal{502, "body announced on a status that has none"}
	ErrPseudo            = &Refusal{400, "pseudo fields malformed"}
	ErrUpperCase         = &Refusal{400, "field name not in lower case"}
	ErrConnectionField   = &Refusal{400, "connection field in HTTP/2"}
	ErrLengthDisagrees   = &Refusal{400, "body and content-length disagree"}
)

// What ends a connection of HTTP/2, in which no single request is at fault and nothing is
// answered. Status is 0: none was sent.
var (
	ErrFrames      = &Refusal{0, "HTTP/2 or HTTP/3 broken by a frame"}
	ErrCompression = &Refusal{0, "field compression of HTTP/2 or HTTP/3 broken"}
	ErrWindow      = &Refusal{0, "HTTP/2 flow control broken"}
	ErrHeadEndless = &Refusal{0, "HTTP/2 head much longer than limits.head"}
	ErrResets      = &Refusal{0, "more streams reset than limits.stream_resets"}
	ErrControls    = &Refusal{0, "more frames without a request than limits.control_frames"}
	ErrUnread      = &Refusal{0, "HTTP/2 answers to frames are not read"}
	ErrSpeaksHTTP1 = &Refusal{0, "HTTP/1 where HTTP/2 was to come"}
	ErrPushed      = &Refusal{0, "push that nobody wants"}
)

// framing describes connections and bodies; no part of it is passed on.
const framing = Set(1<<Connection | 1<<ContentLength | 1<<TransferEncoding | 1<<KeepAlive |
	1<<ProxyConnection | 1<<TE | 1<<Upgrade | 1<<Expect)

// notInTrailer are the fields that would change the meaning of a message whose
// head has been acted on. "A sender MUST NOT generate a trailer field unless the
// sender knows the corresponding header field name's definition permits"
// RFC 9110, section 6.5.1.
const notInTrailer = framing | Hop | Set(1<<Host|1<<Trailer|1<<MaxForwards|1<<XSendfileType|1<<XAccelMapping)

// Hop are the fields that one proxy writes for those behind it.
const Hop = Set(1<<Forwarded | 1<<Via | 1<<ClientIP | 1<<XForwardedFor | 1<<XForwardedHost | 1<<XForwardedPort |
	1<<XForwardedProto | 1<<XForwardedOther | 1<<XRealIP | 1<<XRequestID | 1<<XRequestStart | 1<<Proxy | 1<<ClientCert)

// notOptions are the fields that Connection may not name: those that every message
// needs, and those that say who the client is. "A sender MUST NOT send a connection
// option corresponding to a field that is intended for all recipients of the content"
// RFC 9110, section 7.6.1; obeying would let a client take away what the proxy before
// us has written.
const notOptions = Hop | Set(1<<Host|1<<ContentLength|1<<TransferEncoding|1<<Connection|1<<Trailer|1<<Date)

// Framing is how the connection fields of an HTTP/1 head say that its message is
// framed and what becomes of its connection.
type Framing struct {
	Length   int64 // Content-Length, or -1
	Chunked  bool
	Close    bool // Connection: close
	Keep     bool // Connection: keep-alive
	Continue bool // Expect: 100-continue
	Trailers bool // TE: trailers

	// Upgrade is the protocol that the message changes to, or nil. "A sender of
	// Upgrade MUST also send an "Upgrade" connection option" RFC 9110, section 7.8.
	Upgrade []byte
}

// CheckFraming reads the connection fields of an HTTP/1 message, requests and
// replies alike, and removes them and whatever Connection names. minor is the
// minor version, 0 or 1.
func CheckFraming(f *Fields, minor int) (Framing, error) {
	how := Framing{Length: -1}
	upgrade := false
	for i := range f.Len() {
		name, _, value := f.Line(i)
		if !framing.Has(name) {
			continue
		}
		if err := how.take(name, value, minor); err != nil {
			return how, err
		}
		upgrade = upgrade || name == Connection && hasOption(value, "upgrade")
	}
	if !upgrade {
		how.Upgrade = nil
	}
	if how.Chunked && how.Length >= 0 {
		// "A server MAY reject a request that contains both Content-Length and
		// Transfer-Encoding" RFC 9112, section 6.1
		return how, ErrLengthAndCoding
	}
	if err := nameFraming(f); err != nil {
		return how, err
	}
	f.Remove(framing)
	return how, nil
}

func (how *Framing) take(name Name, value []byte, minor int) error {
	switch name {
	case ContentLength:
		if how.Length >= 0 {
			// "the recipient MUST treat it as an unrecoverable error" RFC 9112, section 6.3
			return ErrLengthTwice
		}
		n, ok := ParseLength(value)
		if !ok {
			return ErrLength
		}
		how.Length = n
	case TransferEncoding:
		switch {
		case how.Chunked:
			return ErrCodingTwice
		case minor == 0:
			// "A server or client that receives an HTTP/1.0 message containing a
			// Transfer-Encoding header field MUST treat the message as if the framing
			// is faulty" RFC 9112, section 6.1
			return ErrCodingVersion
		case !EqualFold(value, "chunked"):
			return codingRefusal(value)
		}
		how.Chunked = true
	case Expect:
		if !EqualFold(value, "100-continue") {
			// "MAY respond with a 417 (Expectation Failed)" RFC 9110, section 10.1.1
			return ErrExpect
		}
		how.Continue = true
	case Upgrade:
		how.Upgrade = value
	case TE:
		how.Trailers = how.Trailers || hasOption(value, "trailers")
	case Connection:
		how.Close = how.Close || hasOption(value, "close")
		how.Keep = how.Keep || hasOption(value, "keep-alive")
	}
	return nil
}

// codingRefusal says what is wrong with a Transfer-Encoding other than "chunked".
func codingRefusal(value []byte) *Refusal {
	chunked, last := 0, false
	for coding := range Elements(value) {
		if last = EqualFold(coding, "chunked"); last {
			chunked++
		}
	}
	if chunked != 1 || !last || value[0] == ',' || value[len(value)-1] == ',' {
		// "If a Transfer-Encoding header field is present in a request and the chunked
		// transfer coding is not the final encoding, the message body length cannot be
		// determined reliably; the server MUST respond with the 400" RFC 9112, section
		// 6.3; and "A sender MUST NOT apply the chunked transfer coding more than once"
		// section 7.1
		return ErrCodingEnd
	}
	// "A server that receives a request message with a transfer coding it does not
	// understand SHOULD respond with 501 (Not Implemented)" RFC 9112, section 6.1
	return ErrCoding
}

func hasOption(list []byte, option string) bool {
	for element := range Elements(list) {
		if EqualFold(element, option) {
			return true
		}
	}
	return false
}

// nameFraming calls KeepAlive what Connection names, so that it goes with all that
// is framing: "Intermediaries MUST parse a received Connection header field
// before a message is forwarded and, for each connection-option in this field,
// remove any header or trailer field(s) from the message with the same name"
// RFC 9110, section 7.6.1. The names are kept for the trailer: RemoveNamed.
func nameFraming(f *Fields) error {
	for i := range f.Len() {
		name, _, value := f.Line(i)
		if name != Connection {
			continue
		}
		for option := range Elements(value) {
			if !IsToken(option) {
				return ErrConnection
			}
			name := known(option)
			if notOptions.Has(name) {
				return ErrConnectionNames
			}
			f.rename(option, KeepAlive)
			if name == Other {
				f.nominate(option)
			}
		}
	}
	return nil
}

// CheckTrailer refuses a trailer that would change the meaning of its message.
func CheckTrailer(f *Fields) error {
	for i := range f.Len() {
		if name, _, _ := f.Line(i); notInTrailer.Has(name) {
			return ErrTrailer
		}
	}
	return nil
}

// CheckMethod refuses what is no method, and the two that no app behind a proxy
// should see: CONNECT asks for a tunnel to anywhere, TRACE echoes credentials. "An
// origin server that receives a request method that is unrecognized or not
// implemented SHOULD respond with the 501" RFC 9110, section 9.1; 405 would have to
// list what each path allows, which only the app knows.
func CheckMethod(method []byte) error {
	if !IsToken(method) {
		return ErrMethod
	}
	if string(method) == "CONNECT" || string(method) == "TRACE" {
		return ErrMethodNotServed
	}
	return nil
}

// ParseTarget takes a request target apart: origin form and "*" have no
// authority, absolute form has (RFC 9112, section 3.2). path is never empty.
func ParseTarget(method, target []byte) (authority, path []byte, err error) {
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return nil, nil, ErrTarget
		}
	}
	switch {
	case len(target) == 0:
		return nil, nil, ErrTarget
	case target[0] == '/':
		return nil, target, nil
	case string(target) == "*" && string(method) == "OPTIONS":
		return nil, target, nil
	}
	rest, ok := cutScheme(target)
	if !ok {
		return nil, nil, ErrTarget
	}
	slash := bytes.IndexAny(rest, "/?")
	switch {
	case slash < 0 && string(method) == "OPTIONS":
		// "If a proxy receives an OPTIONS request with an absolute-form of
		// request-target in which the URI has an empty path and no query component,
		// then the last proxy [...] MUST send a request-target of "*"" RFC 9112, section 3.2.4
		return rest, []byte("*"), nil
	case slash < 0:
		return rest, []byte("/"), nil
	case rest[slash] == '?':
		return nil, nil, ErrTarget // would need a "/" that the client did not send
	}
	return rest[:slash], rest[slash:], nil
}

func cutScheme(target []byte) (rest []byte, ok bool) {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(target) > len(scheme) && EqualFold(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return nil, false
}

// CheckScheme refuses a target of https that did not come over TLS: "a request for an
// "https" resource MUST be rejected unless it has been received over a connection that
// has been secured via a certificate valid for that target URI's origin" RFC 9110,
// section 7.4.
func CheckScheme(target []byte, secure bool) error {
	const https = "https://"
	if !secure && len(target) > len(https) && EqualFold(target[:len(https)], https) {
		return ErrScheme
	}
	return nil
}

// ParseLength reads a Content-Length: digits only, no list, no sign, less than
// 2^63 (RFC 9110, section 8.6).
func ParseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// CheckAuthority refuses what is not host or host:port: a name of letters,
// digits, "-", "." and "_", an IPv4 address, or an IPv6 address in brackets, and
// a port of 1 to 65535. Percent-encoding, user names and empty ports are legal
// in a URI (RFC 3986, section 3.2) and in no Host that a client of ours sends.
func CheckAuthority(b []byte) error {
	host, port, ok := SplitPort(b)
	if !ok {
		return ErrHost
	}
	if port != nil {
		if n, ok := ParseLength(port); !ok || n < 1 || n > 65535 || len(port) > 5 {
			return ErrHost
		}
	}
	if len(host) > 0 && host[0] == '[' {
		return checkIPv6(host[1 : len(host)-1])
	}
	if len(host) == 0 || len(host) > 253 || host[0] == '.' || host[0] == '-' {
		return ErrHost
	}
	for i, c := range host {
		if !isHostByte[c] || c == '.' && host[i-1] == '.' {
			return ErrHost
		}
	}
	return nil
}

// checkIPv6 is a filter, not a parser: what passes is compared with the hosts of
// sites byte for byte.
func checkIPv6(b []byte) error {
	colons := 0
	for _, c := range b {
		switch {
		case c == ':':
			colons++
		case isHex(c), c == '.':
		default:
			return ErrHost
		}
	}
	if colons < 2 || len(b) > 45 {
		return ErrHost
	}
	return nil
}

// SplitPort cuts host:port; port is nil when there is none. ok is false when
// brackets or colons do not fit together.
func SplitPort(b []byte) (host, port []byte, ok bool) {
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		switch {
		case end < 0:
			return nil, nil, false
		case end == len(b)-1:
			return b, nil, true
		case b[end+1] == ':':
			return b[:end+1], b[end+2:], true
		}
		return nil, nil, false
	}
	colon := bytes.IndexByte(b, ':')
	if colon < 0 {
		return b, nil, true
	}
	return b[:colon], b[colon+1:], true
}

// CheckLine refuses a field whose name is no token of letters, digits, "-", "_"
// and ".", or whose value holds a control character. "A recipient of CR, LF, or
// NUL within a field value MUST either reject the message or replace each"
// RFC 9110, section 5.5.
func CheckLine(key, value []byte) error {
	if len(key) == 0 {
		return ErrFieldName
	}
	for _, c := range key {
		if !isNameByte[c] {
			return ErrFieldName
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return ErrFieldValue
		}
	}
	return nil
}

// IsToken reports whether b is a token (RFC 9110, section 5.6.2).
func IsToken(b []byte) bool {
	for _, c := range b {
		if !isTokenByte[c] {
			return false
		}
	}
	return len(b) > 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// The classes of bytes, as tables: one load where a comparison needs six.
var (
	isTokenByte = classOf("!#$%&'*+-.^_`|~")
	isNameByte  = classOf("-_.")
	isHostByte  = classOf("-_.")
)

// classOf is the class of letters, digits and others.
func classOf(others string) (class [256]bool) {
	for c := range class {
		b := byte(c)
		class[c] = '0' <= b && b <= '9' || 'a' <= lower(b) && lower(b) <= 'z'
	}
	for i := range len(others) {
		class[others[i]] = true
	}
	return class
}
