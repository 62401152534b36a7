package conf

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// tlsHint is what tls can be today.
const tlsHint = `write tls = "acme", { cert = "file.pem", key = "file.key" }, "internal" or "off"`

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
		p.unwritten(s, site)
		return true
	case v.shape == isText && v.text == "off":
		return false
	}
	if p.noHTTPS() {
		s.wrong("tls", fault{"needs an address to listen on, and [listen] says https = []", "leave https out for :443"})
	}
	switch {
	case v.shape == isTable:
		site.Certificate = p.pair(s.below("tls"), site.Hosts)
	case v.text == "internal":
		site.Certificate = p.internal(s, site.Hosts)
	case v.text == "acme":
		p.acme(s, site)
	default:
		s.wrong("tls", fault{"is " + strconv.Quote(v.text), tlsHint})
	}
	return true
}

// unwritten gives certificates to a site that does not write tls: internal ones where no
// public CA certifies any of the hosts.
func (p *planner) unwritten(s section, site *Site) {
	if len(internalOf(site.Hosts)) == len(site.Hosts) {
		site.Certificate = p.internal(s, site.Hosts)
		return
	}
	p.acme(s, site)
}

// pair is the handle of a pair of files. Sites that name the same files share it.
func (p *planner) pair(s section, hosts []string) int {
	cert, key := s.written("cert"), s.written("key")
	for _, name := range []string{"cert", "key"} {
		if s.table.field(name) == nil {
			s.wrong(name, fault{"is missing", tlsHint})
		}
	}
	if cert == nil || key == nil {
		return -1
	}
	files := certificatePair{p.path(cert.text), p.path(key.text)}
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

// internal is the handle of a certificate that the keeper issues. Each site has
// its own, for the names of one are no business of those who visit another.
func (p *planner) internal(s section, hosts []string) int {
	k := &p.plan.Keeper
	if k.Authority == nil {
		k.Authority = p.authority()
	}
	k.Certificates = append(k.Certificates, Certificate{Hosts: p.namesFor(hosts), Internal: true, Where: s.place("tls")})
	return len(k.Certificates) - 1
}

// namesFor are the names in an internal certificate for hosts. In the place of "*",
// which is none, are those that a machine answers to wherever it is, and its own.
func (p *planner) namesFor(hosts []string) []string {
	var names []string
	add := func(host string) {
		if name := cutBrackets(host); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, host := range hosts {
		if host != "*" {
			add(host)
			continue
		}
		add("localhost")
		add("127.0.0.1")
		add("::1")
		if own, f := parseHost(p.at.Host); f.none() && !strings.Contains(own, "*") {
			add(own)
		}
	}
	return names
}

// authority is where the internal CA is kept.
func (p *planner) authority() *Authority {
	where := p.root.place("state")
	if p.plan.State == "" {
		p.notice(where, fault{
			"is nowhere: neither STATE_DIRECTORY nor XDG_STATE_HOME nor HOME is set; the internal CA is in memory, and each start makes another",
			`write state = "/path/of/a/folder/of/yours"`,
		})
		return &Authority{Where: where}
	}
	return &Authority{
		Secret: filepath.Join(p.plan.State, "internal-ca.secret"),
		Root:   filepath.Join(p.plan.State, "root.pem"),
		Where:  where,
	}
}
