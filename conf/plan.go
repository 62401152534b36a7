package conf

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Plan is what will run: the File with every default resolved and every name
// turned into a number, so that nobody behind boot has to decide anything.
// Each process gets only its own part, as JSON in sealed memory.
type Plan struct {
	File      string     // absolute path of the configuration; "" for serve
	Control   string     // path of the control socket
	PIDFile   string     `json:",omitempty"` // "" for none
	OpenFiles int        `json:",omitempty"` // limit of each process; 0: that of the start
	LogTarget *LogTarget `json:",omitempty"` // nil: stderr
	State     string     // the keeper's folder
	Sandbox   string     // "full" or "best-effort"

	VolatileState bool       `json:",omitempty"` // certificates from a CA may be lost with this start
	Users         Users      // numeric ids of every process of ours
	Workers       int        // core processes, at least 1
	Listeners     []Listener // what boot binds, in the order in which cores inherit
	Managed       []Managed  `json:",omitempty"` // apps that boot starts
	Core          Core       // the part of each core
	Keeper        Keeper     // the part of the keeper; no Certificates: no keeper is started
	Registrar     *Registrar `json:",omitempty"` // the part of the registrar; nil: none is started
	Notices       []Mistake  // worth one line at every start, fatal to nothing
	Lasting       []Place    `json:",omitempty"` // keys that are written, and that no reload can change
}

// WhereOf is where a key is written that no reload can change, or at least its file.
func (p *Plan) WhereOf(key string) Place {
	for _, place := range p.Lasting {
		if place.Key == key {
			return place
		}
	}
	return Place{File: p.File, Key: key}
}

// Users are the identities that boot gives its processes.
type Users struct {
	Core, Keeper ID
	Registrar    ID   `json:",omitzero"` // zero without one
	Switch       bool // boot is uid 0 and changes to them; otherwise both are its own ids
}

// An ID is a numeric identity. UID is never 0 where Users.Switch is true.
type ID struct {
	Name     string // the account, or "" when only the number exists
	UID, GID int
	Groups   []int `json:",omitempty"` // supplementary; those of an app, for ours have none
}

// A Managed app is one that boot starts, on a socket that it makes first.
type Managed struct {
	App   int     // index in Core.Apps, which has the socket
	Argv  Words   // complete; Argv[0] is looked for in PATH
	User  Account // never root's, and none of ours where Users.Switch is true
	Where Place
}

// A Listener is one address that boot binds and cores accept on.
type Listener struct {
	Gift    string // name of its descriptor: "http0", "https0", ...
	Address string // as written: "127.0.0.1:8080", ":443", "unix:/run/x.sock", "fd:NAME"
	Secure  bool   // TLS
	Where   Place  // for the messages of a failed bind
}

// TakesQUIC reports whether UDP sockets may stand beside the listener. Of one that is passed it is known
// later.
func (l Listener) TakesQUIC() bool {
	return l.Secure && !strings.HasPrefix(l.Address, "unix:")
}

// Core is the part of the plan that a core process is given: no path of a key, a
// certificate or a configuration file is in it; File of a Place is a last element.
type Core struct {
	Workers       int // that there are of it, and share the processors
	Listeners     []Listener
	Sites         []Site
	Apps          []App  // those that a site leads to
	Certificates  int    // how many the keeper holds; handles are 0 to Certificates-1
	ACME          bool   `json:",omitempty"` // the keeper has some of them from a CA, to whom cores prove the names
	MinTLS        uint16 // lowest TLS version, as crypto/tls numbers them
	AdvertisePort int    // what redirects say; 0 without an https listener, or for port 0 until boot has bound it
	Trusted       []netip.Prefix
	TrustUnix     bool // "unix:" in trusted_proxies: peers of unix listeners are proxies of ours
	H2C           bool // clients of listeners without TLS may begin with HTTP/2
	H3            bool // UDP sockets beside the listeners with TLS, as far as these are of TCP
	ProxyProtocol bool // every connection begins with a PROXY header, of a proxy of ours
	Limits        Limits
	Spool         Spool
	DrainRequests time.Duration // for exchanges, of a core that is to end
	DrainUpgrades time.Duration // for tunnels, of a core that another one has replaced
	Log           Log
}

