package conf

import (
	"slices"
	"strconv"
	"strings"
)

// listeners are [listen]. Nothing is bound for https while no site has tls: an
// address where every handshake fails is of no use to anyone.
func (p *planner) listeners() {
	s := p.root.below("listen")
	p.listen(s, "http", false)
	switch {
	case p.secureSites > 0:
		p.listen(s, "https", true)
	case len(p.plan.Core.Sites) > 0 && s.written("https") != nil && !p.noHTTPS():
		s.wrong("https", fault{"has no use: no site has tls", "write https = []"})
	}
	if len(s.texts("http")) == 0 && p.noHTTPS() {
		s.wrong("http", fault{"is [], and so is https: nothing listens", `write http = [":80"]`})
	}
	for _, l := range p.plan.Listeners {
		l.Where = inCore(l.Where)
		p.plan.Core.Listeners = append(p.plan.Core.Listeners, l)
	}
	p.plan.Core.AdvertisePort = p.advertisePort(s)
	p.plan.Core.H2C = s.flag("h2c")
	p.plan.Core.ProxyProtocol = s.flag("proxy_protocol")
	p.plan.Core.H3 = s.flag("h3") && p.takesQUIC(s)
	if p.plan.Core.ProxyProtocol && len(p.root.texts("trusted_proxies")) == 0 {
		s.wrong("proxy_protocol", fault{
			"needs trusted_proxies: nobody may connect",
			`write trusted_proxies = ["10.0.0.0/8"], or whatever address the proxy has`,
		})
	}
}

// listen adds the listeners of a key.
func (p *planner) listen(s section, key string, secure bool) {
	for _, item := range s.texts(key) {
		address, f := parseListen(item.text)
		if port, ok := listenPort(address); f.none() && (!ok || port != 0) {
			f = p.twice(address)
		}
		if f.none() {
			f = p.circle(address)
		}
		if !f.none() {
			s.wrongItem(key, item, f)
			continue
		}
		where := s.place(key)
		where.Line = max(where.Line, item.line)
		gift := key + strconv.Itoa(p.count(secure))
		p.plan.Listeners = append(p.plan.Listeners, Listener{Gift: gift, Address: address, Secure: secure, Where: where})
	}
}

// count is how many listeners there are of a kind.
func (p *planner) count(secure bool) int {
	n := 0
	for _, l := range p.plan.Listeners {
		if l.Secure == secure {
			n++
		}
	}
	return n
}

// takesQUIC reports whether there is an address for QUIC, and notices where h3 was written for
// none. What comes by a proxy that sends PROXY headers is TCP: its clients are not to be sent past
// it.
func (p *planner) takesQUIC(s section) bool {
	why := ""
	switch {
	case p.plan.Core.ProxyProtocol:
		why = "proxy_protocol is for TCP"
	case !slices.ContainsFunc(p.plan.Listeners, Listener.TakesQUIC):
		why = "https has no TCP address"
	}
	if why != "" && s.written("h3") != nil {
		p.notice(s.place("h3"), fault{"has no effect: " + why, "leave it out"})
	}
	return why == ""
}

// circle is the fault of an address that is an app's socket: every request would come back
// until nothing is left.
func (p *planner) circle(address string) fault {
	socket, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return fault{}
	}
	for _, app := range p.plan.Core.Apps {
		if slices.Contains(app.Sockets, socket) {
			return fault{"is the socket of app " + strconv.Quote(app.Name) + ": requests would go in a circle", "write another address"}
		}
	}
	return fault{}
}

// twice is the fault of an address that another listener has.
func (p *planner) twice(address string) fault {
	for _, l := range p.plan.Listeners {
		if l.Address == address {
			return already(address, l.Where.Line)
		}
	}
	return fault{}
}

// noHTTPS reports whether the file says https = [].
func (p *planner) noHTTPS() bool {
	v := p.root.below("listen").written("https")
	return v != nil && v.shape == isList && len(v.list) == 0
}

// advertisePort is listen.advertise_port, or else the port of the first https
// listener; 443 where that has none, because something in front of it has.
func (p *planner) advertisePort(s section) int {
	for _, l := range p.plan.Listeners {
		if !l.Secure {
			continue
		}
		if s.written("advertise_port") != nil {
			return int(s.number("advertise_port"))
		}
		if port, ok := listenPort(l.Address); ok {
			return port
		}
		return 443
	}
	return 0
}
