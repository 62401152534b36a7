package tlsload

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"

	"sallyport/conf"
)

// Config is the TLS of all sites of a plan. It is one Config for all clients, so
// that none is cloned per handshake; its ticket keys follow the keeper's.
func (k *Keyring) Config(plan conf.Core) *tls.Config {
	names := namesOf(plan.Sites)
	config := k.base(names)
	config.MinVersion = max(plan.MinTLS, tls.VersionTLS12)
	config.NextProtos = []string{"h2", "http/1.1", "http/1.0"}
	if plan.ACME {
		k.proveNames(config)
	}
	k.open(config, names, plan.Sites)
	return config
}

// QUICConfig is Config for HTTP/3. Tickets of the one are good for the other.
func (k *Keyring) QUICConfig(plan conf.Core) *tls.Config {
	names := namesOf(plan.Sites)
	config := k.base(names)
	config.MinVersion = tls.VersionTLS13 // RFC 9001, section 4.2
	config.NextProtos = []string{"h3"}   // RFC 9114, section 3.1
	k.open(config, names, plan.Sites)
	return config
}

// base is what all clients have in common.
func (k *Keyring) base(names *names) *tls.Config {
	return &tls.Config{
		// All that there are in TLS 1.2 with forward secrecy and no CBC, which others have paid
		// for (Lucky Thirteen). In TLS 1.3 there is nothing else.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		// P-384 and P-521 are left out: a TLS 1.2 message with one of their points has
		// room for a certificate request, and the keeper refuses it. No client is lost:
		// "A TLS-compliant application MUST support key exchange with secp256r1"
		// RFC 8446, section 9.1.
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.X25519, tls.CurveP256},
		// Whole records at once: less to encrypt and to send per byte.
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			handle := names.of(hello).certificate
			if handle < 0 {
				return nil, nil // crypto/tls answers with the alert unrecognized_name
			}
			return k.certificates[handle].Load().use()
		},
	}
}

// open has a configuration follow the keeper, and clients asked for certificates.
func (k *Keyring) open(config *tls.Config, names *names, sites []conf.Site) {
	k.mu.Lock()
	defer k.mu.Unlock()
	config.SetSessionTicketKeys(k.tickets) // Open has waited for them
	k.configs = append(k.configs, config)
	k.names = names
	k.askClients(config, sites)
}

// A place is where the handshakes for a name lead.
type place struct {
	certificate int // the keeper's handle; -1 for a site without TLS, or none
	door        int // of conf.Clients; 0 where no certificate is asked for
}

// nowhere is the place of names that there are not.
func nowhere() place { return place{certificate: -1} }

// names say which certificate a client gets, and is asked for.
type names struct {
	exact    map[string]place // "example.com", "[::1]"
	wildcard map[string]place // ".example.com" for "*.example.com"
	any      place            // of the site "*"
	address  place            // of the first site with TLS that has an address
	first    place            // of the first site with TLS
}

func namesOf(sites []conf.Site) *names {
	n := &names{exact: map[string]place{}, wildcard: map[string]place{}, any: nowhere(), address: nowhere(), first: nowhere()}
	for _, site := range sites {
		at := place{certificate: site.Certificate}
		if site.Clients != nil {
			at.door = site.Clients.Door
		}
		if n.first.certificate < 0 {
			n.first = at
		}
		for i, host := range site.Hosts {
			at.certificate = site.Handle(i)
			if n.address.certificate < 0 && isAddress(host) {
				n.address = at
			}
			switch {
			case host == "*":
				n.any = at
			case strings.HasPrefix(host, "*."):
				n.wildcard[host[1:]] = at
			default:
				n.exact[host] = at
			}
		}
	}
	return n
}

// of is the place that a client wants to.
func (n *names) of(hello *tls.ClientHelloInfo) place {
	if hello.ServerName == "" {
		return n.nameless(hello.Conn.LocalAddr())
	}
	return n.named(hello.ServerName)
}

// named is the place of a name.
func (n *names) named(name string) place {
	name = strings.ToLower(name)
	if at, ok := n.exact[name]; ok {
		return at
	}
	// "*" stands for one label, the first. RFC 6125, section 6.4.3.
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		if at, ok := n.wildcard[name[dot:]]; ok {
			return at
		}
	}
	return n.any
}

// nameless is the place for a client that sent no name, as those do
// that connect to an address (RFC 6066, section 3). local is the one that it
// reached; behind a NAT it is another than the client's, and there is no telling.
func (n *names) nameless(local net.Addr) place {
	if ip, ok := local.(interface{ AddrPort() netip.AddrPort }); ok { // of TCP or UDP
		if at, ok := n.exact[hostOf(ip.AddrPort().Addr())]; ok && at.certificate >= 0 {
			return at
		}
	}
	for _, at := range []place{n.any, n.address, n.first} {
		if at.certificate >= 0 {
			return at
		}
	}
	return nowhere()
}

// hostOf is an address as a host of a site.
func hostOf(address netip.Addr) string {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		return "[" + address.String() + "]"
	}
	return address.String()
}

// isAddress reports whether a host of a site is an address.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || strings.HasPrefix(host, "[")
}
