// Package upstream knows the apps: which members (sockets) each has, how busy
// they are, and how a request reaches one of them.
//
// A Lease is the right to run one request on one member, and the connection that it
// runs on. Where a request may be sent once more is at Lease.repeatable.
//
// A connection that may carry another request is kept for a while, if the app's
// keepalive asks for it: idle, watched by the loop, and gone at once when the app
// closes it; see conn. The one that was used last is taken first.
//
// # Not here yet
//
// 2026-11-25: counts are those of this core alone, and nothing is queued or held.
package upstream
