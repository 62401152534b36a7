package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readme is where the results are shown, from the folder that the benchmark is run in.
const readme = "README.md"

// The lines of the README between which the results stand.
const (
	shownBegin = "<!-- bench: go run ./e2e/bench -redraw FILE writes this -->"
	shownEnd   = "<!-- /bench -->"
)

// redraw makes the table and the picture of kept results anew, and shows them in the
// README. Nothing is measured.
func redraw(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	r, err := parseResults(text)
	if err != nil {
		return fmt.Errorf("bench: %s: %w", path, err)
	}
	if err := r.write(filepath.Dir(path)); err != nil {
		return err
	}
	page, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	shown, err := show(page, r.summary(strings.TrimSuffix(path, filepath.Ext(path))))
	if err != nil {
		return fmt.Errorf("bench: %s: %w", readme, err)
	}
	if err := os.WriteFile(readme, shown, 0o644); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// parseResults reads what results.lines wrote.
func parseResults(text []byte) (results, error) {
	var r results
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if n == 1 {
			if err := json.Unmarshal(lines.Bytes(), &r.Machine); err != nil {
				return r, fmt.Errorf("line 1: %w", err)
			}
			continue
		}
		var f figure
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return r, fmt.Errorf("line %d: %w", n, err)
		}
		r.Figures = append(r.Figures, f)
	}
	if err := lines.Err(); err != nil {
		return r, err
	}
	if len(r.Machine.Date) < len("2006-01-02") || len(r.Figures) == 0 {
		return r, errors.New("is no results file: a machine in the first line and a figure in each other one")
	}
	return r, nil
}

// show puts a summary between the marks of a page.
func show(page, summary []byte) ([]byte, error) {
	begin, end := bytes.Index(page, []byte(shownBegin)), bytes.Index(page, []byte(shownEnd))
	if begin < 0 || end < begin {
		return nil, fmt.Errorf("has no line %s with %s behind it", shownBegin, shownEnd)
	}
	begin += len(shownBegin)
	return slices.Concat(page[:begin], []byte("\n"), summary, page[end:]), nil
}

// summary is the README's part: a row for each work, ours beside the best of the others.
// name is the path of the results' files, without ending.
func (r results) summary(name string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "| | unit | sallyport | best other | ratio |\n|---|---|---|---|---|\n")
	for _, group := range r.works() {
		own := slices.IndexFunc(group, func(f figure) bool { return f.Peer == ours })
		best := slices.IndexFunc(group, func(f figure) bool { return f.Best })
		if own < 0 {
			continue
		}
		f := group[own]
		if best < 0 {
			fmt.Fprintf(&out, "| %s | %s | %s | – | – |\n", f.Title, f.Unit, short(f.Median))
			continue
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s %s | %.2f |\n",
			f.Title, f.Unit, short(f.Median), group[best].Peer, short(group[best].Median), f.Ratio)
	}
	m := r.Machine
	fmt.Fprintf(&out, "\nLess is better. %s, commit %s, %s with %d cores, Linux %s, TCP %s; medians of %d rounds. [All figures](%s.md), and drawn:\n\n",
		m.Date[:len("2006-01-02")], m.Commit, m.CPU, m.Cores, m.Kernel, m.TCP, m.Rounds, name)
	fmt.Fprintf(&out, "![Processor time and memory of sallyport and other proxies](%s.svg)\n", name)
	return out.Bytes()
}
