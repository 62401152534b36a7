package tlsload

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync/atomic"

	"sallyport/conf"
)

// This file is clients that show certificates. Who has to is a matter of the name that a
// client sends, so that each way of asking, a door, has a configuration of its own.

// clientBytesMax bounds the certificate of a client, for an app is sent all of it in a field, in
// base64: 5464 characters. The usual ones have 1 to 2 KiB.
const clientBytesMax = 4 << 10

// A door is one way of asking for certificates.
type door struct {
	clients conf.Clients
	usual   *tls.Config                // for the others
	config  atomic.Pointer[tls.Config] // for those who come to it
}

// askClients has a configuration ask for certificates where sites want it. The caller has k.mu.
func (k *Keyring) askClients(config *tls.Config, sites []conf.Site) {
	var doors []*door
	for _, site := range sites {
		if site.Clients != nil && site.Clients.Door > len(doors) {
			d := &door{clients: *site.Clients, usual: config}
			d.hang(k)
			doors = append(doors, d)
		}
	}
	if len(doors) == 0 {
		return
	}
	k.doors = append(k.doors, doors...)
	names := k.names
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if isProver(hello) { // a CA has no certificate of ours, and gets no further
			return nil, nil
		}
		if at := names.of(hello); at.door > 0 {
			return doors[at.door-1].config.Load(), nil
		}
		return nil, nil
	}
}

// rehang makes anew what depends on a certificate.
func (k *Keyring) rehang(handle int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.doors {
		if d.clients.CA == handle {
			d.hang(k)
		}
	}
}

// hang makes the configuration of a door. Its tickets are of no use at another, nor when it
// asks for certificates of another CA: resumption asks for none. The caller has k.mu.
func (d *door) hang(k *Keyring) {
	config := d.usual.Clone()
	config.GetConfigForClient = nil
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if d.clients.Required {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	config.ClientCAs = x509.NewCertPool()
	seal := sha256.New()
	fmt.Fprintln(seal, "sallyport: tickets of clients with certificates", d.clients.Required)
	for _, der := range k.certificates[d.clients.CA].Load().chain() {
		if ca, err := x509.ParseCertificate(der); err == nil { // the keeper has looked
			config.ClientCAs.AddCert(ca)
		}
		seal.Write(der)
	}
	config.VerifyConnection = checkClient
	keys := make([][32]byte, len(k.tickets))
	for i := range keys {
		keys[i] = sha256.Sum256(seal.Sum(k.tickets[i][:]))
	}
	config.SetSessionTicketKeys(keys)
	d.config.Store(config)
}

// checkClient refuses a certificate that no app could be told of.
func checkClient(state tls.ConnectionState) error {
	if len(state.PeerCertificates) > 0 && len(state.PeerCertificates[0].Raw) > clientBytesMax {
		return fmt.Errorf("tlsload: client certificate of %d bytes, at most %d are taken", len(state.PeerCertificates[0].Raw), clientBytesMax)
	}
	return nil
}

// Door is the door that a session has come by, which was for a name, if any, and reached
// local: conf.Clients.Door. It is 0 for the usual way in.
func (k *Keyring) Door(name string, local net.Addr) int {
	if name == "" {
		return k.names.nameless(local).door
	}
	return k.names.named(name).door
}
