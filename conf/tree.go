package conf

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// This file turns TOML into a tree of values that know their lines, whatever
// the keys mean. go-toml's expression parser does the lexical part; it is used
// without the decoder, which knows no line of a value and links reflect.

// A shape is what a value is in the text, before its key has a say.
type shape int

const (
	isText shape = iota + 1
	isNumber
	isFlag
	isList
	isTable
	isOther // a float, a date or a time: no key takes one
)

// A value is one value as written.
type value struct {
	shape   shape
	line    int
	text    string            // of a text: its content; of a number, flag or other: as written
	list    []*value          // of a list, in order
	names   []string          // of a table, in the order of the file
	fields  map[string]*value // of a table
	headers bool              // a table that began with [header], a list that [[header]]s made
	closed  bool              // an inline table: complete in its braces
}

// newTable is a table without fields.
func newTable(line int) *value {
	return &value{shape: isTable, line: line, fields: map[string]*value{}}
}

// field is a field of a table; nil when it is not written, or v is nil or no table.
func (v *value) field(name string) *value {
	if v == nil {
		return nil
	}
	return v.fields[name]
}

// put adds a field to a table.
func (v *value) put(name string, field *value) {
	v.names = append(v.names, name)
	v.fields[name] = field
}

// A step is one part of a dotted key.
type step struct {
	name string
	line int
}

// A grower adds one expression after the other to a tree.
type grower struct {
	file     string
	parser   unstable.Parser
	lineBase int    // lines before the text that parser has
	counted  int    // bytes of that text whose line ends are in lines
	lines    int    // line ends in the first counted bytes
	root, at *value // at is the table that keys go to
	path     string // of at, as in messages
	mistakes []Mistake
}

// grow makes the tree of a TOML text. The tree is never nil; with mistakes it
// holds what was understood.
func grow(file string, text []byte) (*value, []Mistake) {
	g := &grower{file: file, root: newTable(1)}
	g.at = g.root
	for {
		g.parser.Reset(text)
		g.counted, g.lines = 0, 0
		for g.parser.NextExpression() {
			g.add(g.parser.Expression())
		}
		var broken *unstable.ParserError
		if !errors.As(g.parser.Error(), &broken) {
			return g.root, g.mistakes
		}
		offset := int(g.parser.Range(broken.Highlight).Offset)
		g.mistakes = append(g.mistakes, g.syntax(text, offset, broken.Message))
		rest := resume(text, offset)
		if rest == len(text) || len(g.mistakes) >= syntaxMistakesMax {
			return g.root, g.mistakes
		}
		g.lineBase += bytes.Count(text[:rest], []byte("\n"))
		text = text[rest:]
	}
}

// syntaxMistakesMax ends the search in a file that is no TOML at all.
const syntaxMistakesMax = 20

// resume finds where to go on after a mistake: the next line that begins as an
// expression does, and after a broken header only another header, because the
// keys below it are not those of the table above.
func resume(text []byte, offset int) int {
	start := bytes.LastIndexByte(text[:offset], '\n') + 1
	header := bytes.HasPrefix(bytes.TrimLeft(text[start:], " \t"), []byte("["))
	for at := start; ; {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			return len(text)
		}
		at += end + 1
		line, isHeader := bytes.CutPrefix(bytes.TrimLeft(text[at:], " \t"), []byte("["))
		line = bytes.TrimPrefix(line, []byte("["))
		if len(line) > 0 && isBareKey(string(line[:1])) && (isHeader || !header) {
			return at
		}
	}
}

// add puts one expression into the tree.
func (g *grower) add(node *unstable.Node) {
	steps := g.steps(node.Key())
	last := len(steps) - 1
	switch node.Kind {
	case unstable.Table, unstable.ArrayTable:
		parent, path := g.walk(g.root, "", steps[:last])
		g.path = joinKey(path, steps[last].name)
		g.at = g.open(parent, steps[last], node.Kind == unstable.ArrayTable)
	case unstable.KeyValue:
		g.pair(g.at, g.path, node)
	}
}

// steps are the parts of a dotted key.
func (g *grower) steps(key unstable.Iterator) []step {
	var steps []step
	for key.Next() {
		part := key.Node()
		steps = append(steps, step{string(part.Data), g.line(part.Raw)})
	}
	return steps
}

