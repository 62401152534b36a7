package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The corpus is what hostile or broken clients and apps send, in files of
// cases/strict: one file is one group, one case a few lines with the rule it is
// about. How a case is played is in corpusplay_test.go, the app that records what
// reached it in corpusapp_test.go, other proxies in corpuspeers_test.go.
//
//	case NAME (RULE)
//	    > LINE       the client sends it, and a CRLF; \r \n \t \0 \xHH are bytes, {30*ab} is
//	                 ab thirty times, and a \ at the end stands for no CRLF
//	    < STATUS     the client gets this answer before it sends what follows, and goes on
//	    < STATUS close   the same, and then the end of the connection
//	    < STATUS cut     the answer breaks off, and must not look whole
//	    < STATUS bodiless   the answer to HEAD
//	    < STATUS interim    an answer that may have an interim one before it
//	    < nothing    the connection ends without an answer
//	    < Name: value, < !Name, < "body"   of the last answer
//	    | LINE       the app answers its first request with it, written like > LINE,
//	                 and closes the connection
//	    = METHOD TARGET VERSION   the app gets this request, whole
//	    = cut        which may also break off or never come, but never be whole
//	    = Name: value, = !Name, = "body", = trailer Name: value   of the last request
//	    @ end        the client closes its side
//	    @ early      the app answers as soon as it has the head
//	    @ keep       the app does not close the connection
//
// What is not written must not be: a case without = is one in which no byte reaches
// the app. After every case the client asks for /next, on the same connection unless
// that has ended, and has to get the answer to that. shop.test is the app's site.

// A corpusCase is one case of the corpus.
type corpusCase struct {
	file  string // "framing"
	line  int    // of its name
	name  string
	steps []corpusStep
	reply string // what the app says; "" for the usual
	early bool
	keep  bool
	seen  []*wanted // by the app
}

func (c *corpusCase) String() string {
	return fmt.Sprintf("cases/strict/%s.txt:%d: %s", c.file, c.line, c.name)
}

// A corpusStep is something that the client sends, or an answer that it awaits.
type corpusStep struct {
	send   string
	end    bool
	answer *wanted
}

// A wanted is what a message has to be like.
type wanted struct {
	start    string // the request line, or the status, or "nothing"
	close    bool
	cut      bool
	bodiless bool
	interim  bool // may come before it
	fields   []string
	absent   []string
	trailer  []string
	body     *string
}

// readCorpus reads all groups.
func readCorpus(t *testing.T) map[string][]*corpusCase {
	t.Helper()
	files, err := filepath.Glob("cases/strict/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	groups := map[string][]*corpusCase{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		for i, line := range strings.Split(string(text), "\n") {
			if err := readCorpusLine(groups, name, i+1, line); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
		}
	}
	return groups
}

func readCorpusLine(groups map[string][]*corpusCase, file string, number int, line string) error {
	title, isCase := strings.CutPrefix(line, "case ")
	inner, indented := strings.CutPrefix(line, "    ")
	list := groups[file]
	switch {
	case line == "" || strings.HasPrefix(line, "#"):
		return nil
	case isCase:
		groups[file] = append(list, &corpusCase{file: file, line: number, name: title})
		return nil
	case !indented || len(list) == 0 || inner == "":
		return fmt.Errorf("is no case: %q", line)
	}
	return list[len(list)-1].add(inner[:1], strings.TrimPrefix(inner[1:], " "))
}

// add takes one line of a case.
func (c *corpusCase) add(mark, rest string) error {
	last := len(c.steps) - 1
	switch mark {
	case ">":
		text, err := corpusBytes(rest)
		if last < 0 || c.steps[last].answer != nil || c.steps[last].end {
			c.steps = append(c.steps, corpusStep{})
			last++
		}
		c.steps[last].send += text
		return err
	case "|":
		text, err := corpusBytes(rest)
		c.reply += text
		return err
	case "<":
		words := strings.Fields(rest)
		if len(words) > 0 && (words[0] == "nothing" || len(words[0]) == 3 && words[0] >= "100" && words[0] <= "599") {
			answer := &wanted{start: words[0]}
			for _, word := range words[1:] {
				switch word {
				case "close":
					answer.close = true
				case "cut":
					answer.cut = true
				case "bodiless":
					answer.bodiless = true
				case "interim":
					answer.interim = true
				default:
					return fmt.Errorf("unknown: %s", word)
				}
			}
			c.steps = append(c.steps, corpusStep{answer: answer})
			return nil
		}
		if last < 0 || c.steps[last].answer == nil {
			return fmt.Errorf("no answer to which %q belongs", rest)
		}
		return c.steps[last].answer.add(rest)
	case "=":
		if strings.HasSuffix(rest, " HTTP/1.1") {
			text, err := corpusBytes(rest + `\`)
			c.seen = append(c.seen, &wanted{start: text})
			return err
		}
		if len(c.seen) == 0 {
			return fmt.Errorf("no request to which %q belongs", rest)
		}
		return c.seen[len(c.seen)-1].add(rest)
	case "@":
		switch rest {
		case "end":
			c.steps = append(c.steps, corpusStep{end: true})
			return nil
		case "early":
			c.early = true
			return nil
		case "keep":
			c.keep = true
			return nil
		}
	}
	return fmt.Errorf("unknown: %s %s", mark, rest)
}

func (w *wanted) add(rest string) error {
	trailer, isTrailer := strings.CutPrefix(rest, "trailer ")
	switch {
	case rest == "cut":
		w.cut = true
	case strings.HasPrefix(rest, `"`):
		body, err := strconv.Unquote(rest)
		w.body = &body
		return err
	case strings.HasPrefix(rest, "!"):
		w.absent = append(w.absent, rest[1:])
	case isTrailer:
		w.trailer = append(w.trailer, trailer)
	case strings.Contains(rest, ":"):
		w.fields = append(w.fields, rest)
	default:
		return fmt.Errorf("unknown: %q", rest)
	}
	return nil
}

// corpusBytes is a line as bytes: with its CRLF, its escapes and its repetitions.
func corpusBytes(line string) (string, error) {
	end := "\r\n"
	if cut, ok := strings.CutSuffix(line, `\`); ok {
		line, end = cut, ""
	}
	var text strings.Builder
	for line != "" {
		switch {
		case strings.HasPrefix(line, `\`):
			// strconv knows all of these but \0.
			if rest, ok := strings.CutPrefix(line, `\0`); ok {
				text.WriteByte(0)
				line = rest
				continue
			}
			c, _, rest, err := strconv.UnquoteChar(line, 0)
			if err != nil {
				return "", fmt.Errorf("escape %q: %w", line, err)
			}
			text.WriteByte(byte(c))
			line = rest
		case strings.HasPrefix(line, "{"):
			inner, rest, closed := strings.Cut(line[1:], "}")
			count, what, starred := strings.Cut(inner, "*")
			n, err := strconv.Atoi(count)
			if err != nil || !closed || !starred {
				return "", fmt.Errorf("no repetition: %q", line)
			}
			piece, err := corpusBytes(what + `\`)
			if err != nil {
				return "", err
			}
			text.WriteString(strings.Repeat(piece, n))
			line = rest
		default:
			text.WriteByte(line[0])
			line = line[1:]
		}
	}
	return text.String() + end, nil
}
