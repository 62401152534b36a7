package conf

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strconv"
	"strings"
)

// This file makes the parts of the plan that concern the whole process. Users,
// sites, apps and listeners are in files of these names.

// TLS versions as crypto/tls numbers them; that package is not linked into the root binary.
const (
	tls12 = 0x0303
	tls13 = 0x0304
)

// A planner makes the plan of a checked tree.
type planner struct {
	file     string // as messages call it
	absolute string // path of the file
	at       Surroundings
	keys     keyTable
	root     section
	plan     *Plan
	mistakes []Mistake

	appIndex    map[string]int          // of plan.Core.Apps, by name
	hostPlaces  map[string]Place        // where a host was first written
	pairIndex   map[certificatePair]int // of plan.Keeper.Certificates
	secureSites int                     // sites that want TLS
}

// A certificatePair is what makes two certificates the same.
type certificatePair struct{ cert, key string }

// newPlanner makes a planner for a tree.
func newPlanner(file, absolute string, tree *value, keys keyTable, at Surroundings) *planner {
	p := &planner{
		file: file, absolute: absolute, at: at, keys: keys,
		plan:       &Plan{File: absolute},
		appIndex:   map[string]int{},
		hostPlaces: map[string]Place{},
		pairIndex:  map[certificatePair]int{},
	}
	p.root = section{planner: p, table: tree}
	return p
}

// resolve fills the plan. The order matters where a part asks another: sites
// make apps and certificates, and listeners ask whether there are certificates.
func (p *planner) resolve() {
	plan, root := p.plan, p.root
	plan.Workers = p.workers()
	plan.Core.Workers = plan.Workers
	plan.Sandbox = root.text("sandbox")
	plan.Users = p.users()
	plan.Control = p.control()
	if v := root.written("pid_file"); v != nil {
		plan.PIDFile = p.path(v.text)
	}
	plan.OpenFiles = p.openFiles()
	plan.LogTarget = p.logTarget()
	plan.State = p.state()

	plan.Core.Limits = p.limits()
	plan.Core.DrainRequests = root.below("drain").duration("requests")
	plan.Core.DrainUpgrades = root.below("drain").duration("upgrades")
	plan.Core.Log = Log{Access: root.below("log").flag("access"), Level: root.below("log").text("level")}
	plan.Core.MinTLS = tls12
	if root.below("tls").text("min") == "1.3" {
		plan.Core.MinTLS = tls13
	}
	plan.Core.Spool = p.spool()
	p.trusted()
	p.sites()
	p.largeBodies()
	p.unusedApps()
	p.healthHosts()
	p.listeners()
	p.certificatesByACME()
	plan.Core.Certificates = len(plan.Keeper.Certificates)
	for _, key := range []string{"user", "keeper_user", "registrar_user", "sandbox", "state", "control", "pid_file", "max_open_files"} {
		if root.written(key) != nil {
			plan.Lasting = append(plan.Lasting, root.place(key))
		}
	}
	if plan.LogTarget != nil {
		plan.Lasting = append(plan.Lasting, plan.LogTarget.Where)
	}
	if plan.Registrar != nil && root.written("listen") != nil {
		plan.Lasting = append(plan.Lasting, root.place("listen"))
	}
	for _, key := range []string{"email", "ca", "test_ca", "ca_root", "profile", "eab"} {
		if tls := root.below("tls"); tls.written(key) != nil {
			plan.Lasting = append(plan.Lasting, tls.place(key))
		}
	}
}

// limits are [limits].
func (p *planner) limits() Limits {
	s := p.root.below("limits")
	limits := Limits{
		HeadBytes:             int(s.number("head")),
		Fields:                int(s.number("fields")),
		LineBytes:             int(s.number("line")),
		HeadTime:              s.duration("head_time"),
		BodyIdle:              s.duration("body_idle"),
		BodyRate:              s.number("body_rate"),
		WriteIdle:             s.duration("write_idle"),
		KeepaliveIdle:         s.duration("keepalive_idle"),
		RequestsPerConnection: int(s.number("requests_per_connection")),
		Streams:               int(s.number("streams")),
		StreamResets:          int(s.number("stream_resets")),
		ControlFrames:         int(s.number("control_frames")),
		ConnectionsPerAddress: int(s.number("connections_per_address")),
		Rate:                  int(s.number("rate")),
	}
	if limits.LineBytes > limits.HeadBytes {
		if s.written("line") != nil {
			s.wrong("line", fault{"is longer than the whole head", "write at most " + strconv.Itoa(limits.HeadBytes)})
		}
		limits.LineBytes = limits.HeadBytes
	}
	return limits
}

