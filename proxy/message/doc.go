// Package message is the seam between the engines that speak HTTP and the
// forwarder that decides: a Request comes in, a Response goes out, an Exchange
// is the pair of them, and a Stream is the half of it that an engine provides.
//
// Everything that differs between HTTP/1.1, HTTP/2 and HTTP/3 is behind Stream;
// every policy is in front of it. The rules that keep a message from being read
// in two ways (rules.go) are here too, so that each engine obeys the same ones.
//
// # Ownership
//
// The bytes of a Request, a Response and their Fields belong to the Exchange:
// they are valid until Serve returns, and reused for the next exchange after
// that. Nothing in this package allocates once its buffers have grown.
package message
