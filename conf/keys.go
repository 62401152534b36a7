package conf

import "strings"

// This file is the table of keys: what there is, what it takes, what it is when
// it is not written. How a value is looked at is in check.go, what it does in
// the planner's files.

// A key is one key of the file: what it takes, what it is when it is not
// written, and whether the part behind it exists yet. The table below is the one place
// for defaults, and doc.go says the same in words.
type key struct {
	name        string // dotted; * stands for the name of an app: "app.*.socket"
	kind        kind
	fallback    string   // the value when it is not written, as text; "" when there is none, or the code that reads it decides
	least, most int64    // bounds of a number or size, where most is not 0
	choices     []string // of a choice
	part        string   // what is not built yet, for "not yet: ..."
	off, on     reaction // to a value that switches the part off (false, 0, "0s"), and to any other
}

// A kind is what a key takes.
type kind string

const (
	takesText     kind = "text"
	takesFlag     kind = "flag"     // true or false
	takesNumber   kind = "number"   // a whole number
	takesDuration kind = "duration" // "30s"
	takesSize     kind = "size"     // "32KiB" or bytes
	takesShare    kind = "share"    // "50%", or a size
	takesChoice   kind = "choice"   // one of a few texts
	takesTexts    kind = "texts"    // one text or a list of them
	takesTable    kind = "table"    // [name] or { ... }
	takesTables   kind = "tables"   // [[name]]
	takesNamed    kind = "named"    // tables with names of the user's choice: [app.NAME]
	takesTLS      kind = "tls"      // a text, or a table of cert and key
)

// A reaction is what happens to a value of a key.
type reaction int

const (
	accepted reaction = iota // it does what doc.go says
	noticed                  // not yet: accepted, because it asks for the default, with one notice
	refused                  // not yet: a mistake, because something else than what is asked for would happen
)

// keys is the table of keys, in the order of doc.go. It is a function because a
// package has no variables here.
func keys() []key {
	return []key{
		{name: "user", kind: takesText},
		{name: "keeper_user", kind: takesText},
		{name: "registrar_user", kind: takesText},
		{name: "workers", kind: takesNumber, fallback: "0", most: workersMax},
		{name: "sandbox", kind: takesChoice, fallback: "full", choices: []string{"full", "best-effort"}},
		{name: "state", kind: takesText},
		{name: "volatile_state", kind: takesFlag, fallback: "false"},
		{name: "control", kind: takesText},
		{name: "pid_file", kind: takesText},
		{name: "max_open_files", kind: takesNumber, fallback: "0", most: 1 << 30},
		{name: "trusted_proxies", kind: takesTexts},
		{name: "drain", kind: takesTable},
		{name: "drain.requests", kind: takesDuration, fallback: "30s"},
		{name: "drain.upgrades", kind: takesDuration, fallback: "1h"},

		{name: "listen", kind: takesTable},
		{name: "listen.http", kind: takesTexts, fallback: ":80"},
		{name: "listen.https", kind: takesTexts, fallback: ":443"},
		{name: "listen.h2c", kind: takesFlag, fallback: "false"},
		{name: "listen.h3", kind: takesFlag, fallback: "true"},
		{name: "listen.advertise_port", kind: takesNumber, least: 1, most: 65535},
		{name: "listen.proxy_protocol", kind: takesFlag, fallback: "false"},

		{name: "log", kind: takesTable},
		{name: "log.access", kind: takesFlag, fallback: "true"},
		{name: "log.target", kind: takesText, fallback: "stderr"},
		{name: "log.level", kind: takesChoice, fallback: "info", choices: []string{"debug", "info", "warn", "error"}},

		{name: "limits", kind: takesTable},
		{name: "limits.head", kind: takesSize, fallback: "32KiB", least: 1 << 10, most: 1 << 20},
		{name: "limits.fields", kind: takesNumber, fallback: "100", least: 1, most: 10000},
		{name: "limits.line", kind: takesSize, fallback: "8190", least: 256, most: 1 << 20},
		{name: "limits.head_time", kind: takesDuration, fallback: "30s"},
		{name: "limits.body_idle", kind: takesDuration, fallback: "30s"},
		{name: "limits.body_rate", kind: takesSize, fallback: "512", most: 1 << 30},
		{name: "limits.write_idle", kind: takesDuration, fallback: "60s"},
		{name: "limits.keepalive_idle", kind: takesDuration, fallback: "75s"},
		{name: "limits.requests_per_connection", kind: takesNumber, fallback: "0", most: 1 << 30},
		{name: "limits.streams", kind: takesNumber, fallback: "100", least: 1, most: 1000},
		{name: "limits.stream_resets", kind: takesNumber, fallback: "400", least: 1, most: 1 << 20},
		{name: "limits.control_frames", kind: takesNumber, fallback: "2000", least: 100, most: 1 << 20},
		{name: "limits.connections_per_address", kind: takesNumber, fallback: "0", most: 1 << 30},
		{name: "limits.rate", kind: takesNumber, fallback: "0", most: 1 << 20},

		{name: "spool", kind: takesTable},
		{name: "spool.memory", kind: takesSize, fallback: "256MiB", least: 1 << 20, most: 1 << 50},
		{name: "spool.folder", kind: takesText},
		{name: "spool.disk", kind: takesSize, fallback: "4GiB", least: 1 << 20, most: 1 << 50},
		{name: "spool.per_app", kind: takesShare, fallback: "50%"},

		{name: "tls", kind: takesTable},
		{name: "tls.email", kind: takesText},
		{name: "tls.ca", kind: takesText},
		{name: "tls.test_ca", kind: takesText},
		{name: "tls.ca_root", kind: takesText},
		{name: "tls.profile", kind: takesText},
		{name: "tls.eab", kind: takesTable},
		{name: "tls.eab.id", kind: takesText},
		{name: "tls.eab.key", kind: takesText},
		{name: "tls.min", kind: takesChoice, fallback: "1.2", choices: []string{"1.2", "1.3"}},

		{name: "site", kind: takesTables},
		{name: "site.host", kind: takesTexts},
		{name: "site.tls", kind: takesTLS},
		{name: "site.tls.cert", kind: takesText},
		{name: "site.tls.key", kind: takesText},
		{name: "site.redirect", kind: takesFlag, fallback: "true"},
		{name: "site.hsts", kind: takesDuration, fallback: "0s"},
		{name: "site.hsts_subdomains", kind: takesFlag, fallback: "false"},
		{name: "site.clients", kind: takesTable},
		{name: "site.clients.ca", kind: takesText},
		{name: "site.clients.mode", kind: takesChoice, fallback: "require", choices: []string{"require", "optional"}},
		{name: "site.app", kind: takesText},
		{name: "site.route", kind: takesTables},
		{name: "site.route.path", kind: takesText},
		{name: "site.route.app", kind: takesText},
		{name: "site.route.prefix", kind: takesText},
		{name: "site.route.buffer", kind: takesFlag, fallback: "true"},
		{name: "site.route.files", kind: takesText, part: "static files", off: refused, on: refused},

		{name: "app", kind: takesNamed},
		{name: "app.*", kind: takesTable},
		{name: "app.*.socket", kind: takesTexts},
		{name: "app.*.protocol", kind: takesChoice, fallback: "h1", choices: []string{"h1", "h2c"}},
		{name: "app.*.max_inflight", kind: takesNumber, fallback: "0", most: 1 << 16},
		{name: "app.*.queue", kind: takesTable},
		{name: "app.*.queue.len", kind: takesNumber, fallback: "100", most: 1 << 20},
		{name: "app.*.queue.time", kind: takesDuration, fallback: "30s"},
		{name: "app.*.hold", kind: takesDuration, fallback: "15s"},
		{name: "app.*.retries", kind: takesNumber, fallback: "1", most: 10},
		{name: "app.*.timeout", kind: takesTable},
		{name: "app.*.timeout.connect", kind: takesDuration, fallback: "1s"},
		{name: "app.*.timeout.first_byte", kind: takesDuration, fallback: "60s"},
		{name: "app.*.timeout.idle", kind: takesDuration, fallback: "60s"},
		{name: "app.*.keepalive", kind: takesNumber, fallback: "0", most: 10000},
		{name: "app.*.buffer", kind: takesFlag, fallback: "true"},
		{name: "app.*.max_body", kind: takesSize, fallback: "64MiB", most: 1 << 50},
		{name: "app.*.expect_user", kind: takesText, part: "the check of an app's user", off: refused, on: refused},
		{name: "app.*.deny_root_app", kind: takesFlag, fallback: "false", part: "the check of an app's user", off: noticed, on: refused},
		{name: "app.*.health", kind: takesTable},
		{name: "app.*.health.path", kind: takesText, fallback: "/up"},
		{name: "app.*.health.every", kind: takesDuration, fallback: "10s"},
		{name: "app.*.command", kind: takesTexts, part: "apps that sallyport starts", off: refused, on: refused},
		{name: "app.*.dir", kind: takesText, part: "apps that sallyport starts", off: refused, on: refused},
		{name: "app.*.user", kind: takesText, part: "apps that sallyport starts", off: refused, on: refused},
	}
}

