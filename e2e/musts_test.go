package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// isTitle is the line of a case list that names the rule behind a case.
var isTitle = regexp.MustCompile(`^(.*) \([^()]*\)$`)

// TestMusts holds cases/strict/MUSTS, the rules and what tests them, against the corpus
// and the tests: no rule without a case, no case that is not there.
func TestMusts(t *testing.T) {
	const path = "cases/strict/MUSTS"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]bool{}
	for file, list := range readCorpus(t) {
		for _, c := range list {
			if match := isTitle.FindStringSubmatch(c.name); match != nil {
				cases[file+": "+match[1]] = true
			}
		}
	}
	_, rules, _ := strings.Cut(string(text), "\n\n\n") // behind the introduction
	open, sections := "", map[string]bool{}
	for line := range strings.SplitSeq(rules, "\n") {
		proof, indented := strings.CutPrefix(line, "    ")
		switch {
		case line == "":
		case indented:
			if err := checkProof(proof, cases); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			open = ""
		case open != "":
			t.Errorf("%s: nothing stands for %s", path, open)
			fallthrough
		case strings.HasPrefix(line, "RFC "):
			sections[line] = true
		default:
			open = line
		}
	}
	if open != "" {
		t.Errorf("%s: nothing stands for %s", path, open)
	}
	for _, section := range []string{
		"9112, 2.2", "9112, 2.3", "9112, 3.2", "9112, 4", "9112, 5.1", "9112, 5.2", "9112, 6.1", "9112, 6.2", "9112, 6.3", "9112, 7.1",
		"9112, 8", "9112, 9.3", "9112, 9.6", "9110, 7.4", "9110, 7.6.1", "9110, 7.8", "9110, 8.6", "9110, 9.1", "9110, 10.1.1", "9110, 15.2",
	} {
		if !sections["RFC "+section] {
			t.Errorf("%s: nothing of RFC %s", path, section)
		}
	}
}

// checkProof says what is wrong with a line that stands for a rule.
func checkProof(proof string, cases map[string]bool) error {
	elsewhere, isTest := strings.CutPrefix(proof, "test ")
	switch {
	case strings.HasPrefix(proof, "none: "):
		return nil
	case !isTest && !cases[proof]:
		return fmt.Errorf("there is no case %q", proof)
	case !isTest:
		return nil
	}
	file, name, _ := strings.Cut(elsewhere, " ")
	source, err := os.ReadFile("../" + file)
	if err != nil {
		return err
	}
	if !strings.Contains(string(source), "\nfunc "+name+"(t *testing.T) {") {
		return fmt.Errorf("%s has no test %q", file, name)
	}
	return nil
}
