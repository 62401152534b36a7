package spool

import (
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// This file has the writer's half of a spool, and its end; read.go the reader's.

// A Spool is one body that waits. One goroutine writes and one reads, at the same
// time if they like; whoever opened it closes it when both are done.
type Spool struct {
	app     *App
	arena   *Arena
	request bool
	wake    chan struct{} // for the reader: there is more, or the end
	room    chan struct{} // for the writer: see Await
	timer   *time.Timer   // of Await; nil until it was needed

	mu       sync.Mutex
	kept     bool   // what was read is not freed
	piece    []byte // nil until the first byte
	outgrown []byte // the piece that was too small, while the reader has it
	memStart int64  // what is in piece: these bytes of the body ...
	memEnd   int64  // ... until the reader has had them; then it may be his buffer
	extents  []extent
	runs     int    // taken so far, at most 4: each is twice as long as the one before
	reserved bool   // a buffer for reading is counted, beside piece
	buffer   []byte // that one; nil until it is needed
	written  int64
	read     int64
	cursor   int   // of extents: where the reader is
	lent     bool  // the reader has a part of piece or of buffer
	writing  bool  // the last extent is being written
	ended    error // nil until the end; io.EOF, or why it came too early
	gone     error // nil until the reader goes

	// Guarded by the arena's mu.
	credit      int64 // charged, and not yet used
	need        int64 // what the last write lacked
	dry         bool  // what it lacked was the disk's
	ticket      int64
	age, wait   place
	overflowing bool
}

// An extent is where a part of the body is in the file: from byte at on.
type extent struct {
	run
	at   int64
	sent bool // was offered by Range
}

func (e *extent) end() int64 { return e.at + e.n<<blockShift }

// Write appends p. When there is no room for all of it, it returns how much it
// took and an error that is ErrFull; see Await. It never waits for anybody. Other errors are those of
// the disk, the cause of CloseRead, and that of writing after the end.
func (s *Spool) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = s.writeSome(p[n:])
		n += m
	}
	return n, err
}

func (s *Spool) writeSome(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone != nil:
		return 0, s.gone
	case s.ended != nil:
		return 0, errClosed
	case s.caughtUp():
		s.startAgain()
	}
	if len(s.extents) == 0 {
		if n, err = s.intoMemory(p); n > 0 || err != nil {
			return n, err
		}
	}
	return s.intoFile(p)
}

// Reserve has memory for the body of a reply, or says what is used up. A Spool that
// has some needs no room of others to go on: its reader makes it.
func (s *Spool) Reserve() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.piece != nil {
		return nil
	}
	return s.grow(0, largeBytes)
}

// CaughtUp reports whether the reader has had everything, and waits for more.
func (s *Spool) CaughtUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caughtUp()
}

// caughtUp reports whether all memory of s is free for the writer, because the
// reader has had everything and has nothing of it in hands.
func (s *Spool) caughtUp() bool {
	return !s.kept && !s.lent && s.read == s.written && s.written > s.memStart
}

// startAgain lets the body go on in memory.
func (s *Spool) startAgain() {
	s.memStart, s.memEnd = s.written, s.written
	s.freeExtents(len(s.extents))
	s.runs = 0
}

// intoMemory copies as much of p as fits into the piece; 0 when it is full.
func (s *Spool) intoMemory(p []byte) (int, error) {
	used := int(s.memEnd - s.memStart)
	if used == len(s.piece) {
		if used == largeBytes {
			return 0, nil
		}
		if err := s.grow(used, used+len(p)); err != nil {
			return 0, err
		}
	}
	n := copy(s.piece[used:], p)
	s.memEnd += int64(n)
	s.written += int64(n)
	signal(s.wake)
	return n, nil
}

// grow makes the piece large enough for wanted bytes, as far as pieces go.
func (s *Spool) grow(used, wanted int) error {
	a := s.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes := largeBytes
	if wanted <= smallBytes {
		bytes = smallBytes
	}
	err := a.admit(s, int64(bytes))
	if err != nil && bytes == largeBytes && s.piece == nil {
		bytes = smallBytes
		err = a.admit(s, int64(bytes))
	}
	if err != nil {
		return err
	}
	old := s.piece
	s.piece = a.piece(bytes)
	if old == nil {
		return nil
	}
	copy(s.piece, old[:used])
	if s.lent {
		s.outgrown = old
		return nil
	}
	a.freePiece(old)
	a.release(s.app, int64(len(old)))
	return nil
}

