package message

// A Name is a field name that some rule or some rewriting asks for. All others
// are Other: they are carried, and never looked at.
type Name uint8

// The names we know. A new one needs a case in known.
const (
	Other      Name = iota
	ClientCert      // what tells of the certificate of a client, by whatever name
	ClientIP
	Connection
	ContentLength
	ContentType
	Date
	Expect
	Forwarded
	Host
	KeepAlive
	MaxForwards
	Proxy
	ProxyConnection
	StrictTransportSecurity
	TE
	Trailer
	TransferEncoding
	Upgrade
	Via
	XAccelBuffering
	XAccelMapping
	XForwardedFor
	XForwardedHost
	XForwardedOther // whatever else begins with X-Forwarded-
	XForwardedPort
	XForwardedProto
	XRealIP
	XRequestID
	XRequestStart
	XSendfileType
)

// A spelling is a name in lower case. Those of ClientCert are what the manuals of nginx, Apache,
// HAProxy, ingress-nginx and Azure call what RFC 9440 calls Client-Cert.
type spelling struct {
	lower string
	name  Name
}

// spellings are the names by their length: most fields of a request fall out there
// without a byte compared.
var spellings = [...][]spelling{
	2:  {{"te", TE}},
	3:  {{"via", Via}},
	4:  {{"host", Host}, {"date", Date}},
	5:  {{"proxy", Proxy}},
	6:  {{"expect", Expect}},
	7:  {{"upgrade", Upgrade}, {"trailer", Trailer}},
	9:  {{"forwarded", Forwarded}, {"x-real-ip", XRealIP}, {"client-ip", ClientIP}},
	10: {{"connection", Connection}, {"keep-alive", KeepAlive}},
	11: {{"client-cert", ClientCert}, {"x-client-dn", ClientCert}},
	12: {{"content-type", ContentType}, {"x-request-id", XRequestID}, {"max-forwards", MaxForwards}},
	13: {{"x-client-cert", ClientCert}},
	14: {{"content-length", ContentLength}},
	15: {
		{"x-forwarded-for", XForwardedFor},
		{"x-client-verify", ClientCert},
		{"x-request-start", XRequestStart},
		{"x-sendfile-type", XSendfileType},
		{"x-accel-mapping", XAccelMapping},
	},
	16: {
		{"x-forwarded-host", XForwardedHost},
		{"x-forwarded-port", XForwardedPort},
		{"proxy-connection", ProxyConnection},
		{"x-arr-clientcert", ClientCert},
	},
	17: {
		{"transfer-encoding", TransferEncoding},
		{"x-forwarded-proto", XForwardedProto},
		{"x-accel-buffering", XAccelBuffering},
		{"client-cert-chain", ClientCert},
	},
	25: {{"strict-transport-security", StrictTransportSecurity}},
}

// known says which Name key is, in any case.
func known(key []byte) Name {
	if len(key) < len(spellings) {
		for _, s := range spellings[len(key)] {
			if EqualFold(key, s.lower) {
				return s.name
			}
		}
	}
	if len(key) > 3 && (key[1] == '-' || key[3] == '-') {
		for _, p := range prefixes {
			if len(key) > len(p.lower) && EqualFold(key[:len(p.lower)], p.lower) {
				return p.name
			}
		}
	}
	return Other
}

// prefixes begin the names of a kind.
var prefixes = [...]spelling{
	{"x-forwarded-", XForwardedOther},
	{"x-client-cert-", ClientCert},
	{"x-ssl-", ClientCert},
	{"ssl-client-", ClientCert},
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
