package spool

import (
	"io"

	"golang.org/x/sys/unix"
)

// This file has the reader's half of a spool. It is a message.Source.

// Next waits for the next piece of the body, at most 64 KiB, which is valid until
// the next call. After the last one it returns io.EOF, or what CloseWrite was
// told. It waits for the writer, who always ends with CloseWrite, and so needs no limit.
func (s *Spool) Next() ([]byte, error) {
	for {
		piece, err := s.next()
		if piece != nil || err != nil {
			return piece, err
		}
		<-s.wake
	}
}

// next is Next that returns neither a piece nor an error when it would wait.
func (s *Spool) next() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeBack()
	switch {
	case s.gone != nil:
		return nil, s.gone
	case s.read < s.memEnd:
		piece := s.piece[s.read-s.memStart : s.memEnd-s.memStart]
		s.read, s.lent = s.memEnd, true
		return piece, nil
	case s.read < s.written:
		return s.fromFile()
	case s.ended != nil:
		return nil, s.ended
	}
	signal(s.room) // the writer may start again in memory
	return nil, nil
}

// takeBack ends the validity of what Next returned.
func (s *Spool) takeBack() {
	s.lent = false
	if s.outgrown == nil {
		return
	}
	a := s.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	a.freePiece(s.outgrown)
	a.release(s.app, int64(len(s.outgrown)))
	s.outgrown = nil
}

// fromFile reads a part of the body into memory. It gives up mu while it does.
func (s *Spool) fromFile() ([]byte, error) {
	offset, n := s.stored()
	buffer := s.readBuffer()
	buffer = buffer[:min(n, int64(len(buffer)))]
	s.mu.Unlock()
	n, err := s.arena.pread(buffer, offset)
	s.mu.Lock()
	if n == 0 {
		return nil, err
	}
	s.lent = true
	s.pass(n)
	return buffer[:n], nil
}

// stored is where the reader is in the file, and how much lies there side by side.
func (s *Spool) stored() (offset, n int64) {
	for s.extents[s.cursor].end() <= s.read {
		s.cursor++
	}
	e := &s.extents[s.cursor]
	return e.first<<blockShift + s.read - e.at, min(s.written, e.end()) - s.read
}

// readBuffer is memory to read into. The piece of a body that is not kept has been
// read when its file is, and is free for that.
func (s *Spool) readBuffer() []byte {
	if s.buffer != nil {
		return s.buffer
	}
	if !s.kept {
		return s.piece
	}
	s.arena.mu.Lock()
	defer s.arena.mu.Unlock()
	s.buffer = s.arena.piece(largeBytes)
	return s.buffer
}

// pass moves the reader on, and frees what lies behind him.
func (s *Spool) pass(n int64) {
	s.read += n
	s.freeRead()
}

func (s *Spool) freeRead() {
	if s.kept {
		return
	}
	n := 0
	for n < len(s.extents) && s.extents[n].end() <= s.read {
		n++
	}
	s.freeExtents(n)
}

// pread fills p, unless there is an error; an error only when nothing was read.
func (a *Arena) pread(p []byte, offset int64) (int64, error) {
	n := 0
	for n < len(p) {
		m, err := unix.Pread(a.fd, p[n:], offset+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && m == 0:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			if n > 0 {
				return int64(n), nil
			}
			return 0, a.failed("pread64", err)
		}
		n += m
	}
	return int64(n), nil
}

// Ready reports whether Next would not wait.
func (s *Spool) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read < s.written || s.ended != nil || s.gone != nil
}

// Over is what Next would return instead of a piece, io.EOF or what CloseWrite was told; nil
// when there is one, or may be.
func (s *Spool) Over() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read < s.written {
		return nil
	}
	return s.ended
}

// Range offers the reader a descriptor instead of a piece: n bytes at offset, for
// sendfile(2) or splice(2). It is not ok when there is nothing, or when what comes
// next is in memory: then Next has it. The bytes stay where they are until Skip.
func (s *Spool) Range() (fd int, offset, n int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeBack()
	if s.gone != nil || s.read < s.memEnd || s.read == s.written {
		return -1, 0, 0, false
	}
	offset, n = s.stored()
	// A socket may hold the pages of the file long after sendfile(2) returned.
	s.extents[s.cursor].sent = true
	return s.arena.fd, offset, n, true
}

// Skip says that n bytes of what Range offered were sent.
func (s *Spool) Skip(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass(n)
}

// Rewind sets the reader back to the first byte. It reports whether that is there:
// not after Forget, and never for a reply.
func (s *Spool) Rewind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.kept || s.gone != nil {
		return false
	}
	s.takeBack()
	s.read, s.cursor = 0, 0
	return true
}

// Forget frees what was read, now and from now on: there is no retry any more.
func (s *Spool) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = false
	s.freeRead()
}

// CloseRead says that nobody will read any more, and why: what is in the file is
// freed, and the writer gets cause from Write and Await. The reader calls it.
func (s *Spool) CloseRead(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeBack()
	if s.gone != nil {
		return
	}
	s.gone = cause
	if !s.writing { // otherwise the writer does it
		s.freeExtents(len(s.extents))
	}
	signal(s.room)
}
