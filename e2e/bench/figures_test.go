package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 100, 2}, 3},
	} {
		before := slices.Clone(test.values)
		if got := median(test.values); got != test.want || !slices.Equal(before, test.values) {
			t.Errorf("median of %v: %v, want %v; now %v", before, got, test.want, test.values)
		}
	}
}

// some are figures of three peers, one of which is aside and the least of all.
func some() []figure {
	peers := []peer{{name: ours}, {name: "nginx"}, {name: "splice", header: header{aside: "it is odd"}}, {name: "absent"}}
	of := func(values ...float64) (list []sample) {
		for _, v := range values {
			list = append(list, sample{value: v, user: v / 4, system: v * 3 / 4, connections: 1, errors: 1, p99: time.Millisecond, note: "X25519"})
		}
		return list
	}
	return compare(work{name: "keepalive", title: "keepalive <all>", unit: "µs/request"}, peers, map[string][]sample{
		ours: of(30, 10, 20), "nginx": of(16, 15, 40), "splice": of(4, 4, 4),
	})
}

func TestCompare(t *testing.T) {
	figures := some()
	if len(figures) != 3 {
		t.Fatalf("%+v", figures)
	}
	for i, want := range []struct {
		peer                         string
		median, min, max, ratio, p99 float64
		best                         bool
		errors                       int
	}{
		{ours, 20, 10, 30, 1.25, 1, false, 3},
		{"nginx", 16, 15, 40, 1, 1, true, 3},
		{"splice", 4, 4, 4, 0.25, 1, false, 3},
	} {
		f := figures[i]
		if f.Peer != want.peer || f.Median != want.median || f.Min != want.min || f.Max != want.max || f.Ratio != want.ratio ||
			f.Best != want.best || f.Errors != want.errors || f.P99 != want.p99 {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
	less := compare(work{note: "X25519MLKEM768"}, []peer{{name: "new"}, {name: "old"}}, map[string][]sample{
		"new": {{value: 5, note: "X25519MLKEM768"}}, "old": {{value: 4, note: "X25519"}},
	})
	if !less[0].Best || less[1].Best {
		t.Errorf("the best is one that agreed to less: %+v", less)
	}
	if alone := compare(work{}, []peer{{name: ours}}, map[string][]sample{ours: {{value: 5}}}); alone[0].Ratio != 0 {
		t.Errorf("a ratio to nobody: %+v", alone)
	}
}

// TestResults writes all three files and reads them as their readers would.
func TestResults(t *testing.T) {
	dir := t.TempDir()
	r := results{Machine: machine{Date: "2026-01-02T03:04:05Z", Commit: "abc", CPU: "A & B <fast>", Rounds: 3}, Figures: some()}
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, ending := range []string{"jsonl", "md", "svg"} {
		text, err := os.ReadFile(filepath.Join(dir, "2026-01-02-abc."+ending))
		if err != nil {
			t.Fatal(err)
		}
		content[ending] = string(text)
	}
	for line := range strings.Lines(content["jsonl"]) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
	for _, want := range []string{
		"| work | unit | sallyport | nginx | splice |\n",
		"| 20.0\\* (10.0–30.0) ×1.25 3 errors | **16.0**\\* (15.0–40.0) 3 errors | 4.00\\* (4.00–4.00) ×0.25 3 errors |\n",
		"splice is no measure: it is odd.\n",
	} {
		if !strings.Contains(content["md"], want) {
			t.Errorf("no %q in\n%s", want, content["md"])
		}
	}
	for picture := xml.NewDecoder(strings.NewReader(content["svg"])); ; {
		if _, err := picture.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, content["svg"])
		}
	}
}

