// Package sockets is everything that is a descriptor before it is a connection:
// listeners that are bound or inherited, gifts from one process to the next, also
// many of them as one descriptor, a parcel; sealed memory, and the links over which our
// processes speak.
//
// Descriptors here are plain numbers, close-on-exec from the moment they exist.
// No os.File guards them: a gift outlives every file object, and a finaliser
// that closes a listener is a fault that nobody finds.
//
// # Decisions
//
//   - ":80" is one socket for both address families; "[::]:80" is IPv6 alone
//     and "0.0.0.0:80" is IPv4 alone, so that the two can be written together.
//   - A unix listener has mode 0666, as nginx gives it and as systemd's
//     SocketMode has by default: like a TCP port, it is open to whoever can
//     reach it, and the folder says who that is.
//   - Port 0 is resolved before the bind: a port that the kernel chose is
//     forgotten when a holder disconnects the listener, and could not be healed.
package sockets
