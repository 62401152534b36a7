package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

func TestAppEnvironment(t *testing.T) {
	starter := []string{
		"PATH=/bin", "LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b", "NOTIFY_SOCKET=/n", "WATCHDOG_USEC=1",
		"RUNTIME_DIRECTORY=/run/x", "STATE_DIRECTORY=/s", "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash",
		"MAIL=/m", "XDG_RUNTIME_DIR=/run/user/0", "SUDO_USER=joe", "RAILS_ENV=production", "ODD",
	}
	always := "LISTEN_FDS=1 LISTEN_FDNAMES=app PATH=/bin "
	for _, c := range []struct {
		name     string
		user     conf.Account
		switched bool
		want     string
	}{
		{
			"himself",
			conf.Account{ID: conf.ID{Name: "root"}, Home: "/other"},
			false,
			always + "HOME=/root USER=root LOGNAME=root SHELL=/bin/bash MAIL=/m XDG_RUNTIME_DIR=/run/user/0 SUDO_USER=joe RAILS_ENV=production ODD",
		},
		{
			"another",
			conf.Account{ID: conf.ID{Name: "shop"}, Home: "/srv/shop", Shell: "/bin/zsh"},
			true,
			always + "RAILS_ENV=production ODD HOME=/srv/shop SHELL=/bin/zsh USER=shop LOGNAME=shop",
		},
		{"a number", conf.Account{ID: conf.ID{UID: 7}}, true, always + "RAILS_ENV=production ODD HOME=/ SHELL=/bin/sh"},
	} {
		if got := strings.Join(appEnvironment(starter, c.user, c.switched), " "); got != c.want {
			t.Errorf("%s: got  %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestFindAppProgram shows that the search is that of the app's user.
func TestFindAppProgram(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		own(t, dir, 0)
	}
	for name, mode := range map[string]os.FileMode{"closed": 0o700, "open": 0o755} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "shop"), "#!/bin/sh\n", 0o755)
		write(t, filepath.Join(dir, name, "text"), "", 0o644)
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	who := conf.ID{UID: os.Geteuid(), GID: os.Getegid()}
	first := "closed" // to others
	if who.UID == 0 {
		who = conf.ID{UID: appUID, GID: appUID}
		first = "open"
	}
	path := strings.Join([]string{"", "open", filepath.Join(dir, "absent"), filepath.Join(dir, "closed"), filepath.Join(dir, "open")}, ":")
	for _, c := range []struct {
		name, path, want, wrong string
	}{
		{"shop", path, filepath.Join(dir, first, "shop"), ""},
		{"sh", "", "/usr/bin/sh", ""},
		{"./open/shop", "", filepath.Join(dir, "open/shop"), ""},
		{filepath.Join(dir, "open/shop"), "", filepath.Join(dir, "open/shop"), ""},
		{"text", path, "", "finds no such program"},
		{"open/text", path, "", "cannot execute it: permission denied"},
		{"./open", path, "", "cannot execute it: is no program"},
		{"./absent", path, "", "cannot execute it: no such file or directory"},
	} {
		got, err := findAppProgram(c.name, c.path, who)
		var explained *fileError
		switch {
		case c.wrong == "":
			if err != nil || got != c.want {
				t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
			}
		case err == nil || !strings.Contains(err.Error(), c.wrong) || !errors.As(err, &explained) || explained.hint == "":
			t.Errorf("%s: %v, want %q and a hint", c.name, err, c.wrong)
		}
	}
	if who.UID == os.Geteuid() {
		return
	}
	t.Chdir(filepath.Join(dir, "closed"))
	if _, err := findAppProgram("sh", "", who); err == nil || !strings.Contains(err.Error(), "may not enter it, and the app runs there") {
		t.Errorf("in a folder that is closed: %v", err)
	}
}

// TestMakeAppSocket shows who may go to the socket of an app.
func TestMakeAppSocket(t *testing.T) {
	const core, stranger = 60613, 60614
	root := os.Geteuid() == 0
	b := &boot{answer: answer{Plan: &conf.Plan{Users: conf.Users{Core: conf.ID{UID: os.Geteuid(), GID: os.Getegid()}, Switch: root}}}}
	dir := t.TempDir()
	if root {
		own(t, dir, 0)
		b.Plan.Users.Core = conf.ID{UID: core, GID: core}
	}
	path := filepath.Join(dir, "new", "of one app", "app.sock")
	for _, owner := range []int{appUID, appUID + 10} { // a predecessor's is taken over
		if !root {
			owner = os.Geteuid()
		}
		fd, err := b.makeAppSocket(path, owner, entryOf(owner))
		if err != nil {
			t.Fatal(err)
		}
		if backlogged, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); backlogged != 1 || err != nil {
			t.Errorf("does not listen: %d, %v", backlogged, err)
		}
		if _, err := b.makeAppSocket(path, owner, entryOf(owner)); err == nil || !strings.Contains(err.Error(), "somebody listens there") {
			t.Errorf("a second one: %v", err)
		}
		if root {
			uids := []int{core, owner, stranger}
			reach := walkAs(t, path, uids)
			if want := []bool{true, true, false}; !slices.Equal(reach, want) {
				t.Errorf("core, app, stranger go there: %v, want %v", reach, want)
			}
		}
		unix.Close(fd)
	}
}

// walkAs says which of some users get to a socket.
func walkAs(t *testing.T, path string, uids []int) (reach []bool) {
	t.Helper()
	for _, uid := range uids {
		var obstacle *sockets.Obstacle
		if err := jail.As(conf.ID{UID: uid, GID: uid}, func() { obstacle = sockets.Walk(path) }); err != nil {
			t.Fatal(err)
		}
		reach = append(reach, obstacle == nil)
	}
	return reach
}

// TestMakeAppFolder shows that boot uses no folder of somebody else.
func TestMakeAppFolder(t *testing.T) {
	dir := t.TempDir()
	b := &boot{answer: answer{Plan: &conf.Plan{}}}
	write(t, filepath.Join(dir, "file"), "", 0o600)
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link"} {
		if err := b.makeAppFolder(filepath.Join(dir, name), entryOf(appUID)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(dir, appUID, appUID); err != nil {
		t.Fatal(err)
	}
	if err := b.makeAppFolder(dir, entryOf(appUID)); err == nil || !strings.Contains(err.Error(), "belongs to uid 60612") {
		t.Errorf("%v", err)
	}
}

// TestStageArguments shows that a stage reads what start writes.
func TestStageArguments(t *testing.T) {
	s := stage{Role: jail.App, Sandbox: "full", Who: conf.ID{UID: 7, GID: 8, Groups: []int{8, 27}}, gifts: sockets.Gifts{{Name: "app", FD: 3}}}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		fine bool
	}{
		{[]string{"app,stage-stdout", string(text), "/bin/app", "app", "\xff"}, true},
		{[]string{"", string(text), "", "app"}, false},
		{[]string{"", string(text), "/bin/app"}, false},
		{[]string{"", "nonsense", "/bin/app", "app"}, false},
	} {
		got, err := parseStage(c.args)
		if (err == nil) != c.fine {
			t.Errorf("%q: %v", c.args, err)
		}
		if s.program = (jail.Program{Path: "/bin/app", Argv: []string{"app", "\xff"}, Stdout: 4}); c.fine && !reflect.DeepEqual(got, s) {
			t.Errorf("%q: %+v", c.args, got)
		}
	}
	if _, err := newWard(wardPlan{App: &appPlan{}}, sockets.Gifts{{Name: "program", FD: 3}}); err == nil {
		t.Error("an app without a stdout")
	}
}