// Trusts reports whether addr is a proxy of ours; one that is not valid is the peer
// of a unix listener.
func (c *Core) Trusts(addr netip.Addr) bool {
	if !addr.IsValid() {
		return c.TrustUnix
	}
	for _, prefix := range c.Trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// A Site is a set of hosts that are served alike.
type Site struct {
	Hosts       []string // lower case, without port, as in an authority: "[::1]"; "*.example.com" and "*" are patterns
	Certificate int      // the keeper's handle; -1: none, the site is plain HTTP
	Handles     []int    `json:",omitempty"` // of each host, where not all have Certificate, which is the first then
	Redirect    bool     // requests without TLS are answered 308 to https
	HSTS        string   `json:",omitempty"` // the value of Strict-Transport-Security; "" for none
	Clients     *Clients `json:",omitempty"` // who has to show a certificate; nil: nobody is asked for one
	Routes      []Route  // in file order; the last resort is "/*"
}

// Handle is the keeper's handle of the certificate for the host at an index; -1: none.
func (s Site) Handle(host int) int {
	if s.Handles != nil {
		return s.Handles[host]
	}
	return s.Certificate
}

// Clients are those whose certificates are asked for.
type Clients struct {
	Door     int  // from 1, the same for sites that ask alike: who may use a connection that was made for one of them
	CA       int  // the keeper's handle of the certificates of those who have issued them
	Required bool // whoever shows none is refused
}

// A Route sends the paths of a site to an app.
type Route struct {
	Path   string // "/live/*" matches /live and everything below it; without "*" the path itself
	App    int    // index in Core.Apps
	Prefix string // "/live" is taken off the path, and named in X-Forwarded-Prefix; "" for nothing

	// Buffer: the request is whole before the app is asked, and its reply is taken
	// as fast as the app gives it. What the route says, or else its app.
	Buffer bool
}

// An App is a set of equal sockets that answer for a route.
type App struct {
	Name    string
	Sockets []string // absolute paths

	InFlightMax int           // requests per socket, over all cores; 0: no limit
	QueueLen    int           // requests that may wait, over all cores; 0: none
	QueueTime   time.Duration // for a slot; 0: no limit
	Hold        time.Duration // for a socket that is absent or refuses; 0: nobody waits

	Retries   int
	Connect   time.Duration
	FirstByte time.Duration // from the last byte of the request to the first of the reply
	Idle      time.Duration // between two reads or writes
	Keepalive int           // idle connections of HTTP/1 kept per socket and core; 0: each is closed after its answer
	H2C       bool          `json:",omitempty"` // the app speaks HTTP/2 by prior knowledge; else HTTP/1.1
	MaxBody   int64         // bytes of a request body; 0: no limit
	Health    *Health       `json:",omitempty"` // nil: no checks
	Where     Place
}

// Health is how the sockets of an app are asked whether they are well.
type Health struct {
	Path  string        // with its query
	Host  string        // that the app is told
	Every time.Duration // from one check of a socket to the next, over all cores
}

// Limits bound what one client may take. A zero count or duration switches that limit off.
type Limits struct {
	HeadBytes             int           // request line and fields together
	Fields                int           // fields of one head
	LineBytes             int           // request line, or one field
	HeadTime              time.Duration // from the first to the last byte of a head; also the TLS handshake
	BodyIdle              time.Duration // between two reads of a body
	BodyRate              int64         // bytes of a body in a second of waiting, at least; over twice BodyIdle, or a minute without that
	WriteIdle             time.Duration // without progress of a write
	KeepaliveIdle         time.Duration // between two requests
	RequestsPerConnection int
	ConnectionsPerAddress int // of one client, over all cores; an IPv6 address stands for its /64
	Rate                  int // requests in a second, likewise; as many may come at once

	// Of one connection of HTTP/2.
	Streams       int // at a time
	StreamResets  int // in 10 s: those that the client resets, or has us reset
	ControlFrames int // in 10 s: those that carry no request and no body
}

// A Spool is where the bodies of one core wait. Boot makes a file for each core;
// all sizes are those of one core, the whole divided by Plan.Workers. While an old
// core drains beside its successor, both have one.
type Spool struct {
	Folder   string // absolute; "" for memory
	Bytes    int64  // of all bodies together, at least AppBytes
	AppBytes int64  // of the bodies of one app, at least 128 KiB
	Where    Place  // of the folder; zero for memory
}

// Log says what is logged.
type Log struct {
	Access bool
	Level  string // "debug", "info", "warn" or "error"
}

// A LogTarget is where the log goes instead of stderr.
type LogTarget struct {
	Form    LogForm
	Address string // a path, or address and port
	Where   Place
}

// String is the target as it is written; nil is stderr.
func (t *LogTarget) String() string {
	switch {
	case t == nil:
		return strconv.Quote("stderr")
	case t.Form == LogFile:
		return strconv.Quote(t.Address)
	default:
		return strconv.Quote(string(t.Form) + ":" + t.Address)
	}
}

// A LogForm is how lines are written.
type LogForm string

const (
	LogFile LogForm = "file"
	LogUnix LogForm = "unix" // datagrams, as syslog(3) writes them
	LogUDP  LogForm = "udp"  // RFC 5426
)

// Keeper is the part of the plan that the keeper is given. The files are not
// named but given: descriptors "cert0", "key0", "cert1", ..., and those of the Authority.
type Keeper struct {
	Certificates []Certificate
	Authority    *Authority // nil when no certificate is Internal
	ACME         *ACME      `json:",omitempty"` // nil when no certificate is ACME
}

// A Certificate is a pair of files that boot opens and the keeper alone reads,
// or one that the keeper issues. Its index in Keeper.Certificates is its handle.
type Certificate struct {
	Hosts     []string // of the sites that use it, for messages; when Internal, the names in it: "::1", "localhost"
	Internal  bool     `json:",omitempty"` // issued by the Authority: there are no files
	ACME      bool     `json:",omitempty"` // obtained from a CA, for the one name in Hosts: likewise
	Clients   bool     `json:",omitempty"` // those that issue the certificates of clients: there is no key
	Cert, Key string   `json:",omitempty"` // absolute paths, for boot and for messages; "" when Internal
	Where     Place
}

// A CertificateFile is one that boot opens for the keeper.
type CertificateFile struct {
	Kind   string // begins the name of its gift, before the handle: "cert" or "key"
	Key    string // that names it: "site.tls.cert"
	Path   string
	Secret bool // a private key
}

// Files are what there is of a certificate.
func (c Certificate) Files() []CertificateFile {
	switch {
	case c.Internal || c.ACME:
		return nil
	case c.Clients:
		return []CertificateFile{{Kind: "cert", Key: "site.clients.ca", Path: c.Cert}}
	}
	return []CertificateFile{
		{Kind: "cert", Key: "site.tls.cert", Path: c.Cert},
		{Kind: "key", Key: "site.tls.key", Path: c.Key, Secret: true},
	}
}

// An Authority is the internal CA, by what is kept of it from one start to the
// next. Boot opens both files and gives them as "secret" and "root", to read and
// to write; without a path it gives memory instead.
type Authority struct {
	Secret string // absolute path of the bytes that all its keys come from; "" in memory
	Root   string // absolute path of the certificate that clients have to trust; "" in memory
	Where  Place
}

// ACME is how the keeper obtains certificates: by the registrar, and where it keeps them.
type ACME struct {
	CA     string // URL of the directory
	TestCA string `json:",omitempty"` // of one that is tried first after a failure; "" for none
	Folder string // absolute path of the folder that boot gives as "state"; "" in memory
	Where  Place
}

// Registrar is the part of the plan that the registrar is given: how to talk to the CA.
type Registrar struct {
	CA        string // URL of the directory
	TestCA    string `json:",omitempty"`
	Email     string `json:",omitempty"`
	Profile   string `json:",omitempty"` // of certificates, by the CA's name for it
	KeyID     string `json:",omitempty"` // of an account that the CA has given out elsewhere (EAB)
	KeyFile   string `json:",omitempty"` // absolute path of that account's key, which boot gives as "eab"
	RootFile  string `json:",omitempty"` // absolute path of what is trusted instead of the system's, given as "roots"
	Folder    string // absolute path of the folder that boot gives as "state"; "" in memory
	HTTP, TLS bool   // by which the names may be proved; one of them is
	Where     Place
}

// A Place is where something is written in the configuration.
type Place struct {
	File string
	Line int    // from 1; 0: not written
	Key  string // dotted: "app.shop.socket"
}

// A Mistake is something in the configuration that cannot be meant.
type Mistake struct {
	Place
	What string // lower case, no full stop: "is relative"
	Hint string // the fix: "write unix:/run/shop/web.sock"; "" when What says it
}
