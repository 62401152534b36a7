package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Measures of the picture, in its own pixels. A panel is one work, with a bar
// for each peer.
const (
	columns    = 3
	panelWidth = 330
	panelHead  = 34
	panelGap   = 22
	barHeight  = 17
	nameWidth  = 112
	barWidth   = 118
	margin     = 16
)

// barMost is how many times the best figure fills the panel: what is longer is
// cut, and says so by its end.
const barMost = 3.0

const style = `
svg { font: 12px system-ui, sans-serif; }
rect.paper { fill: #ffffff; } text { fill: #24292f; } text.unit { fill: #57606a; font-size: 11px; } text.title { font-weight: 600; }
rect.bar { fill: #b4bcc6; } rect.ours { fill: #0969da; } text.ours { font-weight: 600; } path.cut { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
rect.paper { fill: #0d1117; } text { fill: #e6edf3; } text.unit { fill: #8d96a0; }
rect.bar { fill: #4a525c; } rect.ours { fill: #4493f8; } path.cut { fill: #0d1117; }
}
`

// picture draws the figures as an SVG that is readable on light and dark paper.
func (r results) picture() string {
	groups := r.works()
	var body strings.Builder
	y := margin + 22
	for row := 0; row < len(groups); row += columns {
		height := 0
		for column, group := range groups[row:min(row+columns, len(groups))] {
			panel(&body, margin+column*panelWidth, y, group)
			height = max(height, panelHead+len(group)*barHeight)
		}
		y += height + panelGap
	}
	width, height := 2*margin+columns*panelWidth, y+margin
	m := r.Machine
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&out, "<title>Processor time and memory of sallyport and other proxies; less is better</title>\n<style>%s</style>\n", style)
	fmt.Fprintf(&out, `<rect class="paper" width="%d" height="%d"/>`+"\n", width, height)
	fmt.Fprintf(&out, `<text class="unit" x="%d" y="%d">Less is better. Processor time of all processes, one worker each; median of %d rounds, × the best other.</text>`+"\n",
		margin, margin+8, m.Rounds)
	out.WriteString(body.String())
	foot := fmt.Sprintf("%s, commit %s, %s, %d cores, Linux %s", m.Date[:len("2006-01-02")], m.Commit, m.CPU, m.Cores, m.Kernel)
	if slices.ContainsFunc(r.Figures, figure.reconnects) {
		foot += ". *: opens a connection to the app for each request"
	}
	fmt.Fprintf(&out, `<text class="unit" x="%d" y="%d">%s</text>`+"\n</svg>\n", margin, y, html.EscapeString(foot))
	return out.String()
}

// panel draws one work.
func panel(out *strings.Builder, x, y int, group []figure) {
	fmt.Fprintf(out, `<text class="title" x="%d" y="%d">%s</text>`+"\n", x, y+10, html.EscapeString(group[0].Title))
	fmt.Fprintf(out, `<text class="unit" x="%d" y="%d">%s</text>`+"\n", x, y+24, html.EscapeString(group[0].Unit))
	least, most := math.Inf(1), 0.0
	for _, f := range group {
		most = max(most, f.Median)
		if f.Aside == "" {
			least = min(least, f.Median)
		}
	}
	most = max(min(most, barMost*least), 1e-9) // of nothing, nothing is drawn
	for i, f := range group {
		top := y + panelHead + i*barHeight
		mark, bar := "", "bar"
		if f.Peer == ours {
			mark, bar = ours, "bar ours"
		}
		length := max(1, int(min(f.Median/most, 1)*barWidth))
		fmt.Fprintf(out, `<text class="%s" x="%d" y="%d">%s</text>`, class(mark), x, top+11, html.EscapeString(f.Peer))
		fmt.Fprintf(out, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="2"/>`, bar, x+nameWidth, top+1, length, barHeight-5)
		if f.Median > most*1.001 {
			end := x + nameWidth + length
			fmt.Fprintf(out, `<path class="cut" d="M%d %dl5 %dh3l-5 -%dz"/>`, end-16, top+1, barHeight-5, barHeight-5)
		}
		value := short(f.Median)
		if f.reconnects() {
			value += "*"
		}
		if f.Ratio > 0 && !f.Best {
			value += fmt.Sprintf(" ×%.2f", f.Ratio)
		}
		fmt.Fprintf(out, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class(mark), x+nameWidth+length+5, top+11, value)
	}
}

// class is that of the text of a peer.
func class(peer string) string {
	if peer == ours {
		return "ours"
	}
	return "peer"
}