// A keyTable is keys by their dotted names.
type keyTable map[string]key

// newKeyTable makes the table that one reading of a file uses.
func newKeyTable() keyTable {
	t := keyTable{}
	for _, k := range keys() {
		t[k.name] = k
	}
	return t
}

// below finds the keys of a table by the table's own name, "" for those on top.
func (t keyTable) below(name string) []string {
	var below []string
	for _, k := range keys() {
		if parent, last := splitKey(k.name); parent == name && last != "*" {
			below = append(below, last)
		}
	}
	return below
}

// homes says where keys with this last part are: "in [listen]".
func (t keyTable) homes(last string) []string {
	var homes []string
	for _, k := range keys() {
		parent, own := splitKey(k.name)
		if own != last {
			continue
		}
		header := "[" + strings.Replace(parent, "*", "NAME", 1) + "]"
		switch {
		case parent == "":
			homes = append(homes, "above the first [table]")
		case t[parent].kind == takesTables:
			homes = append(homes, "in ["+header+"]")
		default:
			homes = append(homes, "in "+header)
		}
	}
	return homes
}

// lasts are the last parts of all keys.
func (t keyTable) lasts() []string {
	var lasts []string
	for _, k := range keys() {
		_, last := splitKey(k.name)
		lasts = append(lasts, last)
	}
	return lasts
}

// splitKey cuts the last part off a dotted key.
func splitKey(name string) (parent, last string) {
	cut := strings.LastIndexByte(name, '.')
	if cut < 0 {
		return "", name
	}
	return name[:cut], name[cut+1:]
}

// near finds the word that one may have meant: at most two slips away, and
// closer than half of the word; "" when there is none.
func near(word string, words []string) string {
	best, bestSlips := "", 3
	for _, w := range words {
		if slips := distance(word, w); slips < bestSlips && 2*slips < len(w) {
			best, bestSlips = w, slips
		}
	}
	return best
}

// distance counts the letters to add, drop, change or swap with a neighbour
// between two words (optimal string alignment).
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
