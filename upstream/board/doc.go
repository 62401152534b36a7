// Package board is the memory in which all cores of a service count together: how
// many requests each member of an app has, who may send one more, and whose turn it
// is. There is no process that decides. Each core has a row, the others' numbers are
// only read, and the kernel is asked for nothing while a slot is free.
//
// The package imports conf, for the numbers of an app, and nothing else of ours: boot,
// which is root, makes the memory, and the main warden clears rows.
//
// # Words
//
// A word has 64 bits. Every one has a fixed writer, or is taken by compare-and-swap:
//
//	word        number               value                        who writes
//	cleared     1                    time of the last Clear       the warden, a core that opens
//	next        1 per app            the last ticket drawn        all: add
//	head        rows per app         ticket of the oldest that    its row
//	                                 would take a slot; 0: none
//	slot        max_inflight per     row + 1 of its holder;       all: 0 -> own, own -> 0
//	            member               0: free
//	place       queue.len per app    likewise                     likewise
//	queued      rows per app         places that the row has      its row
//	in flight   rows per member      requests that the row has    its row
//	tallies     rows per app and     what the row has counted     its row: add
//	            member, and 3 of     what dead ones had           who clears a row: add
//	            TLS; one row more
//	health      3 per member         see health.go                all
//	key         2, with Addresses    see addresses.go             Create
//	arrivals    2 x 8192, likewise   when the next request would  all
//	                                 be due, in unix nanoseconds
//	connections 2 x 8192 per row     those of some addresses      its row: add
//
// Rows are core slots × Generations: old and new cores count together. A member's limit
// is the number of its slots, and no sum of counts; the counts choose the least busy one
// and are shown to people. An app without a limit has no slots, and an app without a
// queue no places.
//
// # A slot
//
//	        compare-and-swap 0 -> row + 1
//	free ────────────────────────────────────► held by a row
//	 ▲                                            │    │
//	 └── compare-and-swap row + 1 -> 0 ───────────┘    │ its process dies
//	 └── Clear, after wait4(2) ────────────────────────┘
//
// No slot can be lost: a word that is not 0 names its holder, taking and naming are one
// instruction, and so are giving back and forgetting. Between any two instructions at
// which a core can be killed, each word is either free or bears its number, and Clear
// frees whatever does. Clear comes after the process was waited for, so it writes no
// more, and its connections are closed: an app that looks finds them ended before
// anybody has the slot. A core that opens a row clears it too, so that a warden that
// missed one has not lost it. After each Clear every core takes stock: what bears its
// own number and is held by none of its goroutines is freed, which undoes what a core
// that was taken over wrote in its name.
//
// Nor is one held twice: that takes two compare-and-swaps of the same word from 0.
//
// # The line
//
// A request that finds no free slot, or somebody who waits for one, takes a place,
// draws a ticket and joins its own core's part of the line; the core publishes the
// oldest of them as its head. Then, and only then, it looks for a free slot: whoever
// gives a slot back writes the word first and reads the heads afterwards, so that of the
// two, one sees the other (both are sequentially consistent). A core takes a free slot
// for its oldest waiter if no other head is lower; otherwise it wakes the row that has
// the lowest, by its eventfd.
//
// It is first in, first out to within what happens between drawing a ticket and
// publishing it, a few instructions under the lock of one row. A wake-up that is lost
// costs one pause: a process that has waiters looks at its lines every 10 ms, and asks
// then which of its clients have left.
//
// # Lies
//
// A core may be taken over, and writes what it likes. It can free slots of others (an
// app is sent more than its limit), hold all of them (others wait until their time is
// over), or claim to be first for ever: the others lose patience with a head whose turn
// it is and that takes no free slot, after 10 ms, and pass its row over, for 100 ms and
// then up to 1.6 s at a time. So a row that is slow and no liar has its turn again. It can
// say that members fail their checks, so that the others leave them out, but for the last;
// put any numbers before those who ask for the status; and say that an address has many
// connections, or few, or has asked much, so that clients are refused for as long as it
// lives and a second more, or not at all. It cannot make
// another process read or write outside of the memory, for every index comes from the
// Plan and no value is used as one; nor wait for ever; nor take the memory away, as its
// size is sealed. When it dies, slots, places and heads are as they were, those too that it
// gave to rows without a process: the warden clears all of these. A count of requests in
// flight that it wrote over stays wrong by as much, which makes a poor choice of member
// and no loss.
//
// One thing has to be kept from it by the jail: whether a wake-up blocks belongs to the
// descriptors that all share (F_SETFL in fcntl(2), FIONBIO in ioctl(2)). One that blocks and
// is full holds whoever wakes that row, and one that blocks and is empty, the pauses of its row.
package board
