package e2e

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A line is one line of a house's stderr.
type line struct {
	text  string
	facts map[string]any // nil when the line is not JSON
}

// has says whether the line has this message and all these facts, which are
// written "name=value". A value ending in "*" is a prefix.
func (l line) has(message string, facts []string) bool {
	if l.facts["message"] != message {
		return false
	}
	for _, fact := range facts {
		name, want, _ := strings.Cut(fact, "=")
		got, is := l.facts[name]
		text := fmt.Sprint(got)
		prefix, open := strings.CutSuffix(want, "*")
		if !is || (text != want && !(open && strings.HasPrefix(text, prefix))) {
			return false
		}
	}
	return true
}

// A journal is everything a house logs. All processes of a house share its
// stderr, so the journal ends when the last of them is gone.
type journal struct {
	ended chan struct{} // closed at the end of stderr

	mu    sync.Mutex
	lines []line
}

// follow reads a house's stderr until its end.
func follow(stderr io.Reader) *journal {
	j := &journal{ended: make(chan struct{})}
	go j.read(stderr)
	return j
}

// read is stopped by the end of the stream.
func (j *journal) read(stderr io.Reader) {
	defer close(j.ended)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		l := line{text: lines.Text()}
		l.facts, _ = object(l.text) // mistakes and panics are no JSON, and have no facts
		j.mu.Lock()
		j.lines = append(j.lines, l)
		j.mu.Unlock()
	}
}

// find returns the lines so far with this message and these facts.
func (j *journal) find(message string, facts ...string) []line {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []line
	for _, l := range j.lines {
		if l.has(message, facts) {
			found = append(found, l)
		}
	}
	return found
}

// says reports whether one of the lines so far has this text in it.
func (j *journal) says(text string) bool {
	return j.mentions(text) > 0
}

// mentions tells how many lines have this text in them.
func (j *journal) mentions(text string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if strings.Contains(l.text, text) {
			n++
		}
	}
	return n
}

// count tells how many lines begin with this text.
func (j *journal) count(prefix string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if strings.HasPrefix(l.text, prefix) {
			n++
		}
	}
	return n
}

// wait returns the first line with this message and these facts, and ends the
// test when none comes.
func (j *journal) wait(t *testing.T, message string, facts ...string) line {
	t.Helper()
	var found []line
	if !until(patience, func() bool { found = j.find(message, facts...); return len(found) > 0 }) {
		t.Fatalf("no line %q %v in the log:\n%s", message, facts, j.tail())
	}
	return found[0]
}

// tail is the end of the log, for the report of a failed test: what happened, and the last
// requests, the latest first, and how a process of ours has died of its own fault.
func (j *journal) tail() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var text strings.Builder
	others := 40
	death := slices.IndexFunc(j.lines, line.isDeath)
	for i, l := range slices.Backward(j.lines) {
		dies := death >= 0 && i >= death && i < death+20
		switch {
		case dies:
		case l.has("request answered", nil) && i < len(j.lines)-10, others == 0:
			continue
		default:
			others--
		}
		fmt.Fprintln(&text, "   ", l.text)
	}
	return text.String()
}

// isDeath reports whether Go's runtime begins to say with it why a process ends.
func (l line) isDeath() bool {
	return slices.ContainsFunc([]string{"fatal error: ", "panic: ", "SIG", "runtime: "}, func(s string) bool { return strings.HasPrefix(l.text, s) })
}
