// Privileged counts the lines of ours that run with privilege.
//
//	go run ./e2e/privileged build FOLDER   makes FOLDER/bin: binaries that know what has run
//	go run ./e2e/privileged count FOLDER   says which lines those were, file by file
//
// It copies the tree and changes the jail in the copy: where a process has just given away
// its last capability, it writes down what has run in it. So does every process
// at its exit, to a folder that only root can write. Between the two, TestPrivilegedLines
// starts, reloads, stops and asks, with GOCOVERDIR=FOLDER/data.
//
// A line counts if a statement on it ran, in any process of these, with uid 0 or a
// capability; also the lone brace that ends a block counts, and a comment or blank line
// does not. "functions" counts the whole of each function of which a line ran, with the
// branches for what did not happen. Functions that are a table, and nothing else, are counted
// apart. What runs after the capabilities are gone, as landlock and the filters of system
// calls do, with their tables, is not counted, and neither is what others wrote: the
// standard library, x/sys.
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	err := fmt.Errorf("usage: privileged build|count FOLDER")
	if len(os.Args) == 3 {
		switch folder := os.Args[2]; os.Args[1] {
		case "build":
			err = build(folder)
		case "count":
			err = report(folder)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "privileged:", err)
		os.Exit(1)
	}
}

// lastStatements are the statements, by file, after which there is no privilege: those of the
// door, and of commands that go on without.
func lastStatements() map[string]string {
	return map[string]string{
		"cmd/internal/jail/layers.go": "err := unix.Capset(&header, &none[0])",
		"cmd/internal/jail/leave.go":  "return errors.Join(syscall.Setgroups(nil), ",
	}
}

// noteLines is added to package jail.
const noteLines = `package jail

import (
	"os"
	"runtime/coverage"
)

func noteLines() {
	folder := os.Getenv("GOCOVERDIR") + "/door"
	if err := coverage.WriteMetaDir(folder); err != nil {
		panic(err)
	}
	if err := coverage.WriteCountersDir(folder); err != nil {
		panic(err)
	}
}
`

// build copies the tree, changes the door, and makes the binaries.
func build(folder string) error {
	tree := filepath.Join(folder, "tree")
	for _, part := range []string{"cmd", "conf", "sockets", "upstream", "proxy", "tlsload"} {
		if err := os.CopyFS(filepath.Join(tree, part), os.DirFS(part)); err != nil {
			return err
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(tree, name), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	for file, last := range lastStatements() {
		path := filepath.Join(tree, file)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Count(text, []byte(last)) != 1 {
			return fmt.Errorf("%s: the end of privilege is not where it was", file)
		}
		text = bytes.Replace(text, []byte(last), []byte("defer noteLines(); "+last), 1)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "cmd/internal/jail/notelines.go"), []byte(noteLines), 0o644); err != nil {
		return err
	}
	// Whoever has left privilege may write to the second alone.
	for path, mode := range map[string]os.FileMode{"data": 0o755, "data/door": 0o777} {
		if err := os.MkdirAll(filepath.Join(folder, path), 0o755); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(folder, path), mode); err != nil {
			return err
		}
	}
	compile := exec.Command("go", "build", "-tags", "jail_off", "-cover", "-covermode=atomic", "-coverpkg=./...", "-o", "../bin/", "./cmd/...")
	compile.Dir = tree
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	compile.Stderr = os.Stderr
	return compile.Run()
}

// A count is how many lines of a file ran, how many the functions have that they are in, and
// how many ran that are a table.
type count struct{ lines, functions, tables int }

// tables are the functions that only return one.
func tables() []string {
	return []string{
		"cmd/internal/jail/profiles.go:profiles", // which layers each role passes
		"conf/accounts.go:AccountFiles",
		"conf/surroundings.go:Variables",
	}
}

// report prints what has run.
func report(folder string) error {
	profile := filepath.Join(folder, "profile")
	data := filepath.Join(folder, "data")
	convert := exec.Command("go", "tool", "covdata", "textfmt", "-i="+data+","+data+"/door", "-o="+profile)
	convert.Stderr = os.Stderr
	if err := convert.Run(); err != nil {
		return err
	}
	text, err := os.ReadFile(profile)
	if err != nil {
		return err
	}
	ran := map[string]map[int]bool{}
	for line := range strings.Lines(string(text)) {
		var from, fromColumn, to, toColumn, statements, times int
		file, rest, _ := strings.Cut(strings.TrimPrefix(line, "sallyport/"), ":")
		if n, _ := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &from, &fromColumn, &to, &toColumn, &statements, &times); n != 6 || times == 0 {
			continue
		}
		if ran[file] == nil {
			ran[file] = map[int]bool{}
		}
		for at := from; at <= to; at++ {
			ran[file][at] = true
		}
	}
	var all count
	for _, file := range slices.Sorted(func(yield func(string) bool) {
		for file := range ran {
			if !strings.HasSuffix(file, "notelines.go") && !yield(file) {
				return
			}
		}
	}) {
		c, err := countFile(filepath.Join(folder, "tree"), file, ran[file])
		if err != nil {
			return err
		}
		fmt.Printf("%5d %5d  %s\n", c.lines, c.functions, file)
		all.lines, all.functions, all.tables = all.lines+c.lines, all.functions+c.functions, all.tables+c.tables
	}
	fmt.Printf("%d lines of tables, beside\n", all.tables)
	fmt.Printf("%5d lines ran with privilege, of functions with %d\n", all.lines, all.functions)
	return nil
}

// countFile counts the lines of a file that have code on them, and ran.
func countFile(tree, name string, ran map[int]bool) (c count, err error) {
	path := filepath.Join(tree, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, text, 0)
	if err != nil {
		return c, err
	}
	code := codeLines(text)
	for _, declared := range parsed.Decls {
		function, is := declared.(*ast.FuncDecl)
		if !is {
			continue
		}
		lines, whole := 0, 0
		for at := files.Position(function.Pos()).Line; at <= files.Position(function.End()).Line; at++ {
			if code[at] {
				whole++
				if ran[at] {
					lines++
				}
			}
		}
		switch {
		case slices.Contains(tables(), name+":"+function.Name.Name):
			c.tables += lines
		case lines > 0:
			c.lines, c.functions = c.lines+lines, c.functions+whole
		}
	}
	return c, nil
}

// codeLines are the lines on which a token stands that is no comment.
func codeLines(text []byte) map[int]bool {
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, 0)
	lines := map[int]bool{}
	for {
		at, kind, literal := s.Scan()
		if kind == token.EOF {
			return lines
		}
		if kind == token.SEMICOLON && literal == "\n" {
			continue // put there by the scanner
		}
		first := file.Position(at).Line
		for i := range strings.Count(literal, "\n") + 1 { // of a raw string
			lines[first+i] = true
		}
	}
}
