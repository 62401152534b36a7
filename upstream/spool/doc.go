// Package spool is where bodies wait: requests until they are complete, replies
// for clients that read slowly.
//
// A core has one [Arena]: a file that boot made (see [Create]) and memory beside
// it. A [Spool] is one body. Its first 64 KiB are in memory, in a piece of 16 KiB
// as long as that is enough; what is longer goes on in the file, in runs of 64 KiB
// to 1 MiB, each twice as long as the one before. A Spool that frees what is read
// is a ring: a body of any length passes through a little room, in memory alone
// while its reader keeps up.
//
//	client -> Write ... CloseWrite -> [ memory | file ] -> Next, or Range and Skip -> app
//	             | ErrFull
//	             +-> Overflow, if it is the oldest: stop writing, send what there is
//	             |   and then the client's own stream
//	             +-> Await room, no longer than the client may be idle
//
// # What is counted
//
// Pieces and runs count in full, against the app's share and against the whole, in
// bytes: what is in use never is more than either. A kept body (a request) that
// needs the file has 64 KiB more counted, the buffer that it is read into, so that
// whatever could be written can be read. What nobody uses and the system has
// not back ("warm") is at most 8 MiB, and with what is used never more than the
// whole. With a folder, too, the first 64 KiB of each body are in memory: at most
// 64 KiB for each exchange, 128 KiB for a long request, and the size of the spool
// for all of them.
//
// The cores divide the whole among them (conf.Spool). There is no count that they
// share: what one core has left another cannot use, and a core that was taken
// over cannot take what is the others'. The memory's file is sealed at its size.
//
// # Order
//
// Room that is freed is granted to those who wait, in the order in which they
// began to, among those whose app has a share left; nobody who comes later passes
// them. The requests of an app whose end has not come are in the order of
// their opening, for Overflow.
//
// # Nothing is left behind
//
// The file has no name: the kernel frees it with its last descriptor. Who holds a
// descriptor beside the core (a warden, for the next core) Clears it when the core is gone.
// Open does so, too.
//
// # Decisions
//
// 2026-11-25. Blocks of one size with a bitmap, and runs of as many as there are,
// instead of classes of sizes: the last free block can always be had.
//
// 2026-11-25. A file is read with pread64 and not mapped: an error of the disk is
// an error then, and not a SIGBUS.
//
// 2026-11-25. What Range offered is punched before anybody writes there again:
// sendfile(2) gives a socket the pages themselves, and bytes that are written over
// them before the peer has acknowledged are sent in place of the ones that were
// meant. They would be another client's. TestSentPagesAreNotReused shows it.
//
// 2026-11-25. A file system without O_TMPFILE or holes is refused at start: a file
// that is unlinked after its making would be left behind by a crash in between.
package spool
