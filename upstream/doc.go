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
// An app that speaks HTTP/2 (protocol = "h2c") has many requests on each connection: a lease
// has a call there instead of a connection of its own; see links.go. All else is the same.
//
// # Which member
//
// A request goes to the member that has the fewest in flight, over all cores, of those that
// are open (slot.go) and whose checks pass (health.go); of those that are open where none
// passes; and waits, held, where none is open.
//
//	       refuses, or its backlog is full
//	open ───────────────────────────────────► shut, by this core, for a pause
//	  ▲        its pause is over: one more       │
//	  ├── request is sent to look ◄──────────────┤  refusing: 250 ms, doubled up to 2 s
//	  └── a check, or a held request, got in ────┘  full: 1 s
//
// Each core goes by what it has met itself. That a member is lost, which is to have refused
// three times in a row or to be what requests are held for, and that it is back, is on the
// board for the log and the status, and said once for all cores.
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
// 2026-11-25. Only connects count against a member. What it does with a connection that
// it has taken may be the request's doing: one that kills its worker, or takes a minute, sent
// by whoever likes to, must not take the member from all others. Checks are for that.
//
// 2026-11-25. The last member that is open is left out for no reason: a refusal of the app's
// is worth more than one of ours, and costs as little.
//
// 2026-11-26. Calls go to the first connection that has room, by the app's own
// SETTINGS_MAX_CONCURRENT_STREAMS. A server of several processes on one socket is better served
// by a socket for each: a connection is one process's.
//
// 2026-11-25. One core checks for all, by claiming on the board what is due, so that there is
// nobody to elect and to replace. One failure leaves a member out and one success takes it
// back, as in nginx and Caddy: the pause is every, and who wants patience makes that longer.
//
// 2026-11-25. A check has a slot of its member like any request, and is skipped where there
// is none, or where somebody waits for it: more than max_inflight at a time is what its
// user has promised the app not to happen, and an app that works is alive.
//
// 2026-11-25. timeout.connect has something to do only where there is no queue: a
// connect to a unix socket succeeds, fails, or finds the backlog full, at once.
package upstream
