package proxy

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/proxy/message"
	"sallyport/upstream"
)

// The fields of the log. The list is closed: who needs another one adds it here.
//
//	request_id  X-Request-Id, as the app and the client got it
//	peer        address of the client, or of the last proxy before us
//	client      address of the client behind trusted proxies, where it differs
//	protocol    HTTP/1.0, HTTP/1.1, HTTP/2
//	tls         true over TLS
//	method, host, target    of the request
//	status      of the answer; 0: none was sent
//	body_bytes, reply_bytes lengths of the bodies, as they passed
//	app, socket what answered
//	dropped     how many fields did not go to the app, because of "_" or "." in their names
//	cause       why the answer is ours or was cut
//	errno, hint of an app that failed: the kernel's name for it, and what to do
//	ms          from the first byte of the request to the last of the answer
//	queue_ms    of these, waiting for a slot of the app, or for an app that was absent; only
//	            where it had to
//	body_ms     of these, until the body of the request was complete; only where it was waited
//	            for before a slot was
//	spool       "full": there was no room for a body, and a slot was kept while a client was slow
//	connect_ms  until the app had taken the connection, body_ms and queue_ms included
//	app_ms      from there to the first byte of the reply
//	send_ms     from there to the end
const (
	keyRequestID  = "request_id"
	keyPeer       = "peer"
	keyClient     = "client"
	keyProtocol   = "protocol"
	keyTLS        = "tls"
	keyMethod     = "method"
	keyHost       = "host"
	keyTarget     = "target"
	keyStatus     = "status"
	keyBodyBytes  = "body_bytes"
	keyReplyBytes = "reply_bytes"
	keyApp        = "app"
	keySocket     = "socket"
	keyDropped    = "dropped"
	keyCause      = "cause"
	keyErrno      = "errno"
	keyHint       = "hint"
	keyMS         = "ms"
	keyQueueMS    = "queue_ms"
	keyBodyMS     = "body_ms"
	keySpool      = "spool"
	keyConnectMS  = "connect_ms"
	keyAppMS      = "app_ms"
	keySendMS     = "send_ms"
)

// logExchange writes the one line of p.
func (f *Forwarder) logExchange(p *passage) {
	f.Meter.Classes[min(p.status/100, 5)].Add(1)
	dropped := p.unclear + p.body.unclear
	f.Meter.Unclear.Add(uint64(dropped))
	if p.cause != "" {
		f.Meter.refuse(p.cause)
	}
	if !f.access && p.cause == "" {
		return
	}
	e := f.log.Info()
	if e == nil {
		return
	}
	e = requestFields(e, p.exchange)
	if p.client.IsValid() && p.client != p.peer() {
		var scratch [64]byte
		e.Bytes(keyClient, p.client.AppendTo(scratch[:0]))
	}
	e.Bytes(keyRequestID, p.id).Int(keyStatus, p.status).
		Int64(keyBodyBytes, p.body.taken).Int64(keyReplyBytes, p.sent)
	if p.app != nil {
		e.Str(keyApp, p.app.Name)
	}
	if p.queued > 0 {
		e.Float64(keyQueueMS, ms(p.queued))
	}
	if !p.received.IsZero() {
		e.Float64(keyBodyMS, ms(p.received.Sub(p.exchange.Begun)))
	}
	if p.short {
		e.Str(keySpool, "full")
	}
	now := time.Now()
	if p.socket != "" {
		e.Str(keySocket, p.socket).
			Float64(keyConnectMS, ms(p.connected.Sub(p.exchange.Begun))).
			Float64(keyAppMS, ms(p.replied.Sub(p.connected))).
			Float64(keySendMS, ms(now.Sub(p.replied)))
	}
	if dropped > 0 {
		e.Int(keyDropped, dropped)
	}
	if p.cause != "" {
		e.Str(keyCause, p.cause)
	}
	e.Float64(keyMS, ms(now.Sub(p.exchange.Begun))).Msg("request answered")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func requestFields(e *zerolog.Event, ex *message.Exchange) *zerolog.Event {
	if ex.Peer.Addr.IsValid() {
		var scratch [64]byte
		e.Bytes(keyPeer, appendAddr(scratch[:0], ex.Peer.Addr))
	}
	return e.Str(keyProtocol, ex.Protocol).Bool(keyTLS, ex.Request.Secure).
		Bytes(keyMethod, ex.Request.Method).Bytes(keyHost, ex.Request.Host).Bytes(keyTarget, ex.Request.Target)
}

func appendAddr(b []byte, addr netip.AddrPort) []byte {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()).AppendTo(b)
}

// Refused counts and logs a request that broke a rule before it was an exchange.
func (f *Forwarder) Refused(ex *message.Exchange, refusal *message.Refusal) {
	f.Meter.Classes[min(refusal.Status/100, 5)].Add(1)
	f.Meter.refuse(refusal.Cause)
	e := f.log.Info()
	if e == nil {
		return
	}
	if ex.Peer.Addr.IsValid() {
		var scratch [64]byte
		e.Bytes(keyPeer, appendAddr(scratch[:0], ex.Peer.Addr))
	}
	e.Int(keyStatus, refusal.Status).Str(keyCause, refusal.Cause).Msg("request refused")
}

// logFault writes what an app did wrong, for whoever has to mend it.
func (f *Forwarder) logFault(p *passage, fault *upstream.Error) {
	e := f.log.Error().Bytes(keyRequestID, p.id).Str(keyApp, fault.App).Str(keySocket, fault.Socket).
		Str(keyCause, strings.TrimPrefix(fault.Error(), "upstream: "))
	if errno := fault.Errno(); errno != 0 {
		e.Str(keyErrno, unix.ErrnoName(errno))
	}
	if hint := fault.Hint(); hint != "" {
		e.Str(keyHint, hint)
	}
	e.Msg("app failed")
}

// causeOf is why an exchange failed, as a constant that can be counted.
func causeOf(err error) string {
	var refusal *message.Refusal
	if errors.As(err, &refusal) {
		return refusal.Cause
	}
	var fault *upstream.Error
	if errors.As(err, &fault) {
		return fault.Cause()
	}
	return "client gone"
}
