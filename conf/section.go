package conf

import "time"

// A section is one table of the file as the planner reads it: what is not
// written is what the table of keys says. Values that the checker refused read
// as if they were not written; nobody sees a plan with mistakes.
type section struct {
	planner *planner
	name    string // in the table of keys: "app.*"
	path    string // in messages: "app.shop"
	table   *value // nil when it is not written
}

// below is a table inside this one.
func (s section) below(last string) section {
	return section{s.planner, s.key(last).name, joinKey(s.path, last), s.table.field(last)}
}

// key is a key of this section.
func (s section) key(last string) key {
	if s.name == "" {
		return s.planner.keys[last]
	}
	return s.planner.keys[s.name+"."+last]
}

// written is the value of a key as written, nil when it is not or is refused.
func (s section) written(last string) *value {
	v := s.table.field(last)
	if v == nil || !s.key(last).check(v).none() {
		return nil
	}
	return v
}

// value is the value of a key, as written or its fallback.
func (s section) value(last string) *value {
	if v := s.written(last); v != nil {
		return v
	}
	return &value{shape: isText, text: s.key(last).fallback}
}

// flag is the value of a flag.
func (s section) flag(last string) bool { return s.value(last).text == "true" }

// text is the value of a text or choice.
func (s section) text(last string) string { return s.value(last).text }

// number is the value of a number or size.
func (s section) number(last string) int64 {
	v := s.value(last)
	read := parseSize // which reads the plain numbers of fallbacks too
	if v.shape == isNumber {
		read = parseNumber
	}
	n, _ := read(v.text) // checked
	return n
}

// duration is the value of a duration.
func (s section) duration(last string) time.Duration {
	d, _ := parseDuration(s.value(last).text) // checked
	return d
}

// texts are the values of a list of texts, or the one that is written without
// brackets; none when it is neither written nor has a fallback.
func (s section) texts(last string) []*value {
	v := s.value(last)
	switch {
	case v.shape == isList:
		return v.list
	case v.text == "":
		return nil
	}
	return []*value{v}
}

// tables are the tables of a key with [[ ]]; refused tells none from wrong ones.
func (s section) tables(last string) (list []*value, refused bool) {
	if v := s.written(last); v != nil {
		return v.list, false
	}
	return nil, s.table.field(last) != nil
}

// place is where a key is written, or else where its table is.
func (s section) place(last string) Place {
	p := Place{File: s.planner.file, Key: joinKey(s.path, last)}
	if v := s.table.field(last); v != nil {
		p.Line = v.line
	} else if s.table != nil && s.path != "" {
		p.Line = s.table.line
	}
	return p
}

// wrong notes a mistake of a key.
func (s section) wrong(last string, f fault) {
	s.planner.mistake(s.place(last), f)
}

// wrongItem notes a mistake in one of the texts of a key.
func (s section) wrongItem(last string, item *value, f fault) {
	p := s.place(last)
	p.Line = max(p.Line, item.line)
	s.planner.mistake(p, f)
}
