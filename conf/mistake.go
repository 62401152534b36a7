package conf

import (
	"slices"
	"strconv"
	"strings"
)

// String is "file:line: key: what", without the parts that are not known, and
// the hint on a second line.
func (m Mistake) String() string {
	var b strings.Builder
	if m.File != "" {
		b.WriteString(m.File)
		if m.Line > 0 {
			b.WriteString(":" + strconv.Itoa(m.Line))
		}
		b.WriteString(": ")
	}
	if m.Key != "" {
		b.WriteString(m.Key + ": ")
	}
	b.WriteString(m.What)
	if m.Hint != "" {
		b.WriteString("\nhint: " + m.Hint)
	}
	return b.String()
}

// Error is String: a Mistake is the error of whoever stumbles over it later,
// as boot does over an address that cannot be bound.
func (m Mistake) Error() string { return m.String() }

// sortMistakes puts mistakes in the order in which an editor goes through the file.
func sortMistakes(mistakes []Mistake) {
	slices.SortStableFunc(mistakes, func(a, b Mistake) int { return a.Line - b.Line })
}

// A fault is what is wrong with one value, before its place is known. The zero
// fault is none.
type fault struct {
	what, hint string
}

// none says that nothing is wrong.
func (f fault) none() bool { return f.what == "" }
