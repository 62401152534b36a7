package proxy

import (
	"bytes"
	"net/netip"
	"strconv"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// ours are the fields that only a proxy may set. What a client sends in them is
// taken out, unless the client is a proxy that the configuration trusts. Proxy
// goes always: CGI, and what imitates it, would make HTTP_PROXY of it, which
// libraries take for a setting (CVE-2016-5385).
var (
	alwaysOurs = message.SetOf(message.Proxy, message.XSendfileType, message.XAccelMapping, message.XForwardedFor,
		message.XRealIP, message.XRequestID, message.XRequestStart)
	oursUnlessTrusted = alwaysOurs | message.SetOf(message.Forwarded, message.XForwardedHost,
		message.XForwardedPort, message.XForwardedProto)
)

// A rewriter sets the fields by which an app knows who asked, how, and when.
type rewriter struct {
	trusted   []netip.Prefix
	trustUnix bool
}

func newRewriter(plan *conf.Core) rewriter {
	return rewriter{trusted: plan.Trusted, trustUnix: plan.TrustUnix}
}

func (w *rewriter) trusts(addr netip.Addr) bool {
	if !addr.IsValid() {
		return w.trustUnix
	}
	for _, prefix := range w.trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// secure reports whether the client spoke TLS, with us or with a trusted proxy: to
// send the latter's client to https once more would be a loop.
func (w *rewriter) secure(p *passage) bool {
	req := &p.exchange.Request
	if req.Secure || !w.trusts(p.peer()) {
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
	trusted := w.trusts(peer)
	p.unclear = fields.RemoveUnclear()
	chain := p.chain[:0]
	start, begun := []byte(nil), false
	if trusted {
		chain = joinChain(chain, fields)
		start, begun = fields.Value(message.XRequestStart)
	}
	p.client = w.client(chain, peer)
	if trusted {
		fields.Remove(alwaysOurs)
	} else {
		fields.Remove(oursUnlessTrusted)
	}
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
	if !begun {
		p.scratch = append(p.scratch[:0], "t="...)
		p.scratch = strconv.AppendInt(p.scratch, p.exchange.Begun.UnixMilli(), 10)
		start = p.scratch
	}
	fields.Add("X-Request-Start", start)
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