// walk follows a dotted key from a table and makes the tables that are missing.
// Where something else is in the way it says so and returns a table that
// belongs to nothing.
func (g *grower) walk(table *value, path string, steps []step) (*value, string) {
	for _, s := range steps {
		path = joinKey(path, s.name)
		next := table.field(s.name)
		switch {
		case next == nil:
			next = newTable(s.line)
			table.put(s.name, next)
		case next.shape == isList && next.headers:
			next = next.list[len(next.list)-1]
		case next.shape != isTable:
			g.mistake(s.line, path, "is no table but a value, since "+lineName(next.line), "")
			next = newTable(s.line)
		case next.closed:
			g.mistake(s.line, path, "is complete in its braces on "+lineName(next.line), "write the key inside the braces")
			next = newTable(s.line)
		}
		table = next
	}
	return table, path
}

// open is the table that a [header] or, with another, a [[header]] begins.
func (g *grower) open(parent *value, s step, another bool) *value {
	was := parent.field(s.name)
	table := newTable(s.line)
	table.headers = true
	switch {
	case was == nil && another:
		parent.put(s.name, &value{shape: isList, line: s.line, headers: true, list: []*value{table}})
	case was == nil:
		parent.put(s.name, table)
	case another && was.shape == isList && was.headers:
		was.list = append(was.list, table)
	case !another && was.shape == isTable && !was.headers && !was.closed:
		was.headers, was.line = true, s.line // [app.shop.queue] came before [app.shop]
		return was
	default:
		g.mistake(s.line, g.path, "is written twice, first on "+lineName(was.line), "put the keys of both into one")
	}
	return table
}

// pair adds key = value to a table.
func (g *grower) pair(table *value, path string, node *unstable.Node) {
	steps := g.steps(node.Key())
	last := len(steps) - 1
	table, path = g.walk(table, path, steps[:last])
	s := steps[last]
	path = joinKey(path, s.name)
	written := g.value(node.Value(), path, s.line)
	if was := table.field(s.name); was != nil {
		g.mistake(s.line, path, "is written twice, first on "+lineName(was.line), "keep one of them")
		return
	}
	table.put(s.name, written)
}

// value makes the value of a node; line is its key's, for the kinds of node
// that do not know their own.
func (g *grower) value(node *unstable.Node, path string, line int) *value {
	v := &value{line: line, text: string(node.Data)}
	switch node.Kind {
	case unstable.String:
		v.shape = isText
	case unstable.Integer:
		v.shape = isNumber
	case unstable.Bool:
		v.shape = isFlag
	case unstable.Array:
		v.shape = isList
		for items := node.Children(); items.Next(); {
			item := items.Node()
			itemLine := line
			if item.Raw.Length > 0 {
				itemLine = g.line(item.Raw)
			}
			v.list = append(v.list, g.value(item, path, itemLine))
		}
	case unstable.InlineTable:
		v = newTable(line)
		for pairs := node.Children(); pairs.Next(); {
			g.pair(v, path, pairs.Node())
		}
		v.closed = true
	default:
		v.shape = isOther
	}
	return v
}

// line is where a range of the text begins. Ranges are asked for nearly in
// order, so that it counts on from the last one.
func (g *grower) line(r unstable.Range) int {
	offset := int(r.Offset)
	if offset < g.counted {
		g.counted, g.lines = 0, 0
	}
	g.lines += bytes.Count(g.parser.Data()[g.counted:offset], []byte("\n"))
	g.counted = offset
	return g.lineBase + 1 + g.lines
}

// mistake notes one.
func (g *grower) mistake(line int, key, what, hint string) {
	g.mistakes = append(g.mistakes, Mistake{Place{g.file, line, key}, what, hint})
}

// joinKey adds a part to a dotted key, in quotes where TOML wants them.
func joinKey(path, name string) string {
	if !isBareKey(name) {
		name = strconv.Quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// isBareKey reports whether TOML takes a key without quotes.
func isBareKey(name string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	return name != "" && strings.IndexFunc(name, odd) < 0
}

// lineName is "line 7".
func lineName(line int) string { return "line " + strconv.Itoa(line) }

// already is the fault of a text that is written on an earlier line; 0 when it
// has none, as an argument of serve.
func already(text string, line int) fault {
	what := strconv.Quote(text) + " is there already"
	if line > 0 {
		what += ", on " + lineName(line)
	}
	return fault{what, "leave one of them out"}
}
