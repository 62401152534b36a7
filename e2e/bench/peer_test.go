package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestFill fills in every peer's file, and looks for what must be in it.
func TestFill(t *testing.T) {
	templates, err := templates()
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Glob(peerFiles, "peers/*.conf")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		for _, s := range []setting{
			{
				Dir: "/the/dir", File: "/the/file", HTTP: "127.0.0.1:40001", HTTPS: "127.0.0.1:40002", H2C: "127.0.0.1:40003",
				App: "/the/app.sock", Cert: "/the/cert", Key: "/the/key", Pair: "/the/pair", Log: "/the/log",
			},
			{
				Dir: "/the/dir", File: "/the/file", HTTP: "127.0.0.1:40001", HTTPS: "127.0.0.1:40002", H2C: "127.0.0.1:40003",
				App: "/the/app.sock", Cert: "/the/cert", Key: "/the/key", Pair: "/the/pair", Root: true,
			},
		} {
			file := filepath.Base(path)
			text, h, err := fill(templates, file, s)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, must := range []string{"40001", "40002", "/the/app.sock"} {
				if !strings.Contains(string(text), must) {
					t.Errorf("%s: no %s in\n%s", file, must, text)
				}
			}
			if !strings.Contains(string(text), "/the/key") && !strings.Contains(string(text), "/the/pair") {
				t.Errorf("%s: no key in\n%s", file, text)
			}
			if !slices.Contains(h.run, "/the/file") {
				t.Errorf("%s: is not run with its file: %v", file, h.run)
			}
			for _, work := range h.works {
				if !slices.Contains(names(works()), work) {
					t.Errorf("%s: there is no work %s", file, work)
				}
			}
			if regexp.MustCompile(`\{\{|<no value>`).Match(text) {
				t.Errorf("%s: not filled in:\n%s", file, text)
			}
		}
	}
}

func TestParseHeader(t *testing.T) {
	h, err := parseHeader("#: program nginx\n#: version -V\n# for people\n#: run -c /a -e /b\n#: works down up\n" +
		"#: env A=1 B=2\n#: aside it is odd\nworker_processes 1;\n#: unknown key\n")
	if err != nil || h.program != "nginx" || h.aside != "it is odd" {
		t.Fatalf("%+v, %v", h, err)
	}
	for _, one := range []struct{ got, want []string }{
		{h.version, []string{"-V"}},
		{h.run, []string{"-c", "/a", "-e", "/b"}},
		{h.works, []string{"down", "up"}},
		{h.env, []string{"A=1", "B=2"}},
	} {
		if !slices.Equal(one.got, one.want) {
			t.Errorf("%v, want %v", one.got, one.want)
		}
	}
	for _, text := range []string{
		"", "\n#: program nginx\n#: run -c a\n", "#: program nginx\n", "#: run -c a\n", "#: program nginx\n#: run a\n#: colour red\n",
	} {
		if h, err := parseHeader(text); err == nil {
			t.Errorf("%q: %+v", text, h)
		}
	}
}

// TestFindPeers finds programs in a folder, and those of a tree beside them.
func TestFindPeers(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{
		"bin/sallyport", "tree/usr/sbin/nginx", "tree/usr/lib64/ld-linux-x86-64.so.2", "tree/usr/lib/x86_64-linux-gnu/libc.so.6",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir+"/tree/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/tree/etc/debian_version", []byte("13.2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	templates, err := templates()
	if err != nil {
		t.Fatal(err)
	}
	found, _, err := findPeers(templates, dir+"/bin", dir+"/tree")
	if err != nil || len(found) < 2 || found[0].name != ours || found[0].exe != dir+"/bin/sallyport" {
		t.Fatalf("%+v, %v", found, err)
	}
	one, err := choosePeers(found, []string{"nginx13"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		dir + "/tree/usr/lib64/ld-linux-x86-64.so.2", "--library-path", dir + "/tree/usr/lib/x86_64-linux-gnu", dir + "/tree/usr/sbin/nginx",
	}
	if !slices.Equal(one[0].argv, want) {
		t.Errorf("%v, want %v", one[0].argv, want)
	}
	if _, err := choosePeers(found, []string{"haproxy13"}); err == nil {
		t.Error("a peer that is not there was chosen")
	}
}
