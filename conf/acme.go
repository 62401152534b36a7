package conf

import (
	"path/filepath"
	"strconv"
	"strings"
)

// This file is certificates from a CA, by ACME: which sites have them, and what keeper and
// registrar are told.

// The CA that issues where none is named, and the one that it has for tests.
const (
	letsEncrypt     = "https://acme-v02.api.letsencrypt.org/directory"
	letsEncryptTest = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

// acme gives each host of a site a certificate of its own from the CA: a CA counts names
// that fail, and one that does takes no other with it. Hosts for which no CA issues have one of
// the internal CA, if tls is not written.
func (p *planner) acme(s section, site *Site) {
	written := s.written("tls") != nil
	internal := -1
	for _, host := range site.Hosts {
		if isInternal(host) && !written {
			if internal < 0 {
				internal = p.internal(s, internalOf(site.Hosts))
			}
			site.Handles = append(site.Handles, internal)
			continue
		}
		if f := checkOrdered(host); !f.none() {
			s.wrong("tls", f)
		}
		certificates := &p.plan.Keeper.Certificates
		site.Handles = append(site.Handles, len(*certificates))
		*certificates = append(*certificates, Certificate{Hosts: []string{cutBrackets(host)}, ACME: true, Where: s.place("tls")})
		p.plan.Core.ACME = true
	}
	if len(site.Handles) > 0 {
		site.Certificate = site.Handles[0]
	}
}

// internalOf are the hosts for which no CA issues.
func internalOf(hosts []string) (internal []string) {
	for _, host := range hosts {
		if isInternal(host) {
			internal = append(internal, host)
		}
	}
	return internal
}

// checkOrdered is the fault of a host that no certificate can be ordered for.
func checkOrdered(host string) fault {
	switch {
	case host == "*":
		return fault{`cannot be "acme" for the host "*": a CA certifies names`, `write the names, or tls = "internal"`}
	case strings.HasPrefix(host, "*."):
		return fault{
			"cannot be obtained for " + host + ": a CA wants to see its DNS changed for that",
			`write the names, or tls = { cert = "file.pem", key = "file.key" } with a certificate that another program obtains`,
		}
	}
	return fault{}
}

// certificatesByACME are [tls] and what keeper and registrar need, if some site has
// certificates from a CA.
func (p *planner) certificatesByACME() {
	s := p.root.below("tls")
	if !p.plan.Core.ACME {
		for _, key := range []string{"email", "ca", "test_ca", "ca_root", "profile", "eab"} {
			if s.written(key) != nil {
				p.notice(s.place(key), fault{"has no effect: no site has a certificate from a CA", "leave it out"})
			}
		}
		return
	}
	where := s.place("ca")
	r := &Registrar{CA: letsEncrypt, TestCA: letsEncryptTest, Email: s.text("email"), Profile: s.text("profile"), Where: where}
	if v := s.written("ca"); v != nil {
		r.CA, r.TestCA = v.text, ""
		p.directory(s, "ca", v)
	}
	if v := s.written("test_ca"); v != nil {
		r.TestCA = v.text
		p.directory(s, "test_ca", v)
	}
	if v := s.written("ca_root"); v != nil {
		r.RootFile = p.path(v.text)
	}
	if f := checkEmail(r.Email); !f.none() {
		s.wrong("email", f)
	}
	p.externalAccount(s, r)
	for _, l := range p.plan.Listeners {
		r.HTTP = r.HTTP || !l.Secure
		r.TLS = r.TLS || l.Secure
	}
	keeper := &ACME{CA: r.CA, TestCA: r.TestCA, Where: where}
	p.plan.Registrar, p.plan.Keeper.ACME = r, keeper
	p.plan.VolatileState = p.root.flag("volatile_state")
	if p.plan.State != "" {
		keeper.Folder = filepath.Join(p.plan.State, "certificates")
		r.Folder = filepath.Join(p.plan.State, "account")
	} else if !p.plan.VolatileState {
		why := "is nowhere: neither STATE_DIRECTORY nor XDG_STATE_HOME nor HOME is set"
		p.mistakes = append(p.mistakes, VolatileState(p.root.place("state"), why))
	}
	p.registrarUser()
}

// VolatileState is the mistake of a state that does not outlive a start, where certificates
// come from a CA.
func VolatileState(where Place, why string) Mistake {
	return Mistake{
		where, why + "; every start would order all certificates again, until the CA refuses",
		`write state = "/path/of/a/folder/that/stays", or volatile_state = true`,
	}
}

// directory looks at the URL of a CA's directory.
func (p *planner) directory(s section, key string, v *value) {
	rest, found := strings.CutPrefix(v.text, "https://")
	host, _, _ := strings.Cut(rest, "/")
	if !found || host == "" || strings.ContainsAny(v.text, " \t\"<>") {
		s.wrong(key, fault{"is " + strconv.Quote(v.text) + ", no URL of https", `write the CA's directory: "https://acme.example/directory"`})
	}
}

// checkEmail refuses what is clearly no address.
func checkEmail(email string) fault {
	local, domain, found := strings.Cut(email, "@")
	if email != "" && (!found || local == "" || domain == "" || strings.ContainsAny(email, " <>,:")) {
		return fault{"is no address: " + strconv.Quote(email), `write "ops@example.com", or leave it out`}
	}
	return fault{}
}

// externalAccount is [tls] eab.
func (p *planner) externalAccount(s section, r *Registrar) {
	if s.written("eab") == nil {
		return
	}
	eab := s.below("eab")
	r.KeyID = eab.text("id")
	if v := eab.written("key"); v != nil {
		r.KeyFile = p.path(v.text)
	}
	for _, key := range []string{"id", "key"} {
		if eab.table.field(key) == nil {
			eab.wrong(key, fault{"is missing", `write eab = { id = "what the CA calls it", key = "file" }`})
		}
	}
}

// registrarUser is the identity of the registrar, which is nobody else's.
func (p *planner) registrarUser() {
	users := &p.plan.Users
	if !users.Switch {
		users.Registrar = users.Core
		return
	}
	users.Registrar = p.identity("registrar_user", "sallyport-registrar", registrarFixedID)
	for _, other := range []struct {
		name string
		id   ID
	}{{"core", users.Core}, {"keeper", users.Keeper}} {
		if users.Registrar.UID == other.id.UID && other.id.UID != 0 {
			p.root.wrong("registrar_user", fault{
				"makes registrar and " + other.name + " one user, uid " + strconv.Itoa(other.id.UID),
				"give each its own: who talks to the CA must not reach keys, and who answers the internet not the account",
			})
		}
	}
}
