// Package h2 speaks HTTP/2 to clients, as a server (RFC 9113), and to apps, as a client.
//
// It is h1's sibling behind message.Stream: an Engine serves connections, whose streams are
// exchanges. The frames are our own; of the field compression the decoder is
// golang.org/x/net/http2/hpack's, and what goes out is written without a table (encode.go).
//
//	loop ─► reader ── head complete ──► stream (a worker) ──► Handler
//	         │ frames, windows               │ heads, DATA
//	         └────────────► out ◄────────────┘
//	                         │ once a turn
//	                      flusher ─► client
//
// # Waiting
//
// The reader is a worker that takes what has come and parks; an idle connection has no
// goroutine and no buffer. A stream is a worker too. It waits for its client in two places:
// in Next for a body, and in Write for a window or for room in out. Whoever waits in Write is
// served by the flusher, in the order of RFC 9218 (write.go). Nothing waits for the flusher
// to have sent: Flush and Finish return when the bytes are in out, which is bounded.
//
// # Bounds
//
// Of a connection: limits.streams exchanges; connWindow bytes of bodies that came and were
// not read, and largeBytes of what goes out; a head that is not complete, of twice limits.head
// in as many frames as limits.fields. A stream that was reset counts as one until its
// exchange is over, so that resetting gains nothing; who has more of them reset than
// limits.stream_resets, or sends more than limits.control_frames that carry nothing, is
// disconnected, with the reason counted and logged as a refusal of status 0.
//
// # Malformed requests
//
// A request that breaks a rule of message is answered with the refusal's page, as in h1, and
// its stream is reset instead of ended. Its connection goes on: the next stream cannot be
// mistaken for a part of it. What breaks the framing ends the connection.
//
// # Apps
//
// An AppConn is a connection to an app, and a Call one request on it: what h1.AppConn is to
// package upstream. Frames, field sections, windows and pieces of bodies are the same code
// as for clients; who waits for what is not, for there a stream has a goroutine of its own, and
// here a call has those of its caller. Nothing of one call waits for another one: the window
// of the connection is given back when bytes come, those of calls when they are read, so
// that max_inflight times streamWindow bounds what is here. An app that breaks a rule of
// message loses the call, one that breaks the framing the connection.
//
// # Decisions
//
// 2026-11-26. A call is unread, and may be made once more whatever it asks, where the app
// says so (REFUSED_STREAM, a GOAWAY that names an earlier last one), or cannot have read it: it was
// not sent, or its head was the last of all bytes to a socket that was closed with some unread.
//
// 2026-11-26. The first 32 KiB of a request's body are kept until its reply begins, so that
// what is unread can be sent again. They are a copy; more would be a spool.
//
// 2026-11-26. No call begins before the app's settings have come: it costs a new connection one
// way there and back, and a call that is refused for being one too many costs more. An app is not
// pinged, and no push is taken.
//
// 2026-11-26. A client that resets its stream is looked for every 20 ms at first and twice a
// second in the end, while its app is silent: the app of a call that nobody wants is told.
// HTTP/1 has no reset but the end of its connection, which may be half of it alone.
//
// 2026-11-25. No push, no priorities of RFC 7540, no table of our own for the compression
// of answers: it costs memory for each connection and a look for each field.
//
// 2026-11-25. The 101 of an app answers an extended CONNECT (RFC 8441); the key that HTTP/1
// wants with a WebSocket is made here, and its answer checked.
//
// 2026-11-25. limits.keepalive_idle is for HTTP/2 too. PING does not extend it.
package h2
