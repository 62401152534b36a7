package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// timeForm is RFC 3339 with milliseconds, as the cores and the keeper log.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// newLog is the log of boot and wardens, which ends up on stderr. Its lines are
// few and log.level does not apply: whoever waits for "ready" can rely on it.
func newLog(to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{ReplaceAttr: houseStyle}
	if isTerminal(2) {
		return slog.New(slog.NewTextHandler(to, options))
	}
	return slog.New(slog.NewJSONHandler(to, options))
}

// isTerminal reports whether a descriptor is one, tty(4).
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// A patientLog hands lines to a writer that may stop, a pipe that nobody reads, and
// never waits for it: a warden has to end others in time. What finds no room is
// dropped, and counted in a line that comes later.
type patientLog struct {
	to      io.Writer
	lines   chan []byte
	end     chan struct{} // closed by flush
	done    chan struct{} // closed by writeLoop when it has ended
	dropped atomic.Int64
}

const (
	patientLines = 256
	flushTime    = 500 * time.Millisecond // half of what is promised after a kill
)

// newPatientLog starts a patientLog; flush ends it.
func newPatientLog(to io.Writer) *patientLog {
	l := &patientLog{
		to: to, lines: make(chan []byte, patientLines),
		end: make(chan struct{}), done: make(chan struct{}),
	}
	go l.writeLoop()
	return l
}

// Write takes one line. It never fails.
func (l *patientLog) Write(line []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(line):
	default:
		l.dropped.Add(1)
	}
	return len(line), nil
}

// flush writes what waits, for at most flushTime.
func (l *patientLog) flush() {
	close(l.end)
	select {
	case <-l.done:
	case <-time.After(flushTime):
	}
}

// writeLoop writes until flush, and then what is there.
func (l *patientLog) writeLoop() {
	defer close(l.done)
	for {
		select {
		case line := <-l.lines:
			l.write(line)
		case <-l.end:
			for len(l.lines) > 0 {
				l.write(<-l.lines)
			}
			return
		}
	}
}

// write writes a line, and how many had no room since the last one.
func (l *patientLog) write(line []byte) {
	_, _ = l.to.Write(line) // whom should we tell?
	if n := l.dropped.Swap(0); n > 0 {
		newLog(l.to).Warn("log lines dropped", "count", n)
	}
}

// houseStyle gives the three common keys the names and forms of all our logs.
func houseStyle(groups []string, fact slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return fact
	}
	switch fact.Key {
	case slog.TimeKey:
		return slog.String("time", fact.Value.Time().UTC().Format(timeForm))
	case slog.LevelKey:
		return slog.String("level", strings.ToLower(fact.Value.String()))
	case slog.MessageKey:
		return slog.String("message", fact.Value.String())
	default:
		return fact
	}
}
