package proxy

import (
	"errors"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/proxy/message"
	"sallyport/upstream"
	"sallyport/upstream/spool"
)

// A Forwarder is the message.Handler of a core: it takes exchanges to apps.
type Forwarder struct {
	Meter Meter

	// Admits reports whether a client may make a request now (limits.rate); nil: all may.
	Admits func(client netip.Addr, now time.Time) bool

	sites       *sites
	rewriter    rewriter
	port        int    // for redirects
	alternative []byte // Alt-Svc; nil: none
	bodyIdle    time.Duration
	log         zerolog.Logger
	access      bool
	passages    sync.Pool // of *passage
}

// New is the forwarder of a plan; apps are those of plan.Apps.
func New(plan *conf.Core, apps []*upstream.App, log zerolog.Logger) *Forwarder {
	return &Forwarder{
		sites:       newSites(plan.Sites, apps),
		rewriter:    newRewriter(plan),
		port:        plan.AdvertisePort,
		alternative: alternativeOf(plan),
		bodyIdle:    plan.Limits.BodyIdle,
		log:         log,
		access:      plan.Log.Access,
	}
}

// errRate is the refusal of a request that others of the same client have left no room for:
// "429 ... indicates that the user has sent too many requests in a given amount of time"
// RFC 6585, section 4.
var errRate = &message.Refusal{Status: 429, Cause: "more requests than limits.rate"}

// A passage is an exchange on its way through the forwarder, and what the log
// will say of it.
type passage struct {
	exchange *message.Exchange
	site     *site // nil until it was found
	app      *upstream.App
	share    *spool.App  // where bodies wait; nil: they do not
	body     boundedBody // of the request
	held     heldBody    // it, after it has waited
	reply    replyBody   // if that may wait

	received  time.Time // when the body was complete, if it was waited for
	short     bool      // the spool had no room
	queued    time.Duration
	socket    string // "" until a member was leased
	connected time.Time
	replied   time.Time
	status    int    // sent to the client
	sent      int64  // bytes of the reply's body
	cause     string // why the answer is ours or was cut; "" if it is the app's
	unclear   int    // fields that were taken out of the head

	hsts    []byte     // of the site, where the client spoke TLS
	client  netip.Addr // behind trusted proxies; not valid where nobody can tell
	id      []byte     // X-Request-Id
	start   []byte     // X-Request-Start of a trusted proxy; nil without one
	chain   []byte     // X-Forwarded-For
	below   []byte     // the target without the prefix of its route
	scratch []byte
}

// peer is the address that p's request came from, not valid for a unix listener.
func (p *passage) peer() netip.Addr { return p.exchange.Peer.Addr.Addr().Unmap() }

// Serve is message.Handler.
func (f *Forwarder) Serve(ex *message.Exchange) {
	p, ok := f.passages.Get().(*passage)
	if !ok {
		p = new(passage)
	}
	p.reset()
	p.exchange = ex
	f.pass(p)
	if p.held.spool != nil {
		p.held.spool.Close()
	}
	f.logExchange(p)
	p.reset()
	f.passages.Put(p)
}

// reset makes p as new, but for what is worth keeping.
func (p *passage) reset() {
	p.exchange, p.site, p.app, p.share, p.body, p.held = nil, nil, nil, nil, boundedBody{}, heldBody{}
	p.received, p.connected, p.replied, p.queued = time.Time{}, time.Time{}, time.Time{}, 0
	p.socket, p.status, p.sent, p.cause, p.unclear, p.short = "", 0, 0, "", 0, false
	p.client, p.id, p.start, p.hsts = netip.Addr{}, p.id[:0], nil, nil
}

