package proxy

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// ours are the fields that only a proxy may set. What a client sends in them is
// taken out, unless the client is a proxy that the configuration trusts. Proxy
// goes always: CGI, and what imitates it, would make HTTP_PROXY of it, which
// libraries take for a setting (CVE-2016-5385). So do Client-IP, which Rails
// believes, and X-Forwarded-Prefix, -Ssl, -Scheme and the like, by which Rack,
// gunicorn and others go: nothing here writes them, so that nothing could overrule them.
var (
	alwaysOurs = message.SetOf(message.Proxy, message.XSendfileType, message.XAccelMapping, message.XForwardedFor,
		message.XForwardedOther, message.ClientIP, message.XRealIP, message.XRequestID, message.XRequestStart)
	oursUnlessTrusted = alwaysOurs | message.SetOf(message.ClientCert, message.Forwarded, message.XForwardedHost,
		message.XForwardedPort, message.XForwardedProto)
)

// A rewriter sets the fields by which an app knows who asked, how, and when.
type rewriter struct{ trusts func(netip.Addr) bool }

func newRewriter(plan *conf.Core) rewriter { return rewriter{plan.Trusts} }

// trustsPeer reports whether what p's request says of others is believed.
func (w *rewriter) trustsPeer(p *passage) bool {
	return !p.exchange.Peer.Unnamed && w.trusts(p.peer())
}

// secure reports whether the client spoke TLS, with us or with a trusted proxy: to
// send the latter's client to https once more would be a loop.
func (w *rewriter) secure(p *passage) bool {
	req := &p.exchange.Request
	if req.Secure || !w.trustsPeer(p) {
		return req.Secure
	}
	proto, _ := req.Fields.Value(message.XForwardedProto)
	return string(proto) == "https"
}

// rewrite readies the fields of p's request for the app.
func (w *rewriter) rewrite(p *passage) {
	req := &p.exchange.Request
	fields := &req.Fields
	peer := p.peer()
	trusted := w.trustsPeer(p)
	p.unclear = fields.RemoveUnclear()
	chain := p.chain[:0]
	if trusted {
		chain = joinChain(chain, fields)
		p.start, _ = fields.Value(message.XRequestStart)
	}
	p.client = w.client(chain, peer)
	if trusted {
		fields.Remove(alwaysOurs)
	} else {
		fields.Remove(oursUnlessTrusted)
	}
	p.addClient(fields)
	if peer.IsValid() {
		if len(chain) > 0 {
			chain = append(chain, ", "...)
		}
		chain = peer.AppendTo(chain)
	}
	p.chain = chain
	addIfAny(fields, "X-Forwarded-For", chain)
	if p.client.IsValid() {
		p.scratch = p.client.AppendTo(p.scratch[:0])
		fields.Add("X-Real-IP", p.scratch)
	}
	p.addOrigin(fields)
	fields.Add("X-Request-Id", p.id)
}

// stamp adds what an app reckons its queue time from, when the request is ready for it: the
// time that the client took to send it is nobody's queue.
func (w *rewriter) stamp(p *passage) {
	start, fields := p.start, &p.exchange.Request.Fields
	if start == nil {
		ready := p.exchange.Begun
		if !p.received.IsZero() {
			ready = p.received
		}
		p.scratch = append(p.scratch[:0], "t="...)
		p.scratch = strconv.AppendInt(p.scratch, ready.UnixMilli(), 10)
		start = p.scratch
	}
	fields.Add("X-Request-Start", start)
	p.addVia(fields)
}

// addClient adds what the client of a site that asks for a certificate has shown. What somebody
// before us says of that is taken out there, a trusted proxy too: "the TTRP MUST sanitize
// headers" RFC 9440, section 2.4.
func (p *passage) addClient(fields *message.Fields) {
	if p.site.door == 0 {
		return
	}
	fields.Remove(message.SetOf(message.ClientCert))
	if client := p.exchange.Peer.Client; client.Certificate != nil {
		fields.Add("Client-Cert", client.Certificate)
		fields.Add("X-Client-Cert-Subject", client.Subject)
	}
}

// addHSTS adds the promise of the site, unless its app has made one: "the UA MUST process
// only the first such header field" RFC 6797, section 8.1. It is never made without TLS:
// "An HSTS Host MUST NOT include the STS header field in HTTP responses conveyed over
// non-secure transport", section 7.2.
func (p *passage) addHSTS(fields *message.Fields) {
	if len(p.hsts) == 0 || fields.Count(message.StrictTransportSecurity) > 0 {
		return
	}
	fields.Add("Strict-Transport-Security", p.hsts)
}

