package main

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// line is a whole line of /proc/PID/stat of a process with some name.
func line(pid int, name string, parent, session int, ticks [4]int) string {
	return fmt.Sprintf("%d (%s) S %d %d %d 0 -1 4194560 1 2 3 4 %d %d %d %d 20 0 1 0 99 1024 10\n",
		pid, name, parent, pid, session, ticks[0], ticks[1], ticks[2], ticks[3])
}

func TestParseStat(t *testing.T) {
	for _, test := range []struct {
		name, line string
		want       stat
		err        bool
	}{
		{
			"nginx", line(7, "nginx", 1, 6, [4]int{100, 200, 0, 0}),
			stat{7, 1, 6, 'S', time.Second, 2 * time.Second},
			false,
		},
		{
			"children it has waited for", line(7, "sh", 1, 6, [4]int{1, 2, 10, 20}),
			stat{7, 1, 6, 'S', 110 * time.Millisecond, 220 * time.Millisecond},
			false,
		},
		{
			"a name that looks like more", line(7, "a) R 9 (b", 1, 6, [4]int{0, 0, 0, 0}),
			stat{7, 1, 6, 'S', 0, 0},
			false,
		},
		{"empty", "", stat{}, true},
		{"no name", "7 nginx S 1 7 6", stat{}, true},
		{"cut", "7 (nginx) S 1 7 6 0 -1", stat{}, true},
		{"no number", line(7, "nginx", 1, 6, [4]int{})[:12] + "x" + line(7, "nginx", 1, 6, [4]int{})[13:], stat{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseStat([]byte(test.line))
			if got != test.want || (err != nil) != test.err {
				t.Errorf("%q: %+v, %v; want %+v", test.line, got, err, test.want)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(line(7, "nginx", 1, 6, [4]int{1, 2, 3, 4})))
	f.Add([]byte("7 (a) ("))
	f.Fuzz(func(t *testing.T, line []byte) {
		if s, err := parseStat(line); err != nil && s != (stat{}) {
			t.Errorf("an error, and %+v", s)
		}
	})
}

func TestTree(t *testing.T) {
	all := []stat{
		{pid: 1},
		{pid: 10, parent: 1, session: 10},
		{pid: 11, parent: 10, session: 10},
		{pid: 12, parent: 11, session: 12}, // a session of its own
		{pid: 13, parent: 1, session: 10},  // its parent has ended
		{pid: 14, parent: 99, session: 14}, // its parent is not in the list
		{pid: 20, parent: 1, session: 20},
	}
	var pids []int
	for _, s := range tree(all, 10) {
		pids = append(pids, s.pid)
	}
	if want := []int{10, 11, 12, 13}; !slices.Equal(pids, want) {
		t.Errorf("%v, want %v", pids, want)
	}
}

func TestParseBusy(t *testing.T) {
	got, err := parseBusy("cpu  100 2 30 1000 500 4 5 6 0 0\ncpu0 1 2 3\n")
	if want := 147 * tick; got != want || err != nil {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, text := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu a 2 30 1000 500 4 5 6"} {
		if got, err := parseBusy(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestParsePSS(t *testing.T) {
	got, err := parsePSS("00400000-7ffe [rollup]\nRss:      900 kB\nPss:      512 kB\nPss_Anon: 100 kB\n")
	if got != 512<<10 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	for _, text := range []string{"", "Pss: 5 MB\n", "Pss: x kB\n"} {
		if got, err := parsePSS(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

// TestOwn reads the files of the test itself.
func TestOwn(t *testing.T) {
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	own := tree(all, os.Getpid())
	if len(own) == 0 || own[0].parent != os.Getppid() {
		t.Errorf("%+v", own)
	}
	if memory, err := memoryOf(os.Getpid()); err != nil || memory < 1<<20 {
		t.Errorf("%d bytes, %v", memory, err)
	}
	if all, err := busy(); err != nil || all < costOf(own).total() {
		t.Errorf("busy %v, %v", all, err)
	}
}
