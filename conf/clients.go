package conf

import "strconv"

// This file is what a site has of its clients beside requests: their certificates, and the
// promise that they come by TLS.

// hsts is the value of Strict-Transport-Security; "" for none. RFC 6797, section 6.1.
func (p *planner) hsts(s section, secure bool) string {
	age := s.duration("hsts")
	subdomains := s.flag("hsts_subdomains")
	switch {
	case age == 0 && subdomains:
		s.wrong("hsts_subdomains", fault{"says nothing without hsts", `write hsts = "8760h" for a year, or leave it out`})
		return ""
	case age == 0:
		return ""
	case !secure:
		s.wrong("hsts", fault{"is a promise of TLS, and the site has none", "leave it out"})
		return ""
	}
	value := "max-age=" + strconv.FormatInt(int64(age.Seconds()), 10)
	if subdomains {
		value += "; includeSubDomains"
	}
	return value
}

// clients reads whose certificates a site asks for. Sites that name the same file share it.
func (p *planner) clients(s section, site *Site, secure bool) {
	c := s.below("clients")
	if s.written("clients") == nil {
		return
	}
	file := c.written("ca")
	switch {
	case c.table.field("ca") == nil:
		c.wrong("ca", fault{"is missing", `write clients = { ca = "file.pem" }`})
	case !secure:
		s.wrong("clients", fault{"have certificates with TLS alone, and the site has none", "leave it out"})
	case !site.Redirect && len(p.root.below("listen").texts("http")) > 0:
		s.wrong("redirect", fault{"is false, and clients show no certificate without TLS", "leave it out"})
	}
	if file == nil {
		return
	}
	files := certificatePair{cert: p.path(file.text)} // no other has no key
	certificates := &p.plan.Keeper.Certificates
	handle, known := p.pairIndex[files]
	if !known {
		handle = len(*certificates)
		p.pairIndex[files] = handle
		*certificates = append(*certificates, Certificate{Cert: files.cert, Clients: true, Where: c.place("ca")})
	}
	ca := &(*certificates)[handle]
	ca.Hosts = append(ca.Hosts, site.Hosts...)
	doors := 0
	clients := Clients{CA: handle, Required: c.text("mode") == "require"}
	for _, other := range p.plan.Core.Sites {
		if o := other.Clients; o != nil {
			if clients.Door = o.Door; *o == clients {
				site.Clients = o
				return
			}
			doors = max(doors, o.Door)
		}
	}
	clients.Door = doors + 1
	site.Clients = &clients
}