// strip takes the prefix of a route off the target and says so, as StripPrefix of Traefik
// does: by X-Forwarded-Prefix an app (Werkzeug's ProxyFix, Rack) makes links that lead back.
func (p *passage) strip(prefix string) {
	if prefix == "" {
		return
	}
	req := &p.exchange.Request
	rest := req.Target[len(prefix):]
	if len(rest) == 0 || rest[0] != '/' {
		p.below = append(append(p.below[:0], '/'), rest...)
		rest = p.below
	}
	req.Target = rest
	p.scratch = append(p.scratch[:0], prefix...)
	req.Fields.Add("X-Forwarded-Prefix", p.scratch)
}

// addVia obeys "An HTTP-to-HTTP gateway MUST send an appropriate Via header field in
// each inbound request message and MAY send a Via header field in forwarded response
// messages" RFC 9110, section 7.6.3. In answers it would only tell strangers what
// they talk to.
func (p *passage) addVia(fields *message.Fields) {
	p.scratch = append(p.scratch[:0], strings.TrimPrefix(p.exchange.Protocol, "HTTP/")...)
	p.scratch = append(p.scratch, " sallyport"...)
	fields.Add("Via", p.scratch)
}

// isLast answers an OPTIONS request that may go no further, and counts down one that
// may: "Each intermediary that receives a TRACE or OPTIONS request containing a
// Max-Forwards header field MUST check and update its value prior to forwarding the
// request. If the received value is zero (0), the intermediary MUST NOT forward the
// request; instead, the intermediary MUST respond as the final recipient" RFC 9110,
// section 7.6.2.
func (f *Forwarder) isLast(p *passage) bool {
	req := &p.exchange.Request
	if string(req.Method) != "OPTIONS" {
		return false
	}
	value, ok := req.Fields.Value(message.MaxForwards)
	if !ok {
		return false
	}
	hops, ok := message.ParseLength(value) // digits, as they
	switch {
	case !ok || req.Fields.Count(message.MaxForwards) > 1:
		f.refuse(p, message.ErrMaxForwards)
		return true
	case hops == 0:
		f.answer(p, message.Page{Status: 200}, "")
		return true
	}
	req.Fields.Remove(message.SetOf(message.MaxForwards))
	p.scratch = strconv.AppendInt(p.scratch[:0], hops-1, 10)
	req.Fields.Add("Max-Forwards", p.scratch)
	return false
}

// addOrigin adds what the client saw in its address bar, where no trusted proxy
// has said it.
func (p *passage) addOrigin(fields *message.Fields) {
	req := &p.exchange.Request
	secure := req.Secure
	if proto, ok := fields.Value(message.XForwardedProto); ok && isScheme(proto) {
		secure = string(proto) == "https"
	}
	scheme, port := "http", "80"
	if secure {
		scheme, port = "https", "443"
	}
	fields.Remove(message.SetOf(message.XForwardedProto))
	p.scratch = append(p.scratch[:0], scheme...)
	fields.Add("X-Forwarded-Proto", p.scratch)
	if _, ok := fields.Value(message.XForwardedHost); !ok {
		fields.Add("X-Forwarded-Host", req.Host)
	}
	if _, ok := fields.Value(message.XForwardedPort); !ok {
		p.scratch = append(p.scratch[:0], port...)
		if _, written, _ := message.SplitPort(req.Host); written != nil {
			p.scratch = append(p.scratch[:0], written...)
		}
		fields.Add("X-Forwarded-Port", p.scratch)
	}
}

func isScheme(b []byte) bool { return string(b) == "http" || string(b) == "https" }

func addIfAny(fields *message.Fields, key string, value []byte) {
	if len(value) > 0 {
		fields.Add(key, value)
	}
}

// joinChain joins the X-Forwarded-For lines, in order.
func joinChain(chain []byte, fields *message.Fields) []byte {
	for i := range fields.Len() {
		name, _, value := fields.Line(i)
		if name != message.XForwardedFor || len(value) == 0 {
			continue
		}
		if len(chain) > 0 {
			chain = append(chain, ", "...)
		}
		chain = append(chain, value...)
	}
	return chain
}

// origin is the address that p's request is counted by: the client's, as far as proxies of
// ours tell. It is not valid for one of these that tells of nobody.
func (w *rewriter) origin(p *passage) netip.Addr {
	client := p.peer()
	if w.trustsPeer(p) {
		p.chain = joinChain(p.chain[:0], &p.exchange.Request.Fields)
		client = w.client(p.chain, client)
	}
	if w.trusts(client) {
		return netip.Addr{}
	}
	return client
}

// client walks the chain from the right, and takes the first address that is no
// trusted proxy: the last one that a proxy of ours has seen with its own eyes.
func (w *rewriter) client(chain []byte, peer netip.Addr) netip.Addr {
	client := peer
	for w.trusts(client) && len(chain) > 0 {
		last := chain
		if comma := bytes.LastIndexByte(chain, ','); comma >= 0 {
			last, chain = chain[comma+1:], chain[:comma]
		} else {
			chain = nil
		}
		addr, err := netip.ParseAddr(string(message.TrimSpace(last)))
		if err != nil {
			return client
		}
		client = addr.Unmap()
	}
	return client
}