// trusted is trusted_proxies.
func (p *planner) trusted() {
	for _, item := range p.root.texts("trusted_proxies") {
		if item.text == "unix:" {
			p.plan.Core.TrustUnix = true
			continue
		}
		prefix, f := parseTrusted(item.text)
		if !f.none() {
			p.root.wrongItem("trusted_proxies", item, f)
			continue
		}
		p.plan.Core.Trusted = append(p.plan.Core.Trusted, prefix)
	}
}

// ControlPath is the control socket of the configuration at an absolute path,
// when the file does not name one; "" where there is no folder for it.
func ControlPath(absolute string, at Surroundings) string {
	folder := firstFolder(at.env("RUNTIME_DIRECTORY"))
	if folder == "" && at.root() {
		folder = "/run/sallyport"
	}
	if folder == "" {
		folder = firstFolder(at.env("XDG_RUNTIME_DIR"))
		if folder == "" {
			return ""
		}
		folder = filepath.Join(folder, "sallyport")
	}
	return filepath.Join(folder, shortHash(absolute)+".sock")
}

// shortHash is a file name that stands for a text of any length.
func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// control is the path of the control socket.
func (p *planner) control() string {
	control := ControlPath(p.absolute, p.at)
	if v := p.root.written("control"); v != nil {
		control = p.path(v.text)
	}
	if control == "" {
		p.notice(p.root.place("control"), fault{
			"is nowhere: neither RUNTIME_DIRECTORY nor XDG_RUNTIME_DIR is set; only signals will work",
			`write control = "/path/of/a/folder/of/yours/control.sock"`,
		})
	}
	if f := checkSocketPath(control); !f.none() {
		p.root.wrong("control", f)
	}
	return control
}

// state is the keeper's folder; "" where there is none.
func (p *planner) state() string {
	if v := p.root.written("state"); v != nil {
		return p.path(v.text)
	}
	if folder := firstFolder(p.at.env("STATE_DIRECTORY")); folder != "" {
		return folder
	}
	if p.at.root() {
		return "/var/lib/sallyport"
	}
	if folder := firstFolder(p.at.env("XDG_STATE_HOME")); folder != "" {
		return filepath.Join(folder, "sallyport")
	}
	// "If $XDG_STATE_HOME is either not set or empty, a default equal to
	// $HOME/.local/state should be used." XDG Base Directory Specification 0.8
	if home := firstFolder(p.at.env("HOME")); home != "" {
		return filepath.Join(home, ".local/state/sallyport")
	}
	return ""
}

// firstFolder is the first of the folders that systemd.exec(5) and XDG variables
// list with colons between them; "" when it is not absolute, which XDG says to pass over.
func firstFolder(list string) string {
	folder, _, _ := strings.Cut(list, ":")
	if !filepath.IsAbs(folder) {
		return ""
	}
	return filepath.Clean(folder)
}

// path is a path of the file, made absolute.
func (p *planner) path(written string) string {
	if filepath.IsAbs(written) {
		return filepath.Clean(written)
	}
	return filepath.Join(filepath.Dir(p.absolute), written)
}

// inCore is a place as a core may know it: without the folder of the configuration.
func inCore(place Place) Place {
	if place.File != "" {
		place.File = filepath.Base(place.File)
	}
	return place
}

// mistake notes one.
func (p *planner) mistake(place Place, f fault) {
	p.mistakes = append(p.mistakes, Mistake{place, f.what, f.hint})
}

// notice notes what is worth a line at each start.
func (p *planner) notice(place Place, f fault) {
	p.plan.Notices = append(p.plan.Notices, Mistake{place, f.what, f.hint})
}

// workers is how many cores there are. Each runs on one processor, and by default every
// other one is left to the apps: on two, two cores serve no more requests than one does.
func (p *planner) workers() int {
	if n := int(p.root.number("workers")); n > 0 {
		return n
	}
	return min(max(1, p.at.Processors/2), workersMax)
}

// workersMax is how many cores a board has room for, in all their generations.
const workersMax = 256
