package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSurvey shows which folders may be seen by cores.
func TestSurvey(t *testing.T) {
	const everybody = "everybody's sockets are there"
	for _, c := range []struct {
		name   string
		socket string // in the plan, below a folder of the test's
		make   string // what there is, one a line; see makeThing
		way    way
		reason string
	}{
		{"own", "/app/web.sock", "dir app\nsocket app/web.sock\nfile app/pid", byRoot, ""},
		{"own, empty", "/app/web.sock", "dir app", byRoot, ""},
		{"absent", "/app/web.sock", "", byNone, ""},
		{"below a file", "/app/web.sock", "file app", byNone, ""},
		{"behind a link", "/current/web.sock", "dir 2\nlink current 2\nsocket 2/web.sock", byRoot, ""},
		{"link to nowhere", "/current/web.sock", "link current 2", byNone, ""},
		{"link to run", "/current/web.sock", "link current /run", byDialer, everybody},
		{"neighbour", "/app/web.sock", "dir app\nsocket app/web.sock\nsocket app/docker.sock", byDialer, "it has another socket: docker.sock"},
		{"folder", "/app/web.sock", "dir app\ndir app/tmp", byDialer, "it has a folder: tmp"},
		{"socket that is a link", "/app/web.sock", "dir app\nlink app/web.sock ../other.sock", byDialer, "the socket is a link: web.sock"},
		{"open to all", "/app/web.sock", "dir app\nmode app", byDialer, "everybody may make sockets there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, err := os.MkdirTemp("", "s") // the names of sockets are short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(base) })
			for line := range strings.Lines(c.make) {
				makeThing(t, base, strings.Fields(line))
			}
			v := surveyOf(foldersOf([]string{base + c.socket}))[0]
			if v.way != c.way || v.reason != c.reason {
				t.Errorf("%s, %q, want %s, %q", v.way, v.reason, c.way, c.reason)
			}
		})
	}
}

// makeThing makes "dir NAME", "file NAME", "socket NAME", "link NAME TARGET", or gives
// everybody a folder by "mode NAME".
func makeThing(t *testing.T, base string, words []string) {
	t.Helper()
	path := filepath.Join(base, words[1])
	var err error
	switch words[0] {
	case "dir":
		err = os.Mkdir(path, 0o755)
	case "file":
		err = os.WriteFile(path, nil, 0o600)
	case "link":
		err = os.Symlink(words[2], path)
	case "mode":
		err = os.Chmod(path, 0o777)
	case "socket":
		var listener net.Listener
		if listener, err = net.Listen("unix", path); err == nil {
			t.Cleanup(func() { listener.Close() })
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSurveyOfOne: two names of one folder, and two apps in it, are no neighbours.
func TestSurveyOfOne(t *testing.T) {
	base := t.TempDir()
	makeThing(t, base, []string{"dir", "app"})
	makeThing(t, base, []string{"link", "current", "app"})
	for _, name := range []string{"a", "b", "c"} {
		makeThing(t, base, []string{"socket", "app/" + name + ".sock"})
	}
	folders := foldersOf([]string{base + "/app/a.sock", base + "/app/b.sock", base + "/current/c.sock"})
	if len(folders) != 2 || len(folders[0].names) != 2 {
		t.Fatalf("%d folders", len(folders))
	}
	for _, v := range surveyOf(folders) {
		if v.way != byRoot {
			t.Errorf("%s: %s", v.way, v.reason)
		}
	}
}

func TestShared(t *testing.T) {
	for _, path := range []string{"/", "/run", "/tmp", "/home/deploy", "/run/user/1000", "/var/run"} {
		if !isShared(path) {
			t.Errorf("%s is nobody's", path)
		}
	}
	for _, path := range []string{"/run/shop", "/home/deploy/shop", "/srv/shop"} {
		if isShared(path) {
			t.Errorf("%s is everybody's", path)
		}
	}
}
