package conf

import (
	"bytes"
	"strconv"
	"strings"
)

// syntax says what the parser could not read at an offset of the text, with a
// hint for what people write who come from YAML, nginx or JSON.
func (g *grower) syntax(text []byte, offset int, message string) Mistake {
	start := bytes.LastIndexByte(text[:offset], '\n') + 1
	line, _, _ := bytes.Cut(text[start:], []byte("\n"))
	return Mistake{
		Place: Place{File: g.file, Line: g.lineBase + 1 + bytes.Count(text[:start], []byte("\n"))},
		What:  "is not TOML: " + message,
		Hint:  syntaxHint(strings.TrimSpace(string(line)), message),
	}
}

// syntaxHint guesses what a line was meant to be; "" when it has no idea.
func syntaxHint(line, message string) string {
	key, written, isPair := strings.Cut(line, "=")
	key, written = strings.TrimSpace(key), strings.TrimSpace(written)
	switch {
	case strings.Contains(message, "unterminated"), strings.Contains(message, "cannot have new lines"):
		return "close the text with the quote that it began with"
	case strings.HasPrefix(line, "["):
		return "a table begins with [name], one of several [[name]], alone on its line"
	case strings.HasSuffix(line, ";") || strings.HasSuffix(line, "{") || line == "}":
		return "TOML has no ; and no blocks: write [table] on one line and key = value on the next"
	case !isPair && strings.Contains(line, ":"):
		name, rest, _ := strings.Cut(line, ":")
		return "write " + strings.TrimSpace(name) + " = " + quoted(strings.TrimSpace(rest))
	case !isPair && strings.Contains(line, " "):
		name, rest, _ := strings.Cut(line, " ")
		return "write " + name + " = " + quoted(strings.TrimSpace(rest))
	case !isPair:
		return "write key = value"
	case written == "":
		return "give " + key + " a value, or leave the line out"
	}
	first, _, _ := strings.Cut(written, " ")
	switch strings.ToLower(strings.TrimSuffix(first, ",")) {
	case "yes", "on", "true":
		return "write " + key + " = true"
	case "no", "off", "false":
		return "write " + key + " = false"
	}
	switch written[0] {
	case '"', '\'':
		return "write one key = value on each line, and comments after #"
	case '[', '{':
		return "put a comma between two values and close the bracket"
	}
	bare, _, _ := strings.Cut(written, " #")
	return "write " + key + " = " + quoted(strings.TrimSpace(bare))
}

// quoted puts a text in quotes, unless it is a number, a flag, or in quotes already.
func quoted(text string) string {
	if text == "" {
		return `"..."`
	}
	if _, err := strconv.Atoi(text); err == nil || text == "true" || text == "false" || strings.ContainsAny(text[:1], `"'[`) {
		return text
	}
	return strconv.Quote(text)
}
