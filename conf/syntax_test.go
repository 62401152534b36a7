package conf

import (
	"strings"
	"testing"
)

func TestSyntaxHint(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"workers: 2", "write workers = 2"},
		{"access: true", "write access = true"},
		{"host: example.com", `write host = "example.com"`},
		{"user www-data", `write user = "www-data"`},
		{"user", "write key = value"},
		{"user www-data;", "TOML has no ; and no blocks: write [table] on one line and key = value on the next"},
		{"location / {", "TOML has no ; and no blocks: write [table] on one line and key = value on the next"},
		{"[app shop]", "a table begins with [name], one of several [[name]], alone on its line"},
		{`host = "example.com`, "close the text with the quote that it began with"},
		{"host = example.com # ours", `write host = "example.com"`},
		{"host =", "give host a value, or leave the line out"},
		{"access = Yes", "write access = true"},
		{"access = off # quiet", "write access = false"},
		{"idle = 30s", `write idle = "30s"`},
		{`host = ["a" "b"]`, "put a comma between two values and close the bracket"},
		{`host = "a" "b"`, "write one key = value on each line, and comments after #"},
	} {
		_, mistakes := grow("sallyport.toml", []byte(c.line))
		if len(mistakes) != 1 || mistakes[0].Hint != c.want || !strings.HasPrefix(mistakes[0].What, "is not TOML: ") {
			t.Errorf("%q: %v, want hint %q", c.line, mistakes, c.want)
		}
	}
}

func TestLinesAfterMistakes(t *testing.T) {
	_, mistakes := grow("f", []byte("a = \n\n\"x\" = 1\nb = 1\nb = 2\n[t\nc = \n[[u]]\nd = [\n 1,\n  x ]\ne = 1\ne = 1\n"))
	var lines []string
	for _, m := range mistakes {
		lines = append(lines, lineName(m.Line)+" "+m.Key)
	}
	if got, want := strings.Join(lines, ", "), "line 1 , line 5 b, line 6 , line 11 , line 13 u.e"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if m := (Mistake{What: "is odd"}); m.Error() != "is odd" {
		t.Errorf("%q", m.Error())
	}
}
