package message

import "io"

// A Spliceable is a Source whose bytes can go from its descriptor to another one
// inside the kernel. Only the engine that sends knows whether it has use for that, and
// only the source whether it has bytes for it now: whoever passes the one to the other
// need not know of either. Next goes on where Splice left off.
type Spliceable interface {
	Source

	// Ahead is how many bytes of the body come next that Splice can move: 0 while there
	// are bytes in a buffer or of a framing before them, or when they are too few to be
	// worth a pipe. It is a bound; where only the end will tell, it is very large.
	Ahead() int64

	// Splice waits for bytes and moves at most most of them, and never more than Ahead,
	// into the empty pipe whose writing end is the descriptor pipe. It returns io.EOF, and
	// no bytes, where the body ends with its connection.
	Splice(pipe int, most int) (int, error)
}

// A Drainable is a Source that may have its bytes from elsewhere when the one that they are
// for is slow, so that where they come from need not wait for it.
type Drainable interface {
	Spliceable

	// Behind tells the source that its last piece was not taken for a moment, and that
	// nobody calls its other methods now. The piece stays valid until the next call of
	// one. It is called again whenever that happens again, also behind the end of the
	// body, until the reply is finished.
	Behind()
}

// A Resetter is a Stream whose client can take a request back while its connection lives.
// Who works for the app of another such connection asks it now and then.
type Resetter interface {
	Stream

	// Gone reports whether the client has reset the exchange, or has left with it. Any
	// goroutine may ask while the exchange lives.
	Gone() bool
}

// Copy is ReadFrom for a Stream that takes bodies by Write alone.
func Copy(to Stream, source Source) (sent int64, err error) {
	for {
		if !source.Ready() {
			if err := to.Flush(); err != nil {
				return sent, err
			}
		}
		piece, err := source.Next()
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, &SourceError{Err: err}
		}
		n, err := to.Write(piece)
		sent += int64(n)
		if err != nil {
			return sent, err
		}
	}
}
