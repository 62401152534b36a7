// Package upstream knows the apps: which members (sockets) each has, how busy
// they are, and how a request reaches one of them.
//
// A Lease is the right to run one request on one member, and the connection that
// it runs on. A request that could not have reached the app may be tried once
// more on another member; see Lease.retryable.
//
// # Not here yet
//
// 2026-11-25: counts are those of this core alone, and nothing is queued or held;
// a connection carries one request.
package upstream
