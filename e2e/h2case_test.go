package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// This file reads the cases of cases/h2: what a hostile client says in HTTP/2 to a proxy that
// speaks HTTP/1.1 to its app. A case is
//
//	case NAME
//	head STREAM [end] [open] [get|post|connect] [prio=N] [pad=N]   its fields follow, two spaces before each
//	more STREAM [open]                                             a CONTINUATION, with fields likewise
//	data STREAM [end] [pad=N] [TEXT]                               TEXT to the end of the line
//	frame KIND FLAGS STREAM [HEX]                                  any frame; numbers
//	raw HEX
//	times N                                                        the next line is said N times
//	passes | refused | either                                      what is to become of it
//
// Fields and texts have Go's escapes. get, post and connect are the pseudo fields of a
// request for shop.test. A case that is refused may have the proxy answer by a status, a reset
// or the end of the connection; nothing whole of it may have reached the app, and nothing
// malformed of any.

// An h2Case is one case.
type h2Case struct {
	group, name string
	steps       []h2Step
	verdict     string
}

// An h2Step is what is said at a time: bytes, or what becomes bytes with the table of the
// connection's compression.
type h2Step struct {
	raw            []byte
	kind, flags    byte
	stream         uint32
	fields         []string
	padding        int // -1: none
	priority       int // -1: none
	text           string
	times          int
	isHead, isData bool
}

func (c *h2Case) String() string { return c.group + ": " + c.name }

// readH2Cases reads all groups.
func readH2Cases(t *testing.T) (cases []*h2Case) {
	t.Helper()
	files, err := filepath.Glob("cases/h2/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	names := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		group := strings.TrimSuffix(filepath.Base(file), ".txt")
		for i, line := range strings.Split(string(text), "\n") {
			if cases, err = addH2Line(cases, group, line); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
		}
	}
	for _, c := range cases {
		if names[c.String()] || len(c.steps) == 0 || c.verdict == "" {
			t.Fatalf("%s: twice, or without a step or a verdict", c)
		}
		names[c.String()] = true
	}
	return cases
}

var h2Pseudo = map[string][]string{
	"get":     {":method: GET", ":scheme: http", ":authority: shop.test", ":path: /"},
	"post":    {":method: POST", ":scheme: http", ":authority: shop.test", ":path: /"},
	"connect": {":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: shop.test", ":path: /"},
}

func addH2Line(cases []*h2Case, group, line string) ([]*h2Case, error) {
	if line == "" || line[0] == '#' {
		return cases, nil
	}
	word, rest, _ := strings.Cut(line, " ")
	if word == "case" {
		return append(cases, &h2Case{group: group, name: rest}), nil
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("no case")
	}
	c := cases[len(cases)-1]
	if strings.HasPrefix(line, "  ") {
		field, err := strconv.Unquote(`"` + strings.ReplaceAll(line[2:], `"`, `\"`) + `"`)
		last := &c.steps[len(c.steps)-1]
		last.fields = append(last.fields, field)
		return cases, err
	}
	switch word {
	case "passes", "refused", "either":
		c.verdict = word
		return cases, nil
	case "times":
		n, err := strconv.Atoi(rest)
		c.steps = append(c.steps, h2Step{times: n})
		return cases, err
	}
	step, err := h2StepOf(word, rest)
	if n := len(c.steps); n > 0 && c.steps[n-1].times > 1 && c.steps[n-1].raw == nil && !c.steps[n-1].isHead && !c.steps[n-1].isData {
		step.times = c.steps[n-1].times
		c.steps = c.steps[:n-1]
	}
	c.steps = append(c.steps, step)
	return cases, err
}

func h2StepOf(word, rest string) (s h2Step, err error) {
	s = h2Step{padding: -1, priority: -1, times: 1}
	words := strings.Fields(rest)
	switch word {
	case "raw":
		s.raw, err = hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
		return s, err
	case "frame":
		var numbers [3]uint64
		for i := range numbers {
			if numbers[i], err = strconv.ParseUint(words[i], 0, 32); err != nil {
				return s, err
			}
		}
		payload, err := hex.DecodeString(strings.Join(words[3:], ""))
		s.raw = h2Frame(byte(numbers[0]), byte(numbers[1]), uint32(numbers[2]), payload)
		return s, err
	case "head", "more":
		s.isHead, s.kind, s.flags = true, 1, 4
		if word == "more" {
			s.kind = 9
		}
	case "data":
		s.isData = true
	default:
		return s, fmt.Errorf("%q is no step", word)
	}
	id, err := strconv.ParseUint(words[0], 0, 32)
	s.stream = uint32(id)
	rest = strings.TrimPrefix(rest, words[0])
	for rest = strings.TrimPrefix(rest, " "); rest != "" && err == nil; {
		option, behind, _ := strings.Cut(rest, " ")
		number := 0
		if name, value, ok := strings.Cut(option, "="); ok && (name == "pad" || name == "prio") {
			number, err = strconv.Atoi(value)
			option = name
		}
		switch {
		case option == "end":
			s.flags |= 1
		case option == "open" && s.isHead:
			s.flags &^= 4
		case option == "pad":
			s.padding = number
		case option == "prio" && s.isHead:
			s.priority = number
		case h2Pseudo[option] != nil && s.isHead:
			s.fields = append(s.fields, h2Pseudo[option]...)
		case s.isData:
			s.text, err = strconv.Unquote(`"` + rest + `"`)
			return s, err
		default:
			return s, fmt.Errorf("%q is no option", option)
		}
		rest = behind
	}
	return s, err
}

func h2Frame(kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// An h2Coder makes bytes of steps, for one connection.
type h2Coder struct {
	section bytes.Buffer
	encoder *hpack.Encoder
	label   string          // of the case, which its requests have in X-Case; "" for none
	begun   map[uint32]bool // streams
}

func newH2Coder() *h2Coder {
	c := &h2Coder{begun: map[uint32]bool{}}
	c.encoder = hpack.NewEncoder(&c.section)
	return c
}

func (c *h2Coder) encode(fields []string) []byte {
	c.section.Reset()
	for _, field := range fields {
		at := strings.Index(field[min(1, len(field)):], ": ") + 1
		name, value := field, ""
		if at > 0 {
			name, value = field[:at], field[at+2:]
		} else if at == 0 && strings.HasPrefix(field, ": ") {
			name, value = "", field[2:]
		}
		_ = c.encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return slices.Clone(c.section.Bytes())
}

// bytes are those of a step. here has the site of the player in it.
func (c *h2Coder) bytes(s *h2Step, here func(string) string) []byte {
	if s.raw != nil {
		return s.raw
	}
	payload := []byte(s.text)
	if s.isHead {
		fields := slices.Clone(s.fields)
		for i := range fields {
			fields[i] = here(fields[i])
		}
		if c.label != "" && s.kind == 1 && len(fields) > 0 && !c.begun[s.stream] {
			fields = append(fields, "x-case: "+c.label)
		}
		c.begun[s.stream] = true
		payload = c.encode(fields)
	}
	flags := s.flags
	if s.priority >= 0 {
		payload = append(binary.BigEndian.AppendUint32(nil, uint32(s.priority)), append([]byte{15}, payload...)...)
		flags |= 0x20
	}
	if s.padding >= 0 {
		payload = append(append([]byte{byte(s.padding)}, payload...), make([]byte, s.padding)...)
		flags |= 8
	}
	return h2Frame(s.kind, flags, s.stream, payload)
}
