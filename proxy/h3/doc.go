// Package h3 speaks HTTP/3 to clients, as a server (RFC 9114).
//
// It is h2's sibling behind message.Stream: an Engine serves connections, whose streams are
// exchanges. QUIC is quic-go's, and so is the decoder of field sections; frames, and what goes
// out, are our own.
//
//	quic-go ─► acceptLoop ── stream ──► worker: head ──► Handler
//	                                       │ DATA, blocking reads of the stream
//	           partings ◄── ends of answers┘
//	              │ once a turn
//	           flusher ─► quic-go ─► client
//
// # Waiting
//
// A connection has five goroutines while it is idle: two of quic-go, which receive and send, and
// three of ours, which wait for streams, for streams without a request, and at the client's
// control stream. An exchange has a worker of the loop from its first byte on. It waits for its
// client in Next for a body and in Write for room; the end of an answer is handed to the flusher
// and waits for nobody (part.go).
//
// # Bounds
//
// Of a connection: limits.streams exchanges, and a stream that was reset counts as one until its
// exchange is over, so that resetting gains nothing; connWindow bytes of bodies that came and were
// not read; heads as in HTTP/1, of twice limits.head in the form of QPACK; 64 KiB of frames that nobody
// knows in a request. Who has more streams reset than limits.stream_resets, or sends more than
// limits.control_frames that carry nothing, is disconnected, with the reason counted and logged as a
// refusal of status 0. Of all: handshakes under way (listen.go).
//
// # Malformed requests
//
// A request that breaks a rule of message is answered with the refusal's page, and the rest of it is
// refused with H3_MESSAGE_ERROR. Its connection goes on. What breaks the framing ends the connection.
//
// # Sockets
//
// Of an address with slots (package sockets) every core has a socket of its own, and what a retired core has
// stays its own. A socket that is awaited is the only one of its address: Retire refuses new connections
// (CONNECTION_REFUSED), ends those without an exchange, and closes it behind the last one.
//
// # Decisions
//
// 2026-11-26. The streams of QPACK are not read, so their end is not noticed, which should end the connection
// (RFC 9204, section 4.2): it would take two more goroutines of every idle connection.
//
// 2026-11-25. Not quic-go's own package http3: its requests and answers are those of net/http, which would be
// made of ours and back, and which cannot carry every refusal, interim reply and trailer as the seam wants it.
//
// 2026-11-25. No 0-RTT: what comes so can be sent again by whoever has seen it, to any core, and no core
// knows what another one has answered. No push. No table for the compression of fields: a section
// is decoded alone, and no stream waits for another.
//
// 2026-11-25. No pings of ours. "Servers SHOULD NOT actively keep connections open" RFC 9114, section 5.1; who
// waits for an answer pings himself.
package h3
