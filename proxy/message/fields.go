package message

// Fields are the header or trailer fields of one message, in the order in which
// they came: one buffer, and the positions of each line in it.
//
// The zero value is empty and ready. An engine Holds a head and Marks its lines;
// everybody else reads, Adds and Removes.
type Fields struct {
	bytes []byte
	lines []line
	named []line // keys that Connection names; values that are empty
}

type line struct {
	key, keyEnd     uint32 // bytes[key:keyEnd] is the name as it was written
	value, valueEnd uint32 // without the white space around it
	name            Name
}

// Reset empties f and keeps its buffers, unless one head made them giants.
func (f *Fields) Reset() {
	f.bytes, f.lines, f.named = f.bytes[:0], f.lines[:0], f.named[:0]
	if cap(f.bytes) > keptBytesMax {
		f.bytes = nil
	}
}

// keptBytesMax bounds what an empty Fields holds: far more than most heads have.
const keptBytesMax = 64 << 10

// Hold empties f and gives it a copy of head, which it returns. The copy costs
// less than the rule that it replaces: no reader has to keep its buffer still
// while somebody uses a field.
func (f *Fields) Hold(head []byte) []byte {
	f.Reset()
	f.bytes = append(f.bytes, head...)
	return f.bytes
}

// Copy makes f what from is.
func (f *Fields) Copy(from *Fields) {
	f.bytes = append(f.bytes[:0], from.bytes...)
	f.lines = append(f.lines[:0], from.lines...)
	f.named = append(f.named[:0], from.named...)
}

// Mark adds the line whose name is held[key:keyEnd] and whose value is
// held[value:valueEnd], held being what Hold returned.
func (f *Fields) Mark(key, keyEnd, value, valueEnd int) Name {
	name := known(f.bytes[key:keyEnd])
	f.lines = append(f.lines, line{uint32(key), uint32(keyEnd), uint32(value), uint32(valueEnd), name})
	return name
}

// Len is the number of lines.
func (f *Fields) Len() int { return len(f.lines) }

// Line is line i: which of the known names it has, its name and its value as
// they were written.
func (f *Fields) Line(i int) (name Name, key, value []byte) {
	l := &f.lines[i]
	return l.name, f.bytes[l.key:l.keyEnd:l.keyEnd], f.bytes[l.value:l.valueEnd:l.valueEnd]
}

// Value is the value of the first line called name, and whether there is one.
func (f *Fields) Value(name Name) ([]byte, bool) {
	for i := range f.lines {
		if l := &f.lines[i]; l.name == name {
			return f.bytes[l.value:l.valueEnd:l.valueEnd], true
		}
	}
	return nil, false
}

// Count is the number of lines called name.
func (f *Fields) Count(name Name) int {
	n := 0
	for i := range f.lines {
		if f.lines[i].name == name {
			n++
		}
	}
	return n
}

// Add appends a line.
func (f *Fields) Add(key string, value []byte) {
	start := len(f.bytes)
	f.bytes = append(f.bytes, key...)
	middle := len(f.bytes)
	f.bytes = append(f.bytes, value...)
	f.Mark(start, middle, middle, len(f.bytes))
}

// AddText is Add for a name and a value that are texts, and returns which name it is.
func (f *Fields) AddText(key, value string) Name {
	start := len(f.bytes)
	f.bytes = append(f.bytes, key...)
	middle := len(f.bytes)
	f.bytes = append(f.bytes, value...)
	return f.Mark(start, middle, middle, len(f.bytes))
}

// Remove takes out every line called one of names.
func (f *Fields) Remove(names Set) {
	f.keep(func(l *line) bool { return !names.Has(l.name) })
}

// rename gives every line whose name is key, in any case, another known name.
func (f *Fields) rename(key []byte, name Name) {
	for i := range f.lines {
		if l := &f.lines[i]; SameFold(f.bytes[l.key:l.keyEnd], key) {
			l.name = name
		}
	}
}

// nominate keeps option, which is a part of f, for RemoveNamed.
func (f *Fields) nominate(option []byte) {
	start := len(f.bytes)
	f.bytes = append(f.bytes, option...)
	f.named = append(f.named, line{key: uint32(start), keyEnd: uint32(len(f.bytes))})
}

// RemoveNamed takes out every line that the Connection field of head named, f being
// the trailer behind that head: "remove any header or trailer field(s) from the
// message with the same name" RFC 9110, section 7.6.1.
func (f *Fields) RemoveNamed(head *Fields) {
	for i := range head.named {
		option := head.bytes[head.named[i].key:head.named[i].keyEnd]
		f.keep(func(l *line) bool { return !SameFold(f.bytes[l.key:l.keyEnd], option) })
	}
}

// RemoveUnclear takes out every line whose name WSGI, Rack or CGI would turn
// into the name of another: Foo_Bar and Foo-Bar both become HTTP_FOO_BAR. It
// returns how many there were.
func (f *Fields) RemoveUnclear() int {
	before := len(f.lines)
	f.keep(func(l *line) bool {
		for _, c := range f.bytes[l.key:l.keyEnd] {
			if c == '_' || c == '.' {
				return false
			}
		}
		return true
	})
	return before - len(f.lines)
}

func (f *Fields) keep(wanted func(*line) bool) {
	kept := f.lines[:0]
	for i := range f.lines {
		if wanted(&f.lines[i]) {
			kept = append(kept, f.lines[i])
		}
	}
	f.lines = kept
}

// A Set is a set of names.
type Set uint64

// SetOf is the set of names.
func SetOf(names ...Name) Set {
	var s Set
	for _, name := range names {
		s |= 1 << name
	}
	return s
}

// Has reports whether name is in s. Other is in no set that is useful.
func (s Set) Has(name Name) bool { return s&(1<<name) != 0 }

// Elements are the elements of a comma-separated list, without the white space
// around them; empty ones are passed over (RFC 9110, section 5.6.1.2).
func Elements(list []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for start := 0; start <= len(list); {
			end := start
			for end < len(list) && list[end] != ',' {
				end++
			}
			if element := TrimSpace(list[start:end]); len(element) > 0 && !yield(element) {
				return
			}
			start = end + 1
		}
	}
}

// TrimSpace is b without the spaces and tabs around it ("OWS", RFC 9110,
// section 5.6.3).
func TrimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// SameFold reports whether a and b are equal in any ASCII case.
func SameFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
