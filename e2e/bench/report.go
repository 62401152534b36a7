package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// results are all that a run has shown.
type results struct {
	Machine machine
	Figures []figure
}

// write puts the results into three files, named by date and commit: lines of
// JSON, a table and a picture.
func (r results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("bench: results: %w", err)
	}
	lines, err := r.lines()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, r.Machine.Date[:len("2006-01-02")]+"-"+r.Machine.Commit)
	for _, file := range []struct{ ending, content string }{
		{".jsonl", lines}, {".md", r.table()}, {".svg", r.picture()},
	} {
		if err := os.WriteFile(name+file.ending, []byte(file.content), 0o644); err != nil {
			return fmt.Errorf("bench: results: %w", err)
		}
		fmt.Fprintln(os.Stderr, name+file.ending)
	}
	return nil
}

// lines is the machine in the first line, and a figure in each other one.
func (r results) lines() (string, error) {
	var out bytes.Buffer
	to := json.NewEncoder(&out)
	if err := to.Encode(r.Machine); err != nil {
		return "", fmt.Errorf("bench: results: %w", err)
	}
	for _, f := range r.Figures {
		if err := to.Encode(f); err != nil {
			return "", fmt.Errorf("bench: results: %w", err)
		}
	}
	return out.String(), nil
}

// works groups the figures by work, in the order in which they were made.
func (r results) works() [][]figure {
	var groups [][]figure
	for i, f := range r.Figures {
		if i == 0 || r.Figures[i-1].Work != f.Work {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], f)
	}
	return groups
}

// table is the results in Markdown: a row for each work, a column for each peer.
func (r results) table() string {
	var peers []string
	for _, f := range r.Figures {
		if !slices.Contains(peers, f.Peer) {
			peers = append(peers, f.Peer)
		}
	}
	// Some peers are not at the first work.
	slices.SortStableFunc(peers, func(a, b string) int {
		if a == ours || b == ours {
			return strings.Count(b, ours) - strings.Count(a, ours)
		}
		return strings.Compare(a, b)
	})
	var out strings.Builder
	fmt.Fprintf(&out, "| work | unit | %s |\n", strings.Join(peers, " | "))
	fmt.Fprintf(&out, "|---|---%s|\n", strings.Repeat("|---", len(peers)))
	for _, group := range r.works() {
		fmt.Fprintf(&out, "| %s | %s |", group[0].Title, group[0].Unit)
		for _, peer := range peers {
			i := slices.IndexFunc(group, func(f figure) bool { return f.Peer == peer })
			if i < 0 {
				fmt.Fprint(&out, " – |")
				continue
			}
			fmt.Fprintf(&out, " %s |", group[i].cell())
		}
		fmt.Fprintln(&out)
	}
	return out.String() + "\n" + r.legend()
}

// cell is a figure in the table: median, spread, ratio to the best.
func (f figure) cell() string {
	text := short(f.Median)
	if f.Best {
		text = "**" + text + "**"
	}
	if f.reconnects() {
		text += "\\*"
	}
	if len(f.Rounds) > 1 {
		text += fmt.Sprintf(" (%s–%s)", short(f.Min), short(f.Max))
	}
	if f.Ratio > 0 && !f.Best {
		text += fmt.Sprintf(" ×%.2f", f.Ratio)
	}
	if f.Errors > 0 {
		text += fmt.Sprintf(" %d errors", f.Errors)
	}
	return text
}

// reconnects says whether the peer made a connection for every request to an
// app that would have kept it.
func (f figure) reconnects() bool {
	return f.Connections > 0.5 && strings.HasPrefix(f.Title, "keepalive")
}

// legend says what the table means, and where it was made.
func (r results) legend() string {
	m := r.Machine
	var out strings.Builder
	fmt.Fprintf(&out, `Processor time of all processes of a proxy, or proportional memory; less is better. Medians (least–most) of %d rounds,
×: ratio to the best of the others, which is **bold**; trust it to about ±10 %%. One worker each, 1 KiB bodies, app on a unix socket. All send
X-Forwarded-For, X-Forwarded-Proto and X-Request-Id (h2o: not the last).
`, m.Rounds)
	notes := map[string]string{}
	for _, f := range r.Figures {
		if f.reconnects() {
			notes["*"] = "\\*: opens a connection to the app for each request, though the app keeps them."
		}
		if f.Aside != "" {
			notes[f.Peer] = f.Peer + " is no measure: " + f.Aside + "."
		}
	}
	for _, group := range r.works() {
		if group[0].Note == "" {
			continue
		}
		var said []string
		for _, f := range group {
			said = append(said, f.Peer+" "+f.Note)
		}
		notes[group[0].Work] = "Agreed in " + group[0].Title + ": " + strings.Join(said, ", ") + "; the best is one that did as was asked."
	}
	for _, key := range slices.Sorted(maps.Keys(notes)) {
		fmt.Fprintln(&out, notes[key])
	}
	fmt.Fprintf(&out, "\n%s, commit %s, %.0f minutes. %s, %d cores, %d MiB; %s, Linux %s, TCP %s; %s.\n",
		m.Date, m.Commit, m.Minutes, m.CPU, m.Cores, m.Memory, m.System, m.Kernel, m.TCP, m.Go)
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		fmt.Fprintf(&out, "%s: %s. ", name, m.Versions[name])
	}
	return strings.TrimRight(out.String(), " ") + "\n"
}
