package conf

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// state says of a key in the table what doc.go says of it.
func (k key) state(table keyTable) string {
	names := [...]string{accepted: "accepted", noticed: "noticed", refused: "refused"}
	parent, _ := splitKey(k.name)
	switch {
	case k.part == "" && table[parent].part != "":
		return "part of the table above"
	case k.part == "":
		return "built"
	case k.off == k.on:
		return "not yet: " + names[k.on]
	}
	return "not yet: off " + names[k.off] + ", else " + names[k.on]
}

func TestDocListsTheKeys(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	_, list, _ := strings.Cut(string(text), "//\tKEY ")
	for line := range strings.Lines(list) {
		if rest, isRow := strings.CutPrefix(line, "//\t"); isRow {
			got = append(got, strings.Join(strings.Fields(rest), " "))
		}
	}
	table := newKeyTable()
	for i, k := range keys() {
		want := strings.Join([]string{k.name, string(k.kind), cmp.Or(k.fallback, "-"), k.state(table)}, " ")
		if i >= len(got) {
			t.Fatalf("doc.go ends before %q", want)
		}
		if got[i] != want {
			t.Errorf("doc.go has %q\n    want %q", got[i], want)
		}
	}
	if len(got) > len(keys()) {
		t.Errorf("doc.go has keys that are none: %q", got[len(keys()):])
	}
}

// TestKeysHaveCases holds that each key is written in a case, and that each one that
// is written in a case which makes a plan is a key: the checker's own word.
func TestKeysHaveCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree, _ := grow(file, text)
		note(written, "", tree)
	}
	for _, k := range keys() {
		if !written[k.name] {
			t.Errorf("no case has %s", k.name)
		}
	}
}

// note collects the names of the keys below a table.
func note(written map[string]bool, name string, v *value) {
	for _, item := range v.list {
		note(written, name, item)
	}
	for last, field := range v.fields {
		full := last
		switch {
		case name == "app":
			full = "app.*"
		case name != "":
			full = name + "." + last
		}
		written[full] = true
		note(written, full, field)
	}
}

// TestKeysAreSound holds the table of keys to itself.
func TestKeysAreSound(t *testing.T) {
	table := newKeyTable()
	if len(table) != len(keys()) {
		t.Error("a key is there twice")
	}
	for _, k := range keys() {
		if parent, _ := splitKey(k.name); parent != "" && table[parent].name == "" {
			t.Errorf("%s: no key %s", k.name, parent)
		}
		if (k.part == "") != (k.off == accepted && k.on == accepted) {
			t.Errorf("%s: a part that is not built needs a reaction, and a reaction a part", k.name)
		}
		shape := isText
		if k.kind == takesFlag {
			shape = isFlag
		}
		if k.kind == takesNumber {
			shape = isNumber
		}
		if k.fallback == "" {
			continue
		}
		if f := k.check(&value{shape: shape, text: k.fallback}); !f.none() {
			t.Errorf("%s: fallback %q %s", k.name, k.fallback, f.what)
		}
	}
}
