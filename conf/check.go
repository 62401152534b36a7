package conf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// This file compares the tree with the table of keys: unknown keys, wrong
// types, values out of bounds, and parts that are not built yet. What values
// mean together is the planner's. A value that passes here can be read without a second look.

// A checker walks the tree beside the table of keys.
type checker struct {
	file     string
	keys     keyTable
	mistakes []Mistake
	notices  []Mistake
}

// check finds what is wrong with each key by itself, and what is worth a notice.
func check(file string, root *value, keys keyTable) (mistakes, notices []Mistake) {
	c := &checker{file: file, keys: keys}
	c.table("", "", root)
	return c.mistakes, c.notices
}

// table looks at the keys of one table: name is its name in the table of keys,
// path how a message calls it.
func (c *checker) table(name, path string, t *value) {
	for _, last := range t.names {
		v, place := t.fields[last], Place{c.file, t.fields[last].line, joinKey(path, last)}
		keyName := last
		if name != "" {
			keyName = name + "." + last
		}
		if c.keys[name].kind == takesNamed {
			keyName = name + ".*"
			if f := checkAppName(last); !f.none() {
				c.mistake(place, f)
			}
		}
		k, known := c.keys[keyName]
		if !known || !isBareKey(last) && c.keys[name].kind != takesNamed { // "listen.http" in quotes is another key
			c.mistake(place, c.unknown(name, last))
			continue
		}
		c.key(k, place, v)
	}
}

// unknown says what may have been meant by a key that is in no table.
func (c *checker) unknown(name, last string) fault {
	f := fault{what: "is not a key"}
	below := c.keys.below(name)
	if guess := near(last, below); guess != "" {
		f.hint = "did you mean " + guess + "?"
	} else if !isBareKey(last) {
		f.hint = "write it without quotes"
	} else if homes := c.keys.homes(last); len(homes) > 0 {
		f.hint = last + " belongs " + strings.Join(homes, " or ")
	} else if guess := near(last, c.keys.lasts()); guess != "" {
		f.hint = "did you mean " + guess + ", " + strings.Join(c.keys.homes(guess), " or ") + "?"
	} else if len(below) > 0 {
		f.hint = "known here: " + strings.Join(below, ", ")
	}
	return f
}

// key looks at one value: its type, then whether what it asks for is built.
func (c *checker) key(k key, place Place, v *value) {
	if f := k.check(v); !f.none() {
		c.mistake(place, f)
		return
	}
	reaction := k.on
	if isOff(v) {
		reaction = k.off
	}
	switch reaction {
	case refused:
		c.mistake(place, fault{"not yet: " + k.part, "leave it out"})
		return
	case noticed:
		c.notices = append(c.notices, Mistake{place, "has no effect yet: " + k.part + " is not built", ""})
	case accepted:
	}
	switch {
	case v.shape == isTable:
		c.table(k.name, place.Key, v)
	case k.kind == takesTables:
		for _, t := range v.list {
			c.table(k.name, place.Key, t)
		}
	}
}

// mistake notes one.
func (c *checker) mistake(place Place, f fault) {
	c.mistakes = append(c.mistakes, Mistake{place, f.what, f.hint})
}

// isOff reports whether a value switches off what its key is about.
func isOff(v *value) bool {
	switch v.shape {
	case isFlag:
		return v.text == "false"
	case isNumber:
		n, f := parseNumber(v.text)
		return f.none() && n == 0
	case isText:
		d, f := parseDuration(v.text)
		return f.none() && d == 0
	case isTable: // a queue of no length or no time is none
		for _, field := range v.fields {
			if isOff(field) {
				return true
			}
		}
	}
	return false
}

// check looks at the type and the bounds of a value.
func (k key) check(v *value) fault {
	switch k.kind {
	case takesTexts:
		if v.shape == isList && !v.headers {
			for _, item := range v.list {
				if f := k.checkText(item); !f.none() {
					return f
				}
			}
			return fault{}
		}
		fallthrough
	case takesText, takesChoice:
		return k.checkText(v)
	case takesFlag:
		if v.shape != isFlag {
			return fault{"takes true or false, not " + v.a(), "write true or false, without quotes"}
		}
	case takesNumber, takesSize, takesDuration, takesShare:
		return k.checkAmount(v)
	case takesTable, takesNamed, takesTables:
		return k.checkTable(v)
	case takesTLS:
		if v.shape != isText && v.shape != isTable {
			return fault{"takes a text or a table, not " + v.a(), tlsHint}
		}
	}
	return fault{}
}