func (f *Forwarder) pass(p *passage) {
	req := &p.exchange.Request
	f.rewriter.identify(p)
	if f.Admits != nil && !f.Admits(f.rewriter.origin(p), p.exchange.Begun) {
		f.refuse(p, errRate)
		return
	}
	site := f.sites.find(req.Authority)
	if site == nil {
		f.answer(p, message.Page{Status: 421, Text: "no site here has this host"}, "no site for host")
		return
	}
	p.site = site
	if secure := f.rewriter.secure(p); secure {
		p.hsts = site.hsts
	} else if site.redirect {
		f.answer(p, message.Page{Status: 308, Location: f.secureLocation(req)}, "")
		return
	}
	if !site.opens(&p.exchange.Peer) {
		f.answer(p, message.Page{Status: 421, Text: "this site asks clients for certificates, and this connection is another's"}, "no connection of this site")
		return
	}
	route := site.find(req.Target)
	if route == nil {
		f.answer(p, message.Page{Status: 404, Text: "no route of this site has this path"}, "no route for path")
		return
	}
	p.app = route.app
	if f.isLast(p) {
		return
	}
	if req.Upgrade == nil && (route.share == nil || !isGRPC(&req.Fields)) {
		p.share = route.share
	}
	if p.app.MaxBody > 0 && req.Length > p.app.MaxBody {
		f.refuse(p, message.ErrBodyTooLong)
		return
	}
	p.body = boundedBody{exchange: p.exchange, max: p.app.MaxBody}
	f.rewriter.rewrite(p)
	if err := f.receive(p); err != nil {
		f.fail(p, err)
		return
	}
	f.rewriter.stamp(p)
	asked := req.Target // which the log names
	p.strip(route.strip)
	f.forward(p)
	req.Target = asked
}

// forward takes p to its app and the reply back.
func (f *Forwarder) forward(p *passage) {
	req := &p.exchange.Request
	lease, err := p.app.Send(req, p.source(), p.exchange.Stream)
	buffered := false
	// Whatever becomes of p, its stream is finished or aborted before the release.
	defer func() {
		if buffered {
			p.reply.end()
		} else {
			lease.Release()
		}
	}()
	p.queued = lease.Queued
	if err != nil {
		f.fail(p, err)
		return
	}
	p.socket, p.connected, p.replied = lease.Socket(), lease.Connected, lease.Replied
	resp, err := f.readReply(p, lease)
	if err != nil {
		f.fail(p, err)
		return
	}
	resp.Fields.Remove(message.SetOf(message.XRequestID))
	resp.Fields.Add("X-Request-Id", p.id)
	p.addHSTS(&resp.Fields)
	f.addAlternative(p, resp)
	never := unbuffered(resp)
	switch p.status = resp.Status; {
	case p.status == 101:
		f.tunnel(p, lease, resp)
	case never || p.share == nil || !p.isWhole():
		f.pipe(p, lease, resp)
	default:
		buffered = true
		p.reply.begin(lease, resp, p.app, p.share)
		f.reply(p, resp)
	}
}

// interimMax bounds the 1xx heads of one reply: an app that sends more is not
// going to answer.
const interimMax = 16

// readReply reads the head that counts, and passes on those before it.
func (f *Forwarder) readReply(p *passage, lease *upstream.Lease) (*message.Response, error) {
	for range interimMax {
		resp, err := lease.ReadReply(&p.exchange.Request)
		if err != nil || !resp.Interim() {
			return resp, err
		}
		if err := p.exchange.Stream.Reply(resp); err != nil {
			return nil, err
		}
	}
	return nil, message.ErrInterimTooMany
}

// pipe hands the reply of an app to the client as it comes.
func (f *Forwarder) pipe(p *passage, lease *upstream.Lease, resp *message.Response) {
	stream := p.exchange.Stream
	err := stream.Reply(resp)
	if err == nil {
		p.sent, err = stream.ReadFrom(lease)
	}
	if err == nil {
		err = stream.Finish(tailOf(lease, resp))
	}
	if err != nil {
		f.cut(p, err)
	} else if surplus := lease.Surplus(); surplus != nil {
		f.blameSurplus(p, surplus)
	}
}

