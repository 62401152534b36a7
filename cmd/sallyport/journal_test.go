package main

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

func TestInJournal(t *testing.T) {
	var stat unix.Stat_t
	if err := unix.Fstat(2, &stat); err != nil {
		t.Fatal(err)
	}
	mine := fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	for stream, want := range map[string]bool{mine: true, "": false, "0:0": false, mine + "1": false, "nonsense": false} {
		if got := inJournal(stream); got != want {
			t.Errorf("%q: %t", stream, got)
		}
	}
}

func TestSpoken(t *testing.T) {
	m := conf.Mistake{Place: conf.Place{File: "s.toml", Line: 3, Key: "listen.htp"}, What: "is no key", Hint: "write http"}
	if got := spoken(m, true); got != "<3>s.toml:3: listen.htp: is no key; hint: write http" {
		t.Error(got)
	}
	if got := spoken(m, false); got != m.String() {
		t.Error(got)
	}
}
