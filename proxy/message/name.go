package message

// A Name is a field name that some rule or some rewriting asks for. All others
// are Other: they are carried, and never looked at.
type Name uint8

// The names we know. A new one needs a case in known.
const (
	Other Name = iota
	Connection
	ContentLength
	Date
	Expect
	Forwarded
	Host
	KeepAlive
	Proxy
	ProxyConnection
	TE
	Trailer
	TransferEncoding
	Upgrade
	XAccelMapping
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedProto
	XRealIP
	XRequestID
	XRequestStart
	XSendfileType
)

// known says which Name key is, in any case. Length first: most fields of a
// request fall out there without a byte compared.
func known(key []byte) Name {
	switch len(key) {
	case 2:
		return either(key, "te", TE)
	case 4:
		if name := either(key, "host", Host); name != Other {
			return name
		}
		return either(key, "date", Date)
	case 5:
		return either(key, "proxy", Proxy)
	case 6:
		return either(key, "expect", Expect)
	case 7:
		if name := either(key, "upgrade", Upgrade); name != Other {
			return name
		}
		return either(key, "trailer", Trailer)
	case 9:
		if name := either(key, "forwarded", Forwarded); name != Other {
			return name
		}
		return either(key, "x-real-ip", XRealIP)
	case 10:
		if name := either(key, "connection", Connection); name != Other {
			return name
		}
		return either(key, "keep-alive", KeepAlive)
	case 12:
		return either(key, "x-request-id", XRequestID)
	}
	return knownLong(key)
}

func knownLong(key []byte) Name {
	switch len(key) {
	case 14:
		return either(key, "content-length", ContentLength)
	case 15:
		if name := either(key, "x-forwarded-for", XForwardedFor); name != Other {
			return name
		}
		if name := either(key, "x-request-start", XRequestStart); name != Other {
			return name
		}
		if name := either(key, "x-sendfile-type", XSendfileType); name != Other {
			return name
		}
		return either(key, "x-accel-mapping", XAccelMapping)
	case 16:
		if name := either(key, "x-forwarded-host", XForwardedHost); name != Other {
			return name
		}
		if name := either(key, "x-forwarded-port", XForwardedPort); name != Other {
			return name
		}
		return either(key, "proxy-connection", ProxyConnection)
	case 17:
		if name := either(key, "transfer-encoding", TransferEncoding); name != Other {
			return name
		}
		return either(key, "x-forwarded-proto", XForwardedProto)
	}
	return Other
}

func either(key []byte, lower string, name Name) Name {
	if EqualFold(key, lower) {
		return name
	}
	return Other
}

// EqualFold reports whether b is lower, which must be in lower case, in any
// ASCII case. Field names, schemes and connection options are compared so
// (RFC 9110, section 5.1).
func EqualFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
