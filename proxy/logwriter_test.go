package proxy

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// A stuckWriter takes nothing until it is released.
type stuckWriter struct {
	entered, release chan struct{}
	bytes.Buffer
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	select {
	case w.entered <- struct{}{}:
	default:
	}
	<-w.release
	return w.Buffer.Write(p)
}

func TestLogWriterNeverWaits(t *testing.T) {
	to := &stuckWriter{entered: make(chan struct{}, 1), release: make(chan struct{})}
	w := NewLogWriter(to)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	if _, err := w.Write([]byte("first\n")); err != nil {
		t.Fatal(err)
	}
	<-to.entered
	for range logBytesMax/len(line) + 7 {
		if n, err := w.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	close(to.release)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	<-w.done
	got := to.String()
	if !strings.HasPrefix(got, "first\n"+string(line)) || strings.Count(got, string(line)) != logBytesMax/len(line) ||
		!strings.Contains(got, `"count":7,"message":"log lines dropped"}`+"\n") {
		t.Errorf("%d bytes, %.200q", len(got), got[max(0, len(got)-200):])
	}
	_, _ = w.Write(line) // after Close: dropped, and nobody waits
}

func TestLogWriterKeepsOrder(t *testing.T) {
	var to bytes.Buffer
	w := NewLogWriter(&to)
	want := ""
	for i := range 1000 {
		line := strings.Repeat("y", i%50) + "\n"
		want += line
		_, _ = io.WriteString(w, line)
	}
	_ = w.Close()
	<-w.done
	if to.String() != want {
		t.Error("lines were lost or changed places")
	}
}