// TestRedraw: what was written is read again, whole, and lands between the marks and
// nowhere else, however often.
func TestRedraw(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	page := "before\n" + shownBegin + "\nold\n" + shownEnd + "\nafter\n"
	if err := os.WriteFile(readme, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	r := results{Machine: machine{Date: "2026-01-02T03:04:05Z", Commit: "abc", CPU: "fast", Cores: 2, Rounds: 3}, Figures: some()}
	if err := r.write("kept"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := redraw("kept/2026-01-02-abc.jsonl"); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	row := "| keepalive <all> | µs/request | 20.0 | nginx 16.0 | 1.25 |\n"
	if !strings.HasPrefix(string(text), "before\n"+shownBegin+"\n| | unit") || !strings.HasSuffix(string(text), "\n"+shownEnd+"\nafter\n") ||
		strings.Contains(string(text), "old") || strings.Count(string(text), row) != 1 || !strings.Contains(string(text), "](kept/2026-01-02-abc.svg)\n") {
		t.Errorf("%s", text)
	}
	for _, bad := range []string{"", "{}\n{}\n", "{\"date\":\"2026-01-02\"}\n", "{\"date\":\"2026-01-02\"}\nno\n"} {
		if _, err := parseResults([]byte(bad)); err == nil {
			t.Errorf("%q was taken for results", bad)
		}
	}
	if _, err := show([]byte(shownEnd+shownBegin), nil); err == nil {
		t.Error("a page without marks was written")
	}
}

// TestWorks: what has to be asked for is no part of a whole run, and what is our own
// business is no other's.
func TestWorks(t *testing.T) {
	all, err := chooseWorks(nil)
	if err != nil || slices.Contains(names(all), "workers") || !slices.Contains(names(all), "beside") {
		t.Errorf("%v, %v", names(all), err)
	}
	asked, err := chooseWorks([]string{"workers"})
	if err != nil || len(asked) != 1 {
		t.Fatalf("%v, %v", names(asked), err)
	}
	two := peer{header: header{program: ours, works: []string{"workers"}}}
	other := peer{header: header{program: "nginx"}}
	if !two.takesPart(asked[0]) || two.takesPart(all[0]) || other.takesPart(asked[0]) || !other.takesPart(all[0]) {
		t.Error("somebody takes part where it should not, or not where it should")
	}
}

func TestOrder(t *testing.T) {
	for round, want := range []string{"abc", "acb", "cab", "cba", "bca", "bac"} {
		if got := string(order([]rune("abc"), round)); got != want {
			t.Errorf("round %d: %s, want %s", round, got, want)
		}
	}
	if got := order([]int(nil), 3); got != nil {
		t.Errorf("%v of nothing", got)
	}
}

func TestParseWrk(t *testing.T) {
	const text = `Running 10m test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.18ms    0.90ms  20.31ms   92.10%
  Latency Distribution
     50%    1.09ms
     75%    1.31ms
     99%  980.00us
  46512 requests in 1.00s, 57MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 10
`
	var s sample
	err := s.parseWrk(text)
	if err != nil || s.p50 != 1090*time.Microsecond || s.p99 != 980*time.Microsecond || s.errors != 20 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := new(sample).parseWrk("unable to connect\n"); err == nil {
		t.Error("nothing was understood, and no error")
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]string{
		"nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.22 25 Aug (running with OpenSSL 3.0.19 27 Jan)\n": "1.22.1, OpenSSL 3.0.19",
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n":                                 "2.6.12-1+deb12u4",
		"h2o version 2.2.5\nOpenSSL: OpenSSL 3.0.19 27 Jan 2026\n":                                             "2.2.5, OpenSSL 3.0.19",
		"wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\n":                                       "4.1.0-3+b2",
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-only", "tls,idle", "-rounds", "2", "-seconds", "0.5"})
	if err != nil || !slices.Equal(o.only, []string{"tls", "idle"}) || o.rounds != 2 || o.out != "" {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse(nil); err != nil || o.out == "" {
		t.Errorf("a whole run is not kept: %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-rounds", "0"}, {"-seconds", "0"}, {"tls"}, {"-colour"}} {
		if o, err := parse(args); err == nil {
			t.Errorf("%v: %+v", args, o)
		}
	}
	if _, err := chooseWorks([]string{"tls", "juggling"}); err == nil {
		t.Error("a work that is not there was chosen")
	}
}
