package proxy

import (
	"strconv"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// alternativeOf is what clients that came over TLS are told of HTTP/3: "h3=\":443\"" for a day,
// which is the default of ma (RFC 7838, section 3). Nil without HTTP/3. A client that finds nobody
// there stays with what it has.
func alternativeOf(plan *conf.Core) []byte {
	if !plan.H3 || plan.AdvertisePort == 0 {
		return nil
	}
	return strconv.AppendQuote([]byte("h3="), ":"+strconv.Itoa(plan.AdvertisePort))
}

// addAlternative tells the client, unless its app has said something of the kind.
func (f *Forwarder) addAlternative(p *passage, resp *message.Response) {
	if f.alternative == nil || !p.exchange.Request.Secure {
		return
	}
	const name = "Alt-Svc"
	for i := range resp.Fields.Len() {
		if _, key, _ := resp.Fields.Line(i); message.EqualFold(key, "alt-svc") {
			return
		}
	}
	resp.Fields.Add(name, f.alternative)
}
