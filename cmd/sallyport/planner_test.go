package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

// planned is the answer of a planner that is this process: what is asked, given, looked up
// and answered as it is between two.
func planned(t *testing.T, q inquiry) answer {
	t.Helper()
	gifts, err := q.gather()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, gift := range gifts {
			switch gift.Name {
			case "text", "passwd", "group", "subuid", "subgid": // a planner closes what it has read
			default:
				unix.Close(gift.FD)
			}
		}
	}()
	fd, err := gifts.FD("question")
	if err != nil {
		t.Fatal(err)
	}
	text, err := sockets.ReadSealed(fd)
	if err != nil {
		t.Fatal(err)
	}
	var asked inquiry
	if err := json.Unmarshal(text, &asked); err != nil {
		t.Fatal(err)
	}
	mine, theirs, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { answerLooks(mine); close(done) }()
	a := asked.answer(append(gifts, sockets.Gift{Name: "looks", FD: theirs}))
	unix.Close(theirs)
	<-done
	unix.Close(mine)
	if text, err = json.Marshal(a); err != nil {
		t.Fatal(err)
	}
	var again answer
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	return again
}

// TestPlanner shows that a planner finds what only its starter can look at, and says every
// mistake at once.
func TestPlanner(t *testing.T) {
	dir := t.TempDir()
	own(t, dir, os.Getuid())
	path := filepath.Join(dir, "sallyport.toml")
	const top = "state = \"state\"\n[[site]]\nhost = \"shop.test\"\napp = \"unix:/run/shop/a.sock\"\n"
	for _, c := range []struct {
		name, text string
		want       []string // what mistakes say; none: a plan
	}{
		{"fine", top + "tls = \"internal\"\n", nil},
		{"files", top + "tls = { cert = \"c.pem\", key = \"k.pem\" }\n", []string{"c.pem: no such file", "k.pem: is a folder"}},
		{"both kinds", "nonsense = 1\n" + top + "tls = { cert = \"c.pem\", key = \"k.pem\" }\n", []string{"is not a key", "c.pem: no such file", "k.pem: is a folder"}},
		{"no text", "\x00", []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, path, c.text, 0o600)
			_ = os.Mkdir(filepath.Join(dir, "k.pem"), 0o700) // it is there from the second time on
			a := planned(t, inquiry{Command: "run", Path: path})
			if (a.Plan == nil) != (len(c.want) > 0) || a.Control == "" && os.Getuid() == 0 {
				t.Fatalf("%+v", a)
			}
			for i, want := range c.want {
				if i >= len(a.Mistakes) || !strings.Contains(a.Mistakes[i].String(), want) {
					t.Errorf("%v, want %q", a.Mistakes, c.want)
				}
			}
			if a.Plan == nil {
				return
			}
			if a.Plan.State != filepath.Join(dir, "state") || a.Main.Who.UID != a.Plan.Users.Core.UID || a.Main.Starter != os.Getuid() ||
				!strings.Contains(a.Main.Trust, "state/root.pem") {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestPlannerServe shows that arguments come to a planner as they are, and what is wrong
// with them comes back.
func TestPlannerServe(t *testing.T) {
	a := planned(t, inquiry{Command: "serve", Words: conf.Words{"--ready-fd", "7", "--tls", "off", "unix:/run/\u00e4.sock"}})
	if a.Plan == nil || a.ReadyFD != 7 || a.Plan.Core.Apps[0].Sockets[0] != "/run/\u00e4.sock" {
		t.Errorf("%+v", a)
	}
	if a = planned(t, inquiry{Command: "serve", Words: conf.Words{"--nonsense"}}); a.Refused == "" || a.Plan != nil {
		t.Errorf("%+v", a)
	}
	if a = planned(t, inquiry{Command: "serve", Words: conf.Words{"--listen", "nowhere", "unix:/a.sock"}}); len(a.Mistakes) != 1 {
		t.Errorf("%+v", a)
	}
}

// TestPlannerUnreadable shows that what its starter may not read is a mistake, and so is a
// path that no answer could name.
func TestPlannerUnreadable(t *testing.T) {
	if a := planned(t, inquiry{Command: "run", Path: t.TempDir() + "/absent"}); a.Plan != nil || !strings.Contains(a.Mistakes[0].What, "cannot be opened: no such file") {
		t.Errorf("%+v", a)
	}
	if a := planned(t, inquiry{Command: "run", Path: "/tmp/\xff.toml"}); a.Plan != nil || !strings.Contains(a.Mistakes[0].What, "is not UTF-8") {
		t.Errorf("%+v", a)
	}
	q := inquiry{Unread: map[string]unix.Errno{"/etc/passwd": unix.EACCES}}
	if _, err := q.surroundings(sockets.Gifts{{Name: "looks", FD: -1}}); err == nil || !strings.Contains(err.Error(), "/etc/passwd: permission denied") {
		t.Errorf("%v", err)
	}
}

// TestPlannerGone shows that a planner which ends without an answer is a mistake, and that a
// starter which ends is one for the planner.
func TestPlannerGone(t *testing.T) {
	a, b, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(a)
	if _, err := look(b, "/"); err == nil {
		t.Error("nobody answers, and there is an answer")
	}
	unix.Close(b)
	if _, err := look(b, strings.Repeat("x", unix.PathMax+1)); err != unix.ENAMETOOLONG {
		t.Errorf("%v", err)
	}
	if code := plannerCommand(nil); code != exitMistake {
		t.Errorf("by hand: exit code %d", code)
	}
}
