// Package proxy is the forwarder: what becomes of a request between the engine
// that read it and the app that answers it.
//
// # The life of a request
//
//  1. An engine (h1, h2) has read a head, checked it by the rules of package message,
//     and calls Forwarder.Serve with an Exchange.
//  2. sites.go finds the site by authority and the route by path. No site: 421. A
//     site that wants TLS: 308 to it. One that asks clients for certificates, and a
//     connection that has come by another door: 421.
//  3. The body is refused, 413, when it is announced longer than the app's max_body,
//     and cut when it grows longer.
//  4. rewrite.go takes out the fields that only a proxy may set and sets them.
//  5. The body is received, where bodies are buffered (buffer.go): in memory up to 64 KiB,
//     then in the spool. The app hears nothing before it is complete.
//  6. upstream leases a slot on the least busy member, or waits for one in the app's
//     line, connects, sends, and waits for the reply; a failure is answered 502, 503 or
//     504 and logged with its errno. A client that leaves while it waits is forgotten.
//  7. The reply goes to the client as it comes; 101 becomes a tunnel (tunnel.go). Once the
//     client has fallen behind, the rest waits for it in the spool, and the app is free
//     (bufferreply.go).
//  8. The lease is released, one line is logged (accesslog.go), and the counters are
//     raised (meter.go).
//
// # Words
//
// app: what answers requests. member: one of its sockets. site: hosts that are
// served alike. route: the paths of a site that go to an app. exchange: one request
// and its answer. passage: an exchange on its way through the forwarder. stream: the
// engine's half of an exchange. lease: the right to run one request on one member.
// gift: a descriptor handed to a child under a name. link: a socket pair between two
// processes of ours. door: a way in by which clients are asked for certificates, the same for
// sites that ask alike. plan: the configuration with nothing left open. boot, warden,
// keeper, core: our processes.
//
// # Decisions
//
// 2026-11-25. A client is behind when it has taken nothing for 10 ms. On a network that is
// any client whose buffers are full; on a busy machine it may be one that did not get a
// processor, for whom the way through the spool would cost five times as much. So a client
// that has caught up has the lease again.
//
// 2026-11-25. A client that leaves while its body waits for room is seen when it resets, or
// when what it has sent fits into the kernel's buffers: an end behind bytes that nobody reads
// is not to be seen. Such a body waits as long as any other.
package proxy
