package proxy

import (
	"io"
	"strconv"
	"sync"
	"time"
)

// logBytesMax bounds the lines that wait for a slow reader of our stderr, about
// four thousand of them.
const logBytesMax = 1 << 20

// A LogWriter hands lines to a writer that may stop, and never waits for it: what
// does not fit is dropped, counted, and said in a line of its own.
type LogWriter struct {
	to   io.Writer
	wake chan struct{} // 1 slot: lines, or the end, are there
	done chan struct{} // closed by writeLoop when it has ended

	mu      sync.Mutex
	pending []byte
	dropped int
	closed  bool
}

// NewLogWriter starts a LogWriter. Close ends it.
func NewLogWriter(to io.Writer) *LogWriter {
	w := &LogWriter{to: to, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.writeLoop()
	return w
}

// Write takes one line. It never fails.
func (w *LogWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	if w.closed || len(w.pending)+len(line) > logBytesMax {
		w.dropped++
	} else {
		w.pending = append(w.pending, line...)
	}
	w.mu.Unlock()
	w.signal()
	return len(line), nil
}

func (w *LogWriter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close writes what waits, for at most a second.
func (w *LogWriter) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	select {
	case <-w.done:
	case <-time.After(time.Second):
	}
	return nil
}

// writeLoop writes until Close. Many lines go in one system call: it takes all
// that came while the last call went on.
func (w *LogWriter) writeLoop() {
	defer close(w.done)
	var lines []byte
	for range w.wake {
		w.mu.Lock()
		lines, w.pending = w.pending, lines[:0]
		dropped, closed := w.dropped, w.closed
		w.dropped = 0
		w.mu.Unlock()
		if dropped > 0 {
			lines = append(lines, `{"level":"warn","time":"`...)
			lines = time.Now().UTC().AppendFormat(lines, "2006-01-02T15:04:05.000Z07:00")
			lines = append(lines, `","count":`...)
			lines = strconv.AppendInt(lines, int64(dropped), 10)
			lines = append(lines, `,"message":"log lines dropped"}`+"\n"...)
		}
		_, _ = w.to.Write(lines) // whom should we tell?
		if closed {
			return
		}
	}
}
