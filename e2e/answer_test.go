package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// check compares the last answer with what is wanted.
func (a *actor) check(verb, want string) error {
	name, value, given := strings.Cut(want, " ")
	sum, err := os.ReadFile(a.path("10MiB.sha256"))
	if err != nil {
		return err
	}
	value = strings.ReplaceAll(value, "{sha256}", string(sum))
	switch verb {
	case "output":
		return differ(strings.Contains(a.printed, want), true)
	case "size":
		return differ(strconv.Itoa(len(a.printed)), want)
	case "status":
		statuses := a.statuses()
		return differ(statuses[len(statuses)-1], want)
	case "interim":
		return differ(a.statuses()[0], want)
	case "field":
		found, is := a.field(name)
		return differ(fmt.Sprint(is, found), fmt.Sprint(given, value))
	case "json":
		found, is := member(a.printed, name)
		return differ(fmt.Sprint(is, found), fmt.Sprint(given, value))
	}
	return fmt.Errorf("no such step")
}

func differ[T comparable](got, want T) error {
	if got != want {
		return fmt.Errorf("got %v", got)
	}
	return nil
}

// statuses lists the statuses of all heads, "" if there is none.
func (a *actor) statuses() []string {
	var found []string
	for line := range strings.Lines(a.head) {
		if words := strings.Fields(line); strings.HasPrefix(line, "HTTP/") && len(words) > 1 {
			found = append(found, words[1])
		}
	}
	if found == nil {
		return []string{""}
	}
	return found
}

// field returns a field of the last head.
func (a *actor) field(name string) (value string, is bool) {
	last := a.head[max(0, strings.LastIndex(a.head, "HTTP/1.1 ")):]
	for line := range strings.Lines(last) {
		if found, content, ok := strings.Cut(line, ":"); ok && strings.EqualFold(found, name) {
			return strings.TrimSpace(content), true
		}
	}
	return "", false
}

// object reads a JSON object, with its numbers as they are written.
func object(text string) (members map[string]any, err error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&members)
	return members, err
}

// member returns a member of a JSON object, or of an object in it.
func member(text, path string) (value string, is bool) {
	members, err := object(text)
	if err != nil {
		return err.Error(), true
	}
	outer, inner, nested := strings.Cut(path, ".")
	if nested {
		members, _ = members[outer].(map[string]any) // nil, and so without the inner one, if it is none
		outer = inner
	}
	found, is := members[outer]
	if !is {
		return "", false
	}
	return fmt.Sprint(found), true
}
