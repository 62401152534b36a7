package h1

import (
	"bytes"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// head waits for a whole head, which ends with an empty line, and uses it up.
// The result is valid until the next read.
//
// The empty line is looked for as CRLF CRLF alone: a bare LF is allowed by RFC
// 9112, section 2.2, and read by nobody the same way, so it is refused when the
// lines are parsed; until then it is only bytes that count against the limit.
//
// What is the longest wait of one fill is that of a whole head, once it has begun: a
// peer that sends a byte now and then would have months.
func (r *reader) head(limits *conf.Limits) ([]byte, error) {
	for scanned := 0; ; {
		unused := r.unused()
		if i := bytes.Index(unused[scanned:], []byte("\r\n\r\n")); i >= 0 {
			end := scanned + i + 4
			if end > limits.HeadBytes {
				return nil, message.ErrHeadTooLong
			}
			r.from += end
			return unused[:end], nil
		}
		if err := hopeless(unused, scanned, limits); err != nil {
			return nil, err
		}
		if scanned = max(0, len(unused)-3); len(unused) > 0 && r.idle > 0 {
			r.limitAll(r.idle)
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// hopeless refuses an unfinished head that no further byte can mend, so that a
// client which speaks another protocol or ends its lines with LF hears it now
// and not when limits.head_time has passed. Bytes before scanned were looked at.
func hopeless(unfinished []byte, scanned int, limits *conf.Limits) error {
	if len(unfinished) >= limits.HeadBytes {
		return message.ErrHeadTooLong
	}
	if len(unfinished) > limits.LineBytes+1 && bytes.IndexByte(unfinished, '\n') < 0 {
		return message.ErrRequestLineLong
	}
	for at := scanned; ; at++ {
		i := bytes.IndexByte(unfinished[at:], '\n')
		if i < 0 {
			return nil
		}
		at += i
		if at == 0 || unfinished[at-1] != '\r' {
			return message.ErrLineEnd
		}
	}
}

// cutLine cuts the first line off a head. The head ends with CRLF, so there is
// one; a CR or LF inside it is refused here or by the check of its parts.
func cutLine(head []byte, at int) (end, next int, err error) {
	i := bytes.IndexByte(head[at:], '\n')
	if i < 1 || head[at+i-1] != '\r' {
		return 0, 0, message.ErrLineEnd
	}
	return at + i - 1, at + i + 1, nil
}

// parseFields marks the lines of held, a head held by f, from at to the empty line.
func parseFields(f *message.Fields, held []byte, at int, limits *conf.Limits) error {
	for {
		end, next, err := cutLine(held, at)
		switch {
		case err != nil:
			return err
		case end == at:
			return nil
		case end-at > limits.LineBytes:
			return message.ErrFieldTooLong
		case f.Len() == limits.Fields:
			return message.ErrTooManyFields
		}
		if err := parseLine(f, held, at, end); err != nil {
			return err
		}
		at = next
	}
}

func parseLine(f *message.Fields, held []byte, at, end int) error {
	if held[at] == ' ' || held[at] == '\t' {
		// "A server that receives an obs-fold [...] MUST either reject the message
		// by sending a 400 (Bad Request)" RFC 9112, section 5.2
		return message.ErrFold
	}
	colon := bytes.IndexByte(held[at:end], ':')
	if colon < 0 {
		return message.ErrFieldName
	}
	// "No whitespace is allowed between the field name and colon" RFC 9112,
	// section 5.1: a space is no byte of a name.
	value := message.TrimSpace(held[at+colon+1 : end])
	if err := message.CheckLine(held[at:at+colon], value); err != nil {
		return err
	}
	start := at + colon + 1
	for start < end && (held[start] == ' ' || held[start] == '\t') {
		start++
	}
	f.Mark(at, at+colon, start, start+len(value))
	return nil
}

// version is the minor version, which must be the whole of b.
func version(b []byte) (minor int, ok bool) {
	switch string(b) {
	case "HTTP/1.1":
		return 1, true
	case "HTTP/1.0":
		return 0, true
	}
	return 0, false
}

// parseRequest reads the head of a request into req, whose Secure is set, and whose
// Authority is put in scratch when it is not in lower case yet.
func parseRequest(head []byte, req *message.Request, scratch *[]byte, limits *conf.Limits) (how message.Framing, minor int, err error) {
	held := req.Fields.Hold(head)
	end, next, err := cutLine(held, 0)
	if err != nil {
		return how, 0, err
	}
	target, minor, err := parseRequestLine(held[:end:end], req, limits)
	if err != nil {
		return how, minor, err
	}
	if err := parseFields(&req.Fields, held, next, limits); err != nil {
		return how, minor, err
	}
	if err := parseHost(req, target, scratch); err != nil {
		return how, minor, err
	}
	how, err = message.CheckFraming(&req.Fields, minor)
	if err != nil {
		return how, minor, err
	}
	req.Length = how.Length
	switch {
	case how.Chunked:
		req.Length = -1
	case how.Length < 0:
		// "the message body length is determined [...] zero" RFC 9112, section 6.3
		req.Length = 0
	}
	req.Trailers = how.Trailers
	req.Upgrade = upgradeOf(how.Upgrade, minor, req.Length)
	return how, minor, nil
}

func parseRequestLine(line []byte, req *message.Request, limits *conf.Limits) (authority []byte, minor int, err error) {
	if len(line) > limits.LineBytes {
		return nil, 1, message.ErrRequestLineLong
	}
	// "A server [...] MUST [...] single space (SP)" RFC 9112, section 3: with any
	// other white space the parts below are empty, or hold it, and are refused.
	first, last := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if first < 0 || first == last {
		return nil, 1, message.ErrRequestLine
	}
	req.Method = line[:first:first]
	minor, ok := version(line[last+1:])
	if !ok {
		if !bytes.HasPrefix(line[last+1:], []byte("HTTP/")) {
			return nil, 1, message.ErrRequestLine
		}
		return nil, 1, message.ErrVersion
	}
	if err := message.CheckMethod(req.Method); err != nil {
		return nil, minor, err
	}
	target := line[first+1 : last : last]
	if err := message.CheckScheme(target, req.Secure); err != nil {
		return nil, minor, err
	}
	authority, req.Target, err = message.ParseTarget(req.Method, target)
	return authority, minor, err
}

// parseHost obeys "A server MUST respond with a 400 (Bad Request) status code to
// any HTTP/1.1 request message that lacks a Host header field and to any request
// message that contains more than one Host header field line or a Host header
// field with an invalid field value" RFC 9112, section 3.2. HTTP/1.0 without Host
// has nowhere to go either.
func parseHost(req *message.Request, target []byte, scratch *[]byte) error {
	host, ok := req.Fields.Value(message.Host)
	switch {
	case !ok:
		return message.ErrHostMissing
	case req.Fields.Count(message.Host) > 1:
		return message.ErrHostTwice
	}
	if err := message.CheckAuthority(host); err != nil {
		return err
	}
	req.Host, req.Authority = host, toLower(host, scratch)
	if target != nil && !message.SameFold(target, host) {
		return message.ErrHostDisagrees
	}
	req.Fields.Remove(message.SetOf(message.Host))
	return nil
}

func toLower(b []byte, scratch *[]byte) []byte {
	upper := func(r rune) bool { return 'A' <= r && r <= 'Z' }
	if bytes.IndexFunc(b, upper) < 0 {
		return b
	}
	*scratch = (*scratch)[:0]
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		*scratch = append(*scratch, c)
	}
	return *scratch
}

// upgradeOf is the protocol to ask the app for. "A server MUST ignore an Upgrade
// header field that is received in an HTTP/1.0 request" RFC 9110, section 7.8;
// it may ignore any, and we ignore lists, those with a body, and h2c: an app that
// took that up would speak HTTP/2 past every rule of ours.
func upgradeOf(protocol []byte, minor int, length int64) []byte {
	if minor == 0 || length != 0 || !message.IsToken(protocol) || message.EqualFold(protocol, "h2c") {
		return nil
	}
	return protocol
}

// parseResponse reads the head of a reply into resp.
func parseResponse(head []byte, resp *message.Response, limits *conf.Limits) (how message.Framing, minor int, err error) {
	held := resp.Fields.Hold(head)
	end, next, err := cutLine(held, 0)
	if err != nil {
		return how, 0, err
	}
	resp.Status, minor, err = parseStatusLine(held[:end])
	if err != nil {
		return how, 0, err
	}
	if err := parseFields(&resp.Fields, held, next, limits); err != nil {
		return how, minor, err
	}
	how, err = message.CheckFraming(&resp.Fields, minor)
	resp.Length = how.Length
	return how, minor, err
}

// parseStatusLine reads "HTTP/1.1 200 OK". The reason may be empty, and the space
// before it missing, which RFC 9112, section 4 forbids and several apps do.
func parseStatusLine(line []byte) (status, minor int, err error) {
	if len(line) < len("HTTP/1.1 200") || line[8] != ' ' {
		return 0, 0, message.ErrStatusLine
	}
	minor, ok := version(line[:8])
	if !ok || len(line) > 12 && line[12] != ' ' {
		return 0, 0, message.ErrStatusLine
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, 0, message.ErrStatusLine
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || status > 599 {
		return 0, 0, message.ErrStatus
	}
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return 0, 0, message.ErrStatusLine
	}
	return status, minor, nil
}
