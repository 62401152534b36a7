package main

import (
	"bytes"

	"github.com/rs/zerolog"

	"sallyport/proxy/message"
	"sallyport/tlsload"
)

// A proving handler answers a CA that asks, by plain HTTP, for the proof of a name; whatever
// else comes is for the next handler. Where the keeper has no such challenge open, the path
// is the app's: others obtain certificates by it, too.
type proving struct {
	next    message.Handler
	keyring *tlsload.Keyring
	log     zerolog.Logger
}

// Serve is message.Handler.
func (p *proving) Serve(ex *message.Exchange) {
	token, found := bytes.CutPrefix(ex.Request.Target, []byte(tlsload.ChallengePath))
	if !found || ex.Request.Secure || string(ex.Request.Method) != "GET" {
		p.next.Serve(ex)
		return
	}
	proof, open := p.keyring.Proof(ex.Request.Authority, token)
	if !open {
		p.next.Serve(ex)
		return
	}
	err := sendProof(ex.Stream, proof)
	p.log.Info().Bytes("host", ex.Request.Authority).Stringer("peer", ex.Peer.Addr).AnErr("error", err).Msg("challenge answered")
}

// sendProof sends the text that the CA compares with its own; its type is that of the
// example in RFC 8555, section 8.3.
func sendProof(to message.Stream, proof string) error {
	answer := message.Response{Status: 200, Length: int64(len(proof))}
	answer.Fields.Add("Content-Type", []byte("application/octet-stream"))
	if err := to.Reply(&answer); err != nil {
		return err
	}
	if _, err := to.Write([]byte(proof)); err != nil {
		return err
	}
	return to.Finish(nil)
}
