package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file is the scribe: the process that writes the log to where the configuration wants
// it. All processes of a service have a pipe for their stderr, and the scribe reads it; what
// a core writes there is read by nobody else. It has its target open, and can open nothing.
// Its end is that of the last writer. How it is started is in scribes.go, how lines are
// written for a syslog daemon in syslog.go.

// A scribe is the process's state.
type scribe struct {
	form letterhead
	log  io.Writer // of its own: the stderr of the start

	address string // of a unix socket, whose daemon may be started anew

	mu      sync.Mutex
	target  int
	dropped int  // lines since the target took the last one
	failing bool // and it was said
}

// scribeBytesMax is the longest line; what is longer is written as several.
const scribeBytesMax = 64 << 10

// scribeCommand is the whole life of a scribe:
//
//	sallyport scribe GIFTS FORM HOST ADDRESS
func scribeCommand(args []string) int {
	err := jail.Seal(jail.Scribe)
	if err == nil && len(args) != 4 {
		err = errors.New("scribe: is started by sallyport run, not by hand")
	}
	if err == nil {
		err = runScribe(args)
	}
	if err != nil {
		newLog(os.Stderr).Error("scribe failed", "error", err)
		return exitMistake
	}
	return exitFine
}

// runScribe writes until there is nobody left who could log anything.
func runScribe(args []string) error {
	// Whoever ends the service ends it too, by closing the pipe; a supervisor may signal all.
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	gifts, err := sockets.TakeGifts(args[0])
	if err != nil {
		return err
	}
	var fds [3]int
	for i, name := range []string{"lines", "target", "orders"} {
		if fds[i], err = gifts.FD(name); err != nil {
			return err
		}
	}
	s := &scribe{form: letterhead{conf.LogForm(args[1]), args[2]}, log: os.Stderr, target: fds[1], address: args[3]}
	lines, err := pollable(fds[0], "lines")
	if err != nil {
		return err
	}
	orders, err := pollable(fds[2], "orders")
	if err != nil {
		return err
	}
	if err := jail.Confine(jail.Scribe); err != nil {
		return err
	}
	go s.targetLoop(orders)
	return s.copy(lines)
}

// targetLoop takes new targets from the main warden. It ends with it.
func (s *scribe) targetLoop(orders *os.File) {
	buffer := make([]byte, orderBytesMax)
	for {
		_, descriptors, err := receiveOn(orders, buffer)
		if err != nil {
			return
		}
		for _, fd := range descriptors {
			s.mu.Lock()
			unix.Close(s.target)
			s.target, s.failing = fd, false
			s.mu.Unlock()
		}
	}
}

// copy writes whole lines of what it reads, until the end.
func (s *scribe) copy(from io.Reader) error {
	buffer := make([]byte, 0, scribeBytesMax)
	for {
		n, err := from.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		whole := bytes.LastIndexByte(buffer, '\n') + 1
		if err != nil || whole == 0 && len(buffer) == cap(buffer) {
			whole = len(buffer)
		}
		if whole > 0 {
			s.write(buffer[:whole])
			buffer = buffer[:copy(buffer, buffer[whole:])]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("scribe: %w", err)
		}
	}
}

// write writes lines, and before them how many the target did not take.
func (s *scribe) write(lines []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped > 0 {
		var said bytes.Buffer
		newLog(&said).Warn("log lines dropped", "count", s.dropped)
		if s.put(said.Bytes()) != nil {
			s.dropped += bytes.Count(lines, []byte("\n"))
			return
		}
		newLog(s.log).Warn("log written again", "dropped", s.dropped)
		s.dropped, s.failing = 0, false
	}
	if s.form.form == conf.LogFile {
		s.lose(lines, s.put(lines))
		return
	}
	now := time.Now()
	for line := range bytes.Lines(lines) {
		s.lose(line, s.put(s.form.letter(now, bytes.TrimSuffix(line, []byte("\n")))))
	}
}

// lose counts lines that the target did not take, and says so once.
func (s *scribe) lose(lines []byte, err error) {
	if err == nil {
		return
	}
	s.dropped += max(1, bytes.Count(lines, []byte("\n")))
	if !s.failing {
		s.failing = true
		newLog(s.log).Error("log not written", "error", err, "hint", "lines are counted until it is mended")
	}
}

// put writes to the target: all of it, or fails. A part of a line is ended by a line feed
// when the next is written.
func (s *scribe) put(message []byte) error {
	if s.form.form == conf.LogUnix {
		return s.send(message)
	}
	for len(message) > 0 {
		n, err := unix.Write(s.target, message)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case s.form.form != conf.LogFile:
			return nil // a datagram is whole
		}
		message = message[n:]
	}
	return nil
}

// send sends a datagram to whoever has the address now. That its last holder has gone is
// told once, as an error of the next call: ECONNRESET or, as send(2) has it, ECONNREFUSED.
func (s *scribe) send(message []byte) error {
	err := unix.Sendto(s.target, message, unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: s.address})
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EINTR) {
		err = unix.Sendto(s.target, message, unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: s.address})
	}
	return err
}