// checkText looks at a text or at one of a few.
func (k key) checkText(v *value) fault {
	if v.shape != isText {
		hint := v.inQuotes()
		if v.shape == isNumber && (k.name == "listen.http" || k.name == "listen.https") {
			hint = `write ":` + v.text + `"`
		}
		return fault{"takes a text, not " + v.a(), hint}
	}
	if k.kind == takesChoice {
		if slices.Contains(k.choices, v.text) {
			return fault{}
		}
		return fault{"is " + strconv.Quote(v.text), `write "` + strings.Join(k.choices, `" or "`) + `"`}
	}
	if v.text == "" {
		return fault{"is empty", "leave it out"}
	}
	if strings.ContainsFunc(v.text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fault{"has a control character in it", ""}
	}
	return fault{}
}

// checkAmount looks at a number, a size, a duration or a share.
func (k key) checkAmount(v *value) fault {
	var n int64
	var f fault
	switch {
	case k.kind == takesDuration && (v.shape == isText || v.shape == isNumber):
		_, f = parseDuration(v.text)
	case v.shape == isNumber:
		n, f = parseNumber(v.text)
	case v.shape == isText && k.kind == takesSize:
		n, f = parseSize(v.text)
	case v.shape == isText && k.kind == takesShare:
		return checkShare(v.text)
	case v.shape == isText && k.kind == takesNumber:
		return fault{"takes a number, not a text", "leave the quotes out"}
	default:
		return fault{"takes a " + string(k.kind) + ", not " + v.a(), k.example()}
	}
	switch {
	case !f.none() || k.most == 0:
		return f
	case n < k.least:
		return fault{fmt.Sprintf("is %d, less than %d", n, k.least), ""}
	case n > k.most:
		return fault{fmt.Sprintf("is %d, more than %d", n, k.most), ""}
	}
	return fault{}
}

// example is a hint for a value that looks like nothing the key takes.
func (k key) example() string {
	_, last := splitKey(k.name)
	if k.fallback == "" {
		return ""
	}
	return "write it as in " + last + " = " + quoted(k.fallback)
}

// checkTable looks at a table, or at a list of them, and knows how to write its header.
func (k key) checkTable(v *value) fault {
	header := "[" + strings.Replace(k.name, "*", "NAME", 1) + "]"
	switch {
	case k.kind == takesTables && v.shape == isTable:
		return fault{"is one table, and there may be several", "write [" + header + "]"}
	case k.kind == takesTables && v.shape != isList:
		return fault{"takes tables, not " + v.a(), "write [" + header + "] and its keys below"}
	case k.kind == takesTables:
		for _, item := range v.list {
			if item.shape != isTable {
				return fault{"takes tables, not " + item.a(), "write [" + header + "] and its keys below"}
			}
		}
	case k.kind == takesNamed && v.shape != isTable:
		return fault{"takes a table for each app, not " + v.a(), "write [app.NAME] and its keys below"}
	case v.shape == isList && v.headers:
		return fault{"is there once only", "write " + header + ", with one bracket on each side"}
	case v.shape != isTable:
		return fault{"takes a table, not " + v.a(), "write " + header + " and its keys below"}
	}
	return fault{}
}

// what is the name of a shape.
func (v *value) what() string {
	switch v.shape {
	case isText:
		return "text"
	case isNumber:
		return "number"
	case isFlag:
		return "true or false"
	case isList:
		return "list"
	case isTable:
		return "table"
	}
	return "date or fraction"
}

// a is what with its article.
func (v *value) a() string {
	if v.shape == isFlag {
		return v.text
	}
	return "a " + v.what()
}

// inQuotes is the hint for a value that only lacks its quotes.
func (v *value) inQuotes() string {
	if v.text == "" {
		return "write a text in quotes"
	}
	return `write "` + v.text + `"`
}