// reply is pipe for a reply that may wait.
func (f *Forwarder) reply(p *passage, resp *message.Response) {
	stream, body := p.exchange.Stream, &p.reply
	err := stream.Reply(resp)
	if err == nil {
		p.sent, err = stream.ReadFrom(body)
	}
	if err == nil {
		err = stream.Finish(body.tail())
	}
	p.short = p.short || body.short
	if err != nil {
		f.cut(p, err)
	} else if surplus := body.excess(); surplus != nil {
		f.blameSurplus(p, surplus)
	}
}

func (f *Forwarder) blameSurplus(p *passage, surplus *upstream.Error) {
	f.Meter.refuse("bytes behind a reply")
	f.logFault(p, surplus)
}

// fail answers a request that no app answered.
func (f *Forwarder) fail(p *passage, err error) {
	var fault *upstream.Error
	var refusal *message.Refusal
	switch {
	case errors.As(err, &fault) && fault.Op == upstream.Queue:
		cause := causeOf(err)
		f.answer(p, message.Page{Status: fault.Status(), Text: cause}, cause)
	case errors.As(err, &fault):
		p.socket, p.connected, p.replied = fault.Socket, p.exchange.Begun, p.exchange.Begun
		f.logFault(p, fault)
		f.answer(p, message.Page{Status: fault.Status()}, causeOf(err))
	case errors.As(err, &refusal):
		f.refuse(p, refusal)
	case f.failSpool(p, err):
		f.answer(p, message.Page{Status: 503}, causeSpool)
	default:
		f.cut(p, err)
	}
}

// cut ends an exchange whose answer has begun, or whose client has left.
func (f *Forwarder) cut(p *passage, err error) {
	var fault *upstream.Error
	if errors.As(err, &fault) {
		f.logFault(p, fault)
	}
	if p.cause = causeOf(err); f.failSpool(p, err) {
		p.cause = causeSpool
	}
	p.exchange.Stream.Abort(message.Reason{Cause: p.cause, Code: codeOf(err)})
}

// codeOf is what an app has reset an exchange by, CodeNone if it was not that.
func codeOf(err error) message.Code {
	if reset, ok := errors.AsType[*message.ResetError](err); ok {
		return reset.Code
	}
	return message.CodeNone
}

// causeSpool is a spool that failed, beyond having no room.
const causeSpool = "spool failed"

// refuse answers a request that breaks a rule or a limit.
func (f *Forwarder) refuse(p *passage, refusal *message.Refusal) {
	f.answer(p, message.Page{Status: refusal.Status, Text: refusal.Cause}, refusal.Cause)
}

// answer answers with a page of ours; cause is "" where that is no failure.
func (f *Forwarder) answer(p *passage, page message.Page, cause string) {
	p.status, p.cause, page.ID, page.HSTS = page.Status, cause, p.id, p.hsts
	if err := page.Send(p.exchange.Stream); err != nil {
		f.cut(p, err)
	}
}

// secureLocation is where a request should have gone: the same host and target
// over TLS, at the port that the world sees.
func (f *Forwarder) secureLocation(req *message.Request) string {
	host, _, _ := message.SplitPort(req.Host)
	location := "https://" + string(host)
	if f.port != 443 {
		location += ":" + strconv.Itoa(f.port)
	}
	if req.Target[0] == '*' {
		return location
	}
	return location + string(req.Target)
}

// A boundedBody is the body of a request, as far as the app's max_body lets it.
type boundedBody struct {
	exchange *message.Exchange
	max      int64 // 0: no limit
	taken    int64
	unclear  int // fields that were taken out of the trailer
}

// Next is message.Source.
func (b *boundedBody) Next() ([]byte, error) {
	piece, err := b.exchange.Stream.Next()
	b.taken += int64(len(piece))
	switch {
	case b.max > 0 && b.taken > b.max:
		return nil, message.ErrBodyTooLong
	case err == io.EOF:
		req := &b.exchange.Request
		b.unclear = req.Trailer.RemoveUnclear()
		req.Trailer.RemoveNamed(&req.Fields)
	}
	return piece, err
}

// Ready is message.Source.
func (b *boundedBody) Ready() bool { return b.exchange.Stream.Ready() }
