package main

import (
	"strings"
	"testing"
)

// A slow writer takes a line for each word on its channel.
type slow struct {
	strings.Builder
	permit chan struct{}
}

func (s *slow) Write(line []byte) (int, error) {
	<-s.permit
	return s.Builder.Write(line)
}

// TestPatientLog shows that who writes never waits, and what is said of lines lost.
func TestPatientLog(t *testing.T) {
	to := &slow{permit: make(chan struct{})}
	l := newPatientLog(to)
	const lost = 10
	for range patientLines + 1 + lost { // one is being written, or not yet
		if _, err := l.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	close(to.permit)
	l.flush()
	said := to.String()
	if n := strings.Count(said, "line\n"); n < patientLines || n > patientLines+1 {
		t.Errorf("%d lines", n)
	}
	if !strings.Contains(said, "log lines dropped") {
		t.Error(said[max(0, len(said)-200):])
	}
}

// TestPatientLogEnds shows that flush does not wait for ever.
func TestPatientLogEnds(t *testing.T) {
	to := &slow{permit: make(chan struct{})}
	l := newPatientLog(to)
	l.Write([]byte("line\n"))
	l.flush()
	close(to.permit)
	<-l.done
}
