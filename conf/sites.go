package conf

import (
	"strconv"
	"strings"
)

// This file makes the sites of the plan: hosts, routes, and the apps that routes
// lead to. Their certificates are in tls.go.

// sites are all [[site]].
func (p *planner) sites() {
	list, refused := p.root.tables("site")
	if len(list) == 0 && !refused {
		p.root.wrong("site", fault{"is missing", `write [[site]], and below it host = "example.com" and app = "unix:/run/shop/web.sock"`})
	}
	for _, t := range list {
		s := section{p, "site", "site", t}
		site := Site{Hosts: p.hosts(s), Certificate: -1}
		secure := p.certificate(s, &site)
		if secure {
			p.secureSites++
		} else if len(p.root.below("listen").texts("http")) == 0 {
			s.wrong("host", fault{"cannot be reached: the site has no tls, and [listen] says http = []", tlsHint})
		}
		site.Routes = p.routes(s)
		site.Redirect = p.redirect(s, secure)
		site.HSTS = p.hsts(s, secure)
		p.clients(s, &site, secure)
		p.plan.Core.Sites = append(p.plan.Core.Sites, site)
	}
}

// hosts are the hosts of a site.
func (p *planner) hosts(s section) []string {
	items := s.texts("host")
	if len(items) == 0 && (s.table.field("host") == nil || s.written("host") != nil) {
		s.wrong("host", fault{"is missing", `write host = "example.com", or "*" for any`})
	}
	var hosts []string
	for _, item := range items {
		host, f := parseHost(item.text)
		if !f.none() {
			s.wrongItem("host", item, f)
			continue
		}
		if first, taken := p.hostPlaces[host]; taken {
			s.wrongItem("host", item, already(host, first.Line))
			continue
		}
		place := s.place("host")
		place.Line = item.line
		p.hostPlaces[host] = place
		hosts = append(hosts, host)
	}
	return hosts
}

// redirect reports whether requests without TLS are sent to https.
func (p *planner) redirect(s section, secure bool) bool {
	wanted := s.flag("redirect")
	if wanted && !secure && s.written("redirect") != nil {
		s.wrong("redirect", fault{"leads to https, and the site has no tls", "leave it out"})
	}
	return wanted && secure && len(p.root.below("listen").texts("http")) > 0
}

// routes are the routes of a site; its own app is the last, for "/*".
func (p *planner) routes(s section) []Route {
	var routes []Route
	lines := map[string]int{}
	add := func(r section, path, prefix string) {
		if first, taken := lines[path]; taken {
			r.wrong("app", fault{"is never reached: " + lineName(first) + " takes " + path + " already", "leave one of them out"})
			return
		}
		lines[path] = r.place("app").Line
		if app, ok := p.app(r); ok {
			routes = append(routes, Route{Path: path, App: app, Prefix: prefix, Buffer: p.buffer(r)})
		}
	}
	list, refused := s.tables("route")
	for _, t := range list {
		r := section{p, "site.route", s.path + ".route", t}
		if path, ok := p.routePath(r); ok {
			add(r, path, p.routePrefix(r, path))
		}
	}
	if s.table.field("app") != nil || len(list) == 0 && !refused {
		add(s, "/*", "")
	}
	return routes
}

// routePath is the path of a route.
func (p *planner) routePath(r section) (path string, ok bool) {
	v := r.written("path")
	if v == nil {
		if r.table.field("path") == nil {
			r.wrong("path", fault{"is missing", `write path = "/live/*"`})
		}
		return "", false
	}
	if f := checkRoutePath(v.text); !f.none() {
		r.wrong("path", f)
		return "", false
	}
	return v.text, true
}

// routePrefix is what is taken off the path of a route: all of it, or its first parts.
func (p *planner) routePrefix(r section, path string) string {
	v := r.written("prefix")
	if v == nil {
		return ""
	}
	all := strings.TrimSuffix(path, "/*")
	if v.text == "" || strings.HasSuffix(v.text, "/") || all != v.text && !strings.HasPrefix(all, v.text+"/") {
		f := fault{"does not begin the path of its route, which is " + path, "write prefix = " + strconv.Quote(all)}
		if all == "" {
			f.hint = "leave it out: it would take nothing off"
		}
		r.wrong("prefix", f)
		return ""
	}
	return v.text
}

// app is the app that a site or route leads to, by its index. The plan has an
// app once somebody leads to it, and only then.
func (p *planner) app(s section) (index int, ok bool) {
	v := s.written("app")
	if v == nil {
		if s.table.field("app") == nil && s.table.field("files") == nil {
			s.wrong("app", fault{"is missing", `write app = "unix:/run/shop/web.sock", or the name of an [app.NAME]`})
		}
		return 0, false
	}
	if index, known := p.appIndex[v.text]; known {
		return index, true
	}
	declared := p.root.below("app")
	var app App
	switch table := declared.table.field(v.text); {
	case table != nil:
		app = p.declaredApp(v.text)
	case strings.HasPrefix(v.text, "unix:") || strings.HasPrefix(v.text, "/") || p.file == "": // serve has no names
		socket, f := parseSocket(v.text)
		if !f.none() {
			s.wrong("app", f)
			return 0, false
		}
		app = section{p, "app.*", "", nil}.app()
		app.Name, app.Sockets, app.Where = v.text, []string{socket}, inCore(s.place("app"))
	default:
		s.wrong("app", unknownApp(v.text, declared.table))
		return 0, false
	}
	index = len(p.plan.Core.Apps)
	p.appIndex[v.text] = index
	p.plan.Core.Apps = append(p.plan.Core.Apps, app)
	return index, true
}

// unknownApp says what may have been meant by the name of an app that is not there.
func unknownApp(name string, declared *value) fault {
	f := fault{"names no app: " + strconv.Quote(name), "write [app." + name + "] with its socket, or app = \"unix:/run/shop/web.sock\""}
	if !isBareKey(name) {
		f.hint = `write app = "unix:/run/shop/web.sock", or the name of an [app.NAME]`
	}
	if looksLikeTCP(name) {
		f.hint = tcpHint
	} else if declared != nil {
		if guess := near(name, declared.names); guess != "" {
			f.hint = "did you mean " + guess + "?"
		}
	}
	return f
}