// intoFile writes a part of p behind what is in the file. It gives up mu while it does.
func (s *Spool) intoFile(p []byte) (int, error) {
	a := s.arena
	if len(s.extents) == 0 || s.extents[len(s.extents)-1].end() == s.written {
		if err := s.extend(); err != nil {
			return 0, err
		}
	}
	tail := s.extents[len(s.extents)-1]
	p = p[:min(int64(len(p)), tail.end()-s.written)]
	offset := tail.first<<blockShift + s.written - tail.at
	s.writing = true
	s.mu.Unlock()
	n, err := a.pwrite(p, offset)
	if errors.Is(err, ErrFull) {
		a.mu.Lock()
		s.dry = true
		s.app.refused++
		a.mu.Unlock()
	}
	s.mu.Lock()
	s.writing = false
	s.written += int64(n)
	if s.gone != nil {
		s.freeExtents(len(s.extents))
		return n, s.gone
	}
	if n > 0 {
		signal(s.wake)
	}
	return n, err
}

// extend takes the next blocks of the file, and before the first ones of a kept
// body the buffer that they will be read into: whoever may write can be read.
func (s *Spool) extend() error {
	a := s.arena
	if s.kept && !s.reserved {
		a.mu.Lock()
		err := a.admit(s, largeBytes)
		a.mu.Unlock()
		if err != nil {
			return err
		}
		s.reserved = true
	}
	r, err := a.blocksFor(s, min(runBlocksMax, int64(1)<<s.runs))
	if err != nil {
		return err
	}
	s.runs = min(s.runs+1, 4)
	s.extents = append(s.extents, extent{run: r, at: s.written})
	return nil
}

// pwrite writes all of p, unless there is an error. A full disk gets back what is
// warm before it is one.
func (a *Arena) pwrite(p []byte, offset int64) (n int, err error) {
	cooled := false
	for n < len(p) {
		m, err := unix.Pwrite(a.fd, p[n:], offset+int64(n))
		n += max(0, m)
		switch {
		case err == unix.EINTR:
		case noSpace(err) && !cooled:
			cooled = true
			a.mu.Lock()
			for a.cool() {
			}
			a.mu.Unlock()
		case err == nil && m == 0:
			return n, a.failed("pwrite64", io.ErrShortWrite)
		case err != nil:
			return n, a.failed("pwrite64", err)
		}
	}
	return n, nil
}

// failed is an error of the arena's file.
func (a *Arena) failed(op string, err error) error {
	if a.folder == "" {
		return &MemoryError{op, err}
	}
	return &FolderError{a.folder, op, err}
}

// freeExtents gives back the first n extents.
func (s *Spool) freeExtents(n int) {
	for _, e := range s.extents[:n] {
		s.arena.freeBlocks(s, e.run, e.sent)
	}
	s.extents = slices.Delete(s.extents, 0, n)
	s.cursor = max(0, s.cursor-n)
}

// CloseWrite ends the body: whole when cause is nil, otherwise with the reason why
// there is no more of it, which the reader gets behind what was written.
func (s *Spool) CloseWrite(cause error) {
	s.end(cause)
	s.arena.mu.Lock()
	overflowing := s.overflowing
	s.arena.mu.Unlock()
	if !overflowing {
		s.complete()
	}
}

// end notes the end; the first one counts.
func (s *Spool) end(cause error) {
	if cause == nil {
		cause = io.EOF
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = cause
	}
	signal(s.wake)
}

// Len is how many bytes were written: the length of the body, after CloseWrite(nil).
func (s *Spool) Len() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// Close gives everything back. Nobody writes or reads any more, and s is not to be
// used again.
func (s *Spool) Close() {
	s.complete()
	s.freeExtents(len(s.extents))
	a := s.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	charged := s.credit
	for _, piece := range [...][]byte{s.piece, s.outgrown, s.buffer} {
		if piece != nil {
			a.freePiece(piece)
		}
	}
	charged += int64(len(s.piece) + len(s.outgrown))
	if s.reserved {
		charged += largeBytes
	}
	p := s.app
	s.reset()
	a.spoolings--
	if len(a.idle) < idleSpoolsMax {
		a.idle = append(a.idle, s)
	}
	a.release(p, charged)
}

// extentsKeptMax bounds what an idle Spool holds: those of a body of 30 MiB.
const extentsKeptMax = 32

// reset makes s as new, but for what is worth keeping. What is left in a channel
// wakes somebody who looks around and waits again.
func (s *Spool) reset() {
	extents := s.extents[:0]
	if cap(extents) > extentsKeptMax {
		extents = nil
	}
	arena, wake, room, timer := s.arena, s.wake, s.room, s.timer
	*s = Spool{arena: arena, wake: wake, room: room, timer: timer, extents: extents}
	s.age.spool, s.wait.spool = s, s
}
