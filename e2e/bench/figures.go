package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A figure is what a peer has shown at a work.
type figure struct {
	Work        string    `json:"work"`
	Title       string    `json:"title"`
	Unit        string    `json:"unit"`
	Peer        string    `json:"peer"`
	Median      float64   `json:"median"`
	Min         float64   `json:"min"`
	Max         float64   `json:"max"`
	Ratio       float64   `json:"ratio,omitempty"` // to the best of the others; 0 without others
	Best        bool      `json:"best,omitempty"`  // it is that best one
	Rounds      []float64 `json:"rounds"`          // in the order in which they were
	User        float64   `json:"user,omitempty"`  // medians, like all below
	System      float64   `json:"system,omitempty"`
	Rate        float64   `json:"rate,omitempty"` // units of work per second
	P50         float64   `json:"p50_ms,omitempty"`
	P99         float64   `json:"p99_ms,omitempty"`
	Memory      float64   `json:"memory_mib,omitempty"` // proportional set size
	Connections float64   `json:"app_connections_per_request"`
	Others      float64   `json:"others"` // processors busy with what is not ours
	Errors      int       `json:"errors"` // of all rounds
	Note        string    `json:"note,omitempty"`
	Aside       string    `json:"aside,omitempty"` // why it is no measure for others
}

// median is the middle one, or between the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// summarise makes one figure of the rounds of a peer.
func summarise(w work, p peer, samples []sample) figure {
	of := func(part func(sample) float64) float64 {
		var values []float64
		for _, s := range samples {
			values = append(values, part(s))
		}
		return median(values)
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	f := figure{
		Work: w.name, Title: w.title, Unit: w.unit, Peer: p.name, Aside: p.header.aside,
		Median:      of(func(s sample) float64 { return s.value }),
		User:        of(func(s sample) float64 { return s.user }),
		System:      of(func(s sample) float64 { return s.system }),
		Rate:        of(func(s sample) float64 { return s.rate }),
		P50:         of(func(s sample) float64 { return ms(s.p50) }),
		P99:         of(func(s sample) float64 { return ms(s.p99) }),
		Memory:      of(func(s sample) float64 { return s.memory }),
		Connections: of(func(s sample) float64 { return s.connections }),
		Others:      of(func(s sample) float64 { return s.others }),
		Note:        samples[0].note,
	}
	for _, s := range samples {
		f.Rounds = append(f.Rounds, s.value)
		f.Errors += s.errors
	}
	f.Min, f.Max = slices.Min(f.Rounds), slices.Max(f.Rounds)
	return f
}

// compare makes the figures of a work, in the order of the peers, and sets them
// in relation to the best of the peers that are not sallyport: of those that did
// the same, where they may agree to less.
func compare(w work, peers []peer, samples map[string][]sample) []figure {
	var figures []figure
	best := -1
	for _, p := range peers {
		if len(samples[p.name]) == 0 {
			continue
		}
		figures = append(figures, summarise(w, p, samples[p.name]))
		f := figures[len(figures)-1]
		measure := p.name != ours && f.Aside == "" && (w.note == "" || w.note == f.Note)
		if measure && (best < 0 || f.Median < figures[best].Median) {
			best = len(figures) - 1
		}
	}
	if best < 0 || figures[best].Median <= 0 {
		return figures
	}
	figures[best].Best = true
	for i := range figures {
		figures[i].Ratio = figures[i].Median / figures[best].Median
	}
	return figures
}

// lines are the figures of a work as they are shown while the benchmark runs.
func lines(figures []figure) string {
	var out strings.Builder
	for _, f := range figures {
		fmt.Fprintf(&out, "  %-15s %8s  %8s – %-8s × %.2f", f.Peer, short(f.Median), short(f.Min), short(f.Max), f.Ratio)
		if f.P99 > 0 {
			fmt.Fprintf(&out, "  %8s/s  p50 %s  p99 %s ms", short(f.Rate), short(f.P50), short(f.P99))
		}
		if f.Memory > 0 {
			fmt.Fprintf(&out, "  %s MiB", short(f.Memory))
		}
		if f.Connections > 0 {
			fmt.Fprintf(&out, "  %.2f app connections/request", f.Connections)
		}
		if f.Errors > 0 {
			fmt.Fprintf(&out, "  %d ERRORS", f.Errors)
		}
		if f.Others > 0.1 {
			fmt.Fprintf(&out, "  others used %.1f CPUs", f.Others)
		}
		fmt.Fprintln(&out, " ", f.Note)
	}
	return out.String()
}

// short writes a number with three digits that count.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
