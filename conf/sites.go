package conf

import (
	"strconv"
	"strings"
)

// This file makes the sites of the plan: hosts, certificates, routes, and the
// apps that routes lead to.

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
			s.wrongItem("host", item, fault{strconv.Quote(host) + " is there already, on " + lineName(first.Line), "leave one of them out"})
			continue
		}
		place := s.place("host")
		place.Line = item.line
		p.hostPlaces[host] = place
		hosts = append(hosts, host)
	}
	return hosts
}

// certificate reads tls of a site and reports whether the site is to have TLS,
// by whatever means.
func (p *planner) certificate(s section, site *Site) (secure bool) {
	v := s.written("tls")
	switch {
	case v == nil && s.table.field("tls") != nil:
		return true // refused by the checker
	case v == nil && p.noHTTPS():
		return false
	case v == nil:
		p.wrongDefaultTLS(s, site.Hosts)
		return true
	case v.shape == isText && v.text == "off":
		return false
	case v.shape == isText && (v.text == "acme" || v.text == "internal"):
		s.wrong("tls", fault{"not yet: " + tlsPart(v.text), tlsHint})
		return true
	case v.shape == isText:
		s.wrong("tls", fault{"is " + strconv.Quote(v.text), tlsHint})
		return true
	}
	if p.noHTTPS() {
		s.wrong("tls", fault{"needs an address to listen on, and [listen] says https = []", "leave https out for :443"})
	}
	pair := s.below("tls")
	cert, key := pair.written("cert"), pair.written("key")
	for _, name := range []string{"cert", "key"} {
		if pair.table.field(name) == nil {
			pair.wrong(name, fault{"is missing", tlsHint})
		}
	}
	if cert != nil && key != nil {
		site.Certificate = p.pair(certificatePair{p.path(cert.text), p.path(key.text)}, pair, site.Hosts)
	}
	return true
}

// pair is the handle of a pair of files. Sites that name the same files share it.
func (p *planner) pair(files certificatePair, s section, hosts []string) int {
	certificates := &p.plan.Keeper.Certificates
	handle, known := p.pairIndex[files]
	if !known {
		handle = len(*certificates)
		p.pairIndex[files] = handle
		*certificates = append(*certificates, Certificate{Cert: files.cert, Key: files.key, Where: s.place("cert")})
	}
	c := &(*certificates)[handle]
	c.Hosts = append(c.Hosts, hosts...)
	return handle
}

// tlsHint is what tls can be today.
const tlsHint = `write tls = { cert = "file.pem", key = "file.key" } or tls = "off"`

// tlsPart is the part behind a kind of tls.
func tlsPart(kind string) string {
	if kind == "acme" {
		return "certificates by ACME"
	}
	return "the internal CA"
}

// wrongDefaultTLS refuses a site without tls, whose default is not built.
func (p *planner) wrongDefaultTLS(s section, hosts []string) {
	if len(hosts) == 0 {
		return // said already
	}
	kind := "acme"
	if isInternal(hosts[0]) {
		kind = "internal"
	}
	s.wrong("tls", fault{
		"not yet: " + tlsPart(kind) + ", which " + hosts[0] + " gets when tls is not written",
		tlsHint,
	})
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
	add := func(r section, path string) {
		if first, taken := lines[path]; taken {
			r.wrong("app", fault{"is never reached: " + lineName(first) + " takes " + path + " already", "leave one of them out"})
			return
		}
		lines[path] = r.place("app").Line
		if app, ok := p.app(r); ok {
			routes = append(routes, Route{Path: path, App: app})
		}
	}
	list, refused := s.tables("route")
	for _, t := range list {
		r := section{p, "site.route", s.path + ".route", t}
		if path, ok := p.routePath(r); ok {
			add(r, path)
		}
	}
	if s.table.field("app") != nil || len(list) == 0 && !refused {
		add(s, "/*")
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
	case strings.HasPrefix(v.text, "unix:") || strings.HasPrefix(v.text, "/"):
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
	if declared != nil {
		if guess := near(name, declared.names); guess != "" {
			f.hint = "did you mean " + guess + "?"
		}
	}
	return f
}
