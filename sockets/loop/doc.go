// Package loop waits for descriptors, so that goroutines do not have to.
//
// A Loop owns an epoll instance, which is itself nested in Go's poller: no thread
// blocks in it. A Conn is a raw, non-blocking descriptor that the loop watches. Code
// reads and writes it in straight lines, as any net.Conn; where it would block, it
// parks until the loop wakes it. A Conn that is idle has neither goroutine nor
// buffer: it leaves behind a function, which a worker of the loop calls when bytes
// come.
//
//	           bytes, end, or deadline
//	idle ───────────────────────────────► worker calls resume
//	 ▲                                       │ Read, Write: raw system calls
//	 │ Idle(resume)                          ▼
//	 └───────────────────────────────── exchange ◄──► parked (EAGAIN)
//	                                         │ Close
//	                                         ▼
//	                                        gone
//
// # What it does not cost
//
// A descriptor is registered once, edge-triggered, for reading; for writing too from
// the first write on that falls short. A read that returned less than was asked for has
// drained the socket, so that the next one does not try in vain. A deadline is a number in
// the Conn; a sweep looks at all of them ten times a second, and nothing else does.
//
// # Traps, each with a test
//
// An edge may come before the park: there is a flag per direction, cleared before each
// read. Bytes and the end of a connection may share one edge: the end is sticky, and
// reads go on until they see it. After Close, an event of the same batch may still name
// the number, which may be somebody else's by then: events carry the turn at which their
// connection was adopted.
package loop
