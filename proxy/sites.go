package proxy

import (
	"bytes"
	"sort"
	"strings"

	"sallyport/conf"
	"sallyport/proxy/message"
	"sallyport/upstream"
	"sallyport/upstream/spool"
)

// sites are the sites by host.
type sites struct {
	exact map[string]*site // "example.com"
	below map[string]*site // ".example.com" for "*.example.com"
	any   *site            // "*"
}

type site struct {
	redirect bool
	hsts     []byte  // Strict-Transport-Security; nil for none
	door     int     // by which connections have to come; 0: any does
	routes   []route // the most particular first
}

type route struct {
	prefix string // "/live" for "/live" and for "/live/*"; "" for "/*"
	below  bool   // everything below prefix too
	app    *upstream.App
	strip  string     // what is taken off the path: the prefix, or its first parts
	index  int        // of app in the plan
	buffer bool       // bodies wait
	share  *spool.App // of the spool; nil where they do not
}

func newSites(plan []conf.Site, apps []*upstream.App) *sites {
	all := &sites{exact: map[string]*site{}, below: map[string]*site{}}
	for i := range plan {
		s := &site{redirect: plan[i].Redirect, routes: newRoutes(plan[i].Routes, apps)}
		if plan[i].HSTS != "" {
			s.hsts = []byte(plan[i].HSTS)
		}
		if plan[i].Clients != nil {
			s.door = plan[i].Clients.Door
		}
		for _, host := range plan[i].Hosts {
			switch {
			case host == "*":
				all.any = s
			case strings.HasPrefix(host, "*."):
				all.below[host[1:]] = s
			default:
				all.exact[host] = s
			}
		}
	}
	return all
}

func newRoutes(plan []conf.Route, apps []*upstream.App) []route {
	routes := make([]route, 0, len(plan))
	for _, r := range plan {
		prefix, below := strings.CutSuffix(r.Path, "/*")
		routes = append(routes, route{
			prefix: prefix, below: below, app: apps[r.App], strip: r.Prefix, index: r.App, buffer: r.Buffer,
		})
	}
	// The longest path wins, then file order; a path itself before what is below it.
	sort.SliceStable(routes, func(i, j int) bool {
		if a, b := len(routes[i].prefix), len(routes[j].prefix); a != b {
			return a > b
		}
		return !routes[i].below && routes[j].below
	})
	return routes
}

// find is the site of an authority, nil if there is none. "*.example.com" is one
// label deep, as in certificates (RFC 6125, section 6.4.3).
func (all *sites) find(authority []byte) *site {
	host, _, _ := message.SplitPort(authority)
	host = bytes.TrimSuffix(host, []byte("."))
	if s := all.exact[string(host)]; s != nil {
		return s
	}
	if dot := bytes.IndexByte(host, '.'); dot > 0 {
		if s := all.below[string(host[dot:])]; s != nil {
			return s
		}
	}
	return all.any
}

// opens reports whether a connection of peer may be used for the site. Its handshake has
// asked for a certificate by the name that it was for, and a client can write another one into
// a request.
func (s *site) opens(peer *message.Peer) bool {
	return s.door == 0 || peer.Client != nil && peer.Client.Door == s.door
}

// each calls do for all routes, those of a site with several hosts more than once.
func (all *sites) each(do func(*route)) {
	of := func(s *site) {
		for i := range s.routes {
			do(&s.routes[i])
		}
	}
	for _, hosts := range [...]map[string]*site{all.exact, all.below} {
		for _, s := range hosts {
			of(s)
		}
	}
	if all.any != nil {
		of(all.any)
	}
}

// find is the route of a request target, nil if there is none. Paths are compared
// as they were sent: what an app makes of "//" or "%2f" is its own affair, and no
// route is a wall.
func (s *site) find(target []byte) *route {
	path, _, _ := bytes.Cut(target, []byte("?"))
	for i := range s.routes {
		if s.routes[i].matches(path) {
			return &s.routes[i]
		}
	}
	return nil
}

func (r *route) matches(path []byte) bool {
	switch {
	case r.prefix == "" && r.below:
		return true // "/*", and the "*" of OPTIONS
	case len(path) < len(r.prefix) || string(path[:len(r.prefix)]) != r.prefix:
		return false
	case len(path) == len(r.prefix):
		return true
	}
	return r.below && path[len(r.prefix)] == '/'
}
