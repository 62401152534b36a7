package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

func TestLetter(t *testing.T) {
	now := time.Date(2026, 11, 5, 17, 0, 1, 2e6, time.Local)
	utc := now.UTC().Format(timeForm)
	for _, c := range []struct {
		form       conf.LogForm
		line, want string
	}{
		{conf.LogUnix, `{"level":"info","x":1}`, `<30>Nov  5 17:00:01 sallyport: {"level":"info","x":1}`},
		{conf.LogUDP, `{"time":"2026-11-25T17:00:00.000Z","level":"warn"}`, `<28>1 ` + utc + ` h sallyport - - - {"time":"2026-11-25T17:00:00.000Z","level":"warn"}`},
		{conf.LogUnix, `{"level":"error"}`, `<27>Nov  5 17:00:01 sallyport: {"level":"error"}`},
		{conf.LogUnix, `{"level":"debug"}`, `<31>Nov  5 17:00:01 sallyport: {"level":"debug"}`},
		{conf.LogUnix, "panic: x", "<27>Nov  5 17:00:01 sallyport: panic: x"},
		{conf.LogUnix, "", "<30>Nov  5 17:00:01 sallyport: "},
		// What a client sent does not count.
		{conf.LogUnix, `{"level":"info","target":"\"level\":\"error\""}`, `<30>Nov  5 17:00:01 sallyport: {"level":"info","target":"\"level\":\"error\""}`},
	} {
		if got := string(letterhead{c.form, "h"}.letter(now, []byte(c.line))); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// pieces reads a text in pieces of one length.
type pieces struct {
	text string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(p.size, len(b))], p.text)
	p.text = p.text[n:]
	return n, nil
}

// TestScribeLines shows that lines are written whole, however they arrive.
func TestScribeLines(t *testing.T) {
	long := strings.Repeat("x", scribeBytesMax+10)
	text := "one\ntwo\n\n" + long + "\nlast, without an end"
	for _, size := range []int{1, 3, 4096, 1 << 20} {
		file, err := os.Create(t.TempDir() + "/log")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s := &scribe{form: letterhead{form: conf.LogFile}, log: io.Discard, target: int(file.Fd())}
		if err := s.copy(&pieces{text, size}); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(file.Name()); err != nil || string(got) != text {
			t.Errorf("in pieces of %d: %d bytes, %v", size, len(got), err)
		}
	}
}

// TestScribeLoses shows that lines which the target does not take are counted and said, and
// that nobody waits.
func TestScribeLoses(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full)
	var said bytes.Buffer
	s := &scribe{form: letterhead{form: conf.LogFile}, log: &said, target: full}
	s.write([]byte("one\ntwo\n"))
	s.write([]byte("three\n"))
	if s.dropped != 3 || strings.Count(said.String(), "log not written") != 1 || !strings.Contains(said.String(), "no space left") {
		t.Errorf("%d lost: %s", s.dropped, said.String())
	}
	s.target = pipe[1]
	s.write([]byte("four\n"))
	got := make([]byte, 4096)
	n, err := unix.Read(pipe[0], got)
	if err != nil || !strings.Contains(string(got[:n]), `"log lines dropped","count":3}`+"\nfour\n") || s.dropped != 0 {
		t.Errorf("%q, %v", got[:n], err)
	}
	unix.Close(pipe[0])
	unix.Close(pipe[1])
}

func FuzzLetter(f *testing.F) {
	f.Add([]byte(`{"level":"info"}`))
	f.Add([]byte("panic"))
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, form := range []conf.LogForm{conf.LogUnix, conf.LogUDP} {
			got := letterhead{form, "h"}.letter(time.Time{}, line)
			if !bytes.HasSuffix(got, line) || got[0] != '<' {
				t.Errorf("%q", got)
			}
		}
	})
}
