// Package h1 speaks HTTP/1.1 and HTTP/1.0: to clients as a server (ClientConn)
// and to apps as a client (AppConn).
//
// Both ends are made of the same parts: reader.go fills a buffer, head.go turns
// the bytes of a head into a message, body.go follows the framing of a body, and
// append.go writes them. A head that breaks a rule of package message is refused
// and its connection ends; nothing that follows it is ever read as a message.
//
// # Waiting
//
// A connection is served by one goroutine that waits in Read (2026-11-25; the
// loop of sockets/loop takes that over behind the same types). Every wait has a
// limit from conf.Limits or conf.App.
//
// # Not here
//
// Which fields a request is given, which app answers it and what is logged:
// package proxy. Where apps are and how many requests they take: package upstream.
package h1
