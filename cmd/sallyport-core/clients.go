package main

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"net"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// This file is what becomes of the certificates that clients show, once for a connection:
// apps are sent it with every request.

// asksClients reports whether some site does.
func asksClients(sites []conf.Site) bool {
	for _, site := range sites {
		if site.Clients != nil {
			return true
		}
	}
	return false
}

// clientOf is what the client of a session has shown; nil if it was not asked.
func (f *front) clientOf(state *tls.ConnectionState, local net.Addr) *message.Client {
	door := f.keyring.Door(state.ServerName, local)
	if door == 0 {
		return nil
	}
	client := &message.Client{Door: door}
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		client.Certificate = byteSequence(leaf.Raw)
		client.Subject = printable(leaf.Subject.String())
	}
	return client
}

// byteSequence is a value of a field as RFC 8941 has it, section 3.3.5, which is what RFC 9440
// makes of a certificate.
func byteSequence(der []byte) []byte {
	value := base64.StdEncoding.AppendEncode([]byte{':'}, der)
	return append(value, ':')
}

// printable is a name without what is no printable ASCII, which is written as RFC 4514 lets
// any octet be, section 2.4: a line break would make another field of it.
func printable(name string) []byte {
	value := make([]byte, 0, len(name))
	for i := range len(name) {
		if c := name[i]; c >= ' ' && c < 0x7f {
			value = append(value, c)
		} else {
			value = hex.AppendEncode(append(value, '\\'), []byte{c})
		}
	}
	return value
}
