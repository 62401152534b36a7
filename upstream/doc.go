// Package upstream knows the apps: which members (sockets) each has, how a request comes
// to a slot of one of them, and how it reaches it.
//
// A Lease is the right to run one request on one member, and the connection that it
// runs on. Slots and the line in front of them are on the board, which all cores share:
// package board. What a request waits for, and how long, is in slot.go. Where it may be
// sent once more is at Lease.repeatable.
//
// A connection that may carry another request is kept for a while, if the app's
// keepalive asks for it: idle, watched by the loop, and gone at once when the app
// closes it; see conn. The one that was used last is taken first.
//
// # What a slot counts
//
// A request has its slot until its lease is released, which is after its connection to
// the app was closed or made idle. An app that goes on with a request whose connection is
// gone, because its client left or its core died, has more at a time than max_inflight:
// nobody can see that from outside.
//
// # Decisions
//
// 2026-11-25. What waits for an absent app waits in the queue, so that there is one
// bound, one order and one clock. The socket is looked for every 20 ms by connecting to
// it, one request at a time; a watch on its folder would need a descriptor for each, and
// says nothing of a socket that is there and refuses.
//
// 2026-11-25. A request that is sent once more to the member that has just failed it waits
// for 100 ms. Processes that are killed together end one after the other, and their socket
// takes connections until the last one has: with unicorn's TERM, 3 of 1,338 GETs met both.
//
// 2026-11-25. A socket that may not be reached (EACCES) counts as absent for a second: there
// are servers that make theirs first and then give it its mode.
//
// 2026-11-25. timeout.connect has something to do only where there is no queue: a
// connect to a unix socket succeeds, fails, or finds the backlog full, at once.
package upstream
