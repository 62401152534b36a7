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
	config := &tls.Config{
		MinVersion: max(plan.MinTLS, tls.VersionTLS12),
		NextProtos: []string{"h2", "http/1.1", "http/1.0"},
		// P-384 and P-521 are left out: a TLS 1.2 message with one of their points has
		// room for a certificate request, and the keeper refuses it. No client is lost:
		// "A TLS-compliant application MUST support key exchange with secp256r1"
		// RFC 8446, section 9.1.
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.X25519, tls.CurveP256},
		// Whole records at once: less to encrypt and to send per byte.
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			handle := names.handle(hello.ServerName)
			if hello.ServerName == "" {
				handle = names.nameless(hello.Conn.LocalAddr())
			}
			if handle < 0 {
				return nil, nil // crypto/tls answers with the alert unrecognized_name
			}
			return k.certificates[handle].Load(), nil
		},
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	config.SetSessionTicketKeys(k.tickets) // Open has waited for them
	k.configs = append(k.configs, config)
	return config
}

// names say which certificate a client gets. Handles are the keeper's; -1 is
// a site without TLS, or none.
type names struct {
	exact    map[string]int // "example.com", "[::1]"
	wildcard map[string]int // ".example.com" for "*.example.com"
	any      int            // of the site "*"
	address  int            // of the first site with TLS that has an address
	first    int            // of the first site with TLS
}

func namesOf(sites []conf.Site) names {
	n := names{exact: map[string]int{}, wildcard: map[string]int{}, any: -1, address: -1, first: -1}
	for _, site := range sites {
		if n.first < 0 {
			n.first = site.Certificate
		}
		for _, host := range site.Hosts {
			if n.address < 0 && isAddress(host) {
				n.address = site.Certificate
			}
			switch {
			case host == "*":
				n.any = site.Certificate
			case strings.HasPrefix(host, "*."):
				n.wildcard[host[1:]] = site.Certificate
			default:
				n.exact[host] = site.Certificate
			}
		}
	}
	return n
}

// handle returns the certificate for the name that a client sent.
func (n names) handle(name string) int {
	name = strings.ToLower(name)
	if handle, ok := n.exact[name]; ok {
		return handle
	}
	// "*" stands for one label, the first. RFC 6125, section 6.4.3.
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		if handle, ok := n.wildcard[name[dot:]]; ok {
			return handle
		}
	}
	return n.any
}

// nameless returns the certificate for a client that sent no name, as those do
// that connect to an address (RFC 6066, section 3). local is the one that it
// reached; behind a NAT it is another than the client's, and there is no telling.
func (n names) nameless(local net.Addr) int {
	if tcp, ok := local.(*net.TCPAddr); ok {
		if handle, ok := n.exact[hostOf(tcp.AddrPort().Addr())]; ok && handle >= 0 {
			return handle
		}
	}
	for _, handle := range []int{n.any, n.address, n.first} {
		if handle >= 0 {
			return handle
		}
	}
	return -1
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
