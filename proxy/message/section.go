package message

// A Section is a field section of HTTP/2 or HTTP/3 while its fields come out of a decoder:
// the head of a request or of a response, or the trailer behind its body. Its strings are the
// decoder's.
type Section struct {
	Refusal  *Refusal // of the first rule that was broken; what comes behind it is of no use
	Priority string   // the value of Priority (RFC 9218)
	Status   string   // of a response, the value of ":status"; "" if it has none

	fields  *Fields
	bounds  Bounds
	reply   bool // it is an app's
	strings pseudoFields
	pseudo  bool   // a pseudo field came
	seen    uint8  // which pseudo fields came
	regular bool   // a field came that is none
	bytes   int    // as the lines of HTTP/1 would have
	cookie  []byte // the value of all Cookie fields
	cookies bool   // there are some
}

// Bounds are how much one section may have.
type Bounds struct {
	HeadBytes int // all of it, as lines of HTTP/1
	LineBytes int // one field
	Fields    int // how many
}

// pseudoFields are those of a request (RFC 9114, section 4.3.1; RFC 9220, section 3).
type pseudoFields struct{ method, scheme, authority, path, protocol string }

// lineFrame is what a line has besides its name and value.
const lineFrame = len(": \r\n")

// Begin readies s for a section of a request, whose fields go to fields.
func (s *Section) Begin(fields *Fields, bounds Bounds) {
	*s = Section{fields: fields, bounds: bounds, cookie: s.cookie[:0]}
}

// BeginReply is Begin for a section of a response.
func (s *Section) BeginReply(fields *Fields, bounds Bounds) {
	s.Begin(fields, bounds)
	s.reply = true
}

// Add takes a field, and reports whether the next one is of interest: after the first that
// breaks a rule or a bound none is.
func (s *Section) Add(name, value string) bool {
	line := len(name) + len(value) + lineFrame
	s.bytes += line
	switch {
	case s.bytes > s.bounds.HeadBytes:
		s.refuse(ErrHeadTooLong)
	case name == ":path" && line > s.bounds.LineBytes:
		s.refuse(ErrRequestLineLong)
	case line > s.bounds.LineBytes+len("\r\n"):
		s.refuse(ErrFieldTooLong)
	case len(name) > 0 && name[0] == ':':
		s.addPseudo(name, value)
	default:
		s.addRegular(name, value)
	}
	return s.Refusal == nil
}

func (s *Section) refuse(refusal *Refusal) {
	if s.Refusal == nil {
		s.Refusal = refusal
	}
}

// addPseudo takes a pseudo field: "all pseudo-header fields MUST appear in the header
// section before regular header fields", "Endpoints MUST treat a request or response that
// contains undefined or invalid pseudo-header fields as malformed" RFC 9114, section 4.3.
func (s *Section) addPseudo(name, value string) {
	s.pseudo = true
	var into *string
	bit := uint8(1)
	switch {
	case s.reply && name == ":status":
		into = &s.Status
	case s.reply:
	case name == ":method":
		into = &s.strings.method
	case name == ":scheme":
		into, bit = &s.strings.scheme, 2
	case name == ":authority":
		into, bit = &s.strings.authority, 4
	case name == ":path":
		into, bit = &s.strings.path, 8
	case name == ":protocol":
		into, bit = &s.strings.protocol, 16
	}
	if into == nil || s.regular || s.seen&bit != 0 {
		s.refuse(ErrPseudo)
		return
	}
	s.seen |= bit
	if *into = value; s.reply && value == "" {
		s.refuse(ErrStatus) // and not the same as none
	}
}

// addRegular takes a field that is none.
func (s *Section) addRegular(name, value string) {
	s.regular = true
	if s.fields.Len() >= s.bounds.Fields {
		s.refuse(ErrTooManyFields)
		return
	}
	switch name {
	case "cookie":
		s.addCookie(value)
		return
	case "priority":
		s.Priority = value
	}
	known := s.fields.AddText(name, value)
	_, key, text := s.fields.Line(s.fields.Len() - 1)
	if err := checkBinaryField(known, key, text); err != nil {
		s.refuse(err)
	}
}

// addCookie joins what clients send apart: "If a decompressed field section contains
// multiple cookie field lines, these MUST be concatenated into a single byte string using the
// two-byte delimiter of "; "" RFC 9114, section 4.2.1.
func (s *Section) addCookie(value string) {
	start := len(s.cookie)
	if s.cookies {
		s.cookie = append(s.cookie, "; "...)
		start = len(s.cookie)
	}
	s.cookies = true
	s.cookie = append(s.cookie, value...)
	if err := checkBinaryField(Other, []byte("cookie"), s.cookie[start:]); err != nil {
		s.refuse(err)
	}
}

// Cookies are the values of all Cookie fields as one, which is none of the fields; false if there
// are none.
func (s *Section) Cookies() (value []byte, ok bool) { return s.cookie, s.cookies }

// Trailer checks what is a section behind a body: "Trailers MUST NOT include pseudo-header
// fields" RFC 9114, section 4.3.
func (s *Section) Trailer() *Refusal {
	switch {
	case s.Refusal != nil:
		return s.Refusal
	case s.pseudo:
		return ErrPseudo
	case CheckTrailer(s.fields) != nil:
		return ErrTrailer
	}
	return nil
}

// checkBinaryField refuses a field that no message of HTTP/2 or HTTP/3 may have.
func checkBinaryField(name Name, key, value []byte) *Refusal {
	for _, c := range key {
		if 'A' <= c && c <= 'Z' {
			// "A request or response containing uppercase characters in field names MUST be
			// treated as malformed" RFC 9114, section 4.2
			return ErrUpperCase
		}
	}
	if err := CheckLine(key, value); err != nil {
		return err.(*Refusal)
	}
	if n := len(value); n > 0 && (isSpace(value[0]) || isSpace(value[n-1])) {
		// "A field value MUST NOT start or end with an ASCII whitespace character" RFC 9113,
		// section 8.2.1, and no sender of HTTP/3 has another grammar
		return ErrFieldValue
	}
	switch name {
	case Connection, KeepAlive, ProxyConnection, TransferEncoding, Upgrade:
		// "An endpoint MUST NOT generate an HTTP/3 field section containing
		// connection-specific fields; any message containing connection-specific fields MUST
		// be treated as malformed" RFC 9114, section 4.2
		return ErrConnectionField
	case TE:
		// "The only exception to this is the TE header field, which MAY be present in an
		// HTTP/3 request header; when it is, it MUST NOT contain any value other than "trailers""
		if string(value) != "trailers" {
			return ErrConnectionField
		}
	}
	return nil
}
