package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// What is bigger than this has a part that wants a name of its own. Tables and
// tests are excused.
const (
	fileLinesMax = 500
	funcLinesMax = 60
)

// TestRules reads every source file and names what the rules of writing forbid.
func TestRules(t *testing.T) {
	files := 0
	err := fs.WalkDir(os.DirFS(".."), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		files++
		for _, breach := range breaches(t, path) {
			t.Error(breach)
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Fatalf("only %d files read: %v", files, err)
	}
}

func breaches(t *testing.T, path string) []string {
	t.Helper()
	source, err := os.ReadFile("../" + path)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	if mark := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`).Find(source); mark != nil {
		found = append(found, fmt.Sprintf("%s: is left open: %s", path, mark))
	}
	if strings.HasSuffix(path, "_test.go") {
		if strings.Contains(string(source), "time."+"Sleep") {
			found = append(found, path+": sleeps; wait for what must happen, or take the time as an argument")
		}
		return found
	}
	if lines := set.File(file.Pos()).LineCount(); lines > fileLinesMax {
		found = append(found, fmt.Sprintf("%s: %d lines, over %d", path, lines, fileLinesMax))
	}
	for _, decl := range file.Decls {
		f, is := decl.(*ast.FuncDecl)
		if !is || f.Body == nil {
			continue
		}
		where := set.Position(f.Pos())
		if f.Recv == nil && f.Name.Name == "init" {
			found = append(found, where.String()+": runs before main")
		}
		if len(f.Body.List) == 1 {
			continue // a table is one statement
		}
		if lines := set.Position(f.End()).Line - where.Line + 1; lines > funcLinesMax {
			found = append(found, fmt.Sprintf("%s: %s has %d lines, over %d", where, f.Name.Name, lines, funcLinesMax))
		}
	}
	return found
}
