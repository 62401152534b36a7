package conf

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// declaredApp is [app.NAME].
func (p *planner) declaredApp(name string) App {
	declared := p.root.below("app")
	s := section{p, "app.*", joinKey(declared.path, name), declared.table.field(name)}
	app := s.app()
	app.Name = name
	app.Sockets = p.sockets(s)
	app.Where = inCore(Place{p.file, s.table.line, s.path})
	return app
}

// app reads what all apps have, with the defaults of those that are only a socket.
func (s section) app() App {
	timeout, queue := s.below("timeout"), s.below("queue")
	return App{
		InFlightMax: int(s.number("max_inflight")),
		QueueLen:    int(queue.number("len")),
		QueueTime:   queue.duration("time"),
		Hold:        s.duration("hold"),

		Retries:   int(s.number("retries")),
		Connect:   timeout.duration("connect"),
		FirstByte: timeout.duration("first_byte"),
		Idle:      timeout.duration("idle"),
		Keepalive: int(s.number("keepalive")),
		H2C:       s.text("protocol") == "h2c",
		MaxBody:   s.number("max_body"),
		Health:    s.below("health").health(),
	}
}

// healthEveryLeast is the shortest time between two checks: less is load, not news.
const healthEveryLeast = 100 * time.Millisecond

// health is the table of that name; nil where it is not written, or every is 0. The host
// is not known yet.
func (s section) health() *Health {
	if s.table == nil {
		return nil
	}
	h := &Health{Path: s.text("path"), Every: s.duration("every")}
	if !strings.HasPrefix(h.Path, "/") || strings.ContainsFunc(h.Path, notInTarget) {
		s.wrong("path", fault{"is no path: " + strconv.Quote(h.Path), `write it as in path = "/up", and what is not ASCII with %`})
	}
	if h.Every == 0 {
		return nil
	}
	if h.Every < healthEveryLeast {
		s.wrong("every", fault{"is less than " + healthEveryLeast.String(), `write every = "10s"`})
	}
	return h
}

// notInTarget reports whether r cannot stand in the target of a request: "#" begins
// what is not sent (RFC 3986, section 3.5).
func notInTarget(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }

// healthHosts gives the checks of all apps the hosts that they ask for. An app that
// knows its hosts knows those.
func (p *planner) healthHosts() {
	apps := p.plan.Core.Apps
	for i := range apps {
		if apps[i].Health != nil {
			apps[i].Health.Host = p.hostOf(i)
		}
	}
}

// hostOf is the first host that leads to an app and is no pattern.
func (p *planner) hostOf(app int) string {
	for _, site := range p.plan.Core.Sites {
		if !slices.ContainsFunc(site.Routes, func(r Route) bool { return r.App == app }) {
			continue
		}
		for _, host := range site.Hosts {
			if !strings.HasPrefix(host, "*") {
				return host
			}
		}
	}
	return "localhost"
}

// socketsMax is how many sockets an app may have: cores choose among them by the bits
// of a word.
const socketsMax = 64

// sockets are the sockets of an app.
func (p *planner) sockets(s section) []string {
	if s.table.shape != isTable {
		return nil // refused by the checker
	}
	items := s.texts("socket")
	refused := s.table.field("socket") != nil && s.written("socket") == nil
	if len(items) == 0 && !refused && s.table.field("command") == nil {
		s.wrong("socket", fault{"is missing", `write socket = "unix:/run/shop/web.sock"`})
	}
	var sockets []string
	if len(items) > socketsMax {
		s.wrong("socket", fault{"has more than " + strconv.Itoa(socketsMax), "make two apps of it"})
	}
	lines := map[string]int{}
	for _, item := range items {
		socket, f := parseSocket(item.text)
		if first, twice := lines[socket]; f.none() && twice {
			f = already(item.text, first)
		}
		if !f.none() {
			s.wrongItem("socket", item, f)
			continue
		}
		lines[socket] = item.line
		sockets = append(sockets, socket)
	}
	return sockets
}

// unusedApps looks at the apps that no route leads to. They are no part of the
// plan: a core reaches no socket that it has no use for.
func (p *planner) unusedApps() {
	declared := p.root.below("app").table
	if declared == nil || declared.shape != isTable {
		return
	}
	for _, name := range declared.names {
		if _, used := p.appIndex[name]; used || declared.fields[name].shape != isTable {
			continue
		}
		app := p.declaredApp(name) // for its mistakes
		p.notice(Place{p.file, app.Where.Line, app.Where.Key}, fault{"is used by no site", "name it in a site or route, or leave it out"})
	}
}
