package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

func TestLooseKey(t *testing.T) {
	const keeper = 60579
	for _, c := range []struct {
		mode  uint32
		group int
		want  string
	}{
		{0o600, 5, ""},
		{0o400, 5, ""},
		{0o700, 5, ""},
		{0o640, keeper, ""},
		{0o640, 0, ""},
		{0o440, keeper, ""},
		{0o640, 5, "may be read by group 5"},
		{0o660, keeper, "may be written by its group"},
		{0o620, 0, "may be written by its group"},
		{0o644, 0, "open to everybody (mode 0644)"},
		{0o604, 5, "open to everybody"},
		{0o602, 5, "open to everybody"},
		{0o601, 5, "open to everybody"},
		{0o666, keeper, "open to everybody"},
	} {
		got := looseKey(c.mode|unix.S_IFREG, c.group, keeper)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%04o of group %d: %q, want %q", c.mode, c.group, got, c.want)
		}
	}
}

func TestKeeperFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("cert.pem"), "chain", 0o644)
	write(t, at("tight.pem"), "key", 0o600)
	write(t, at("loose.pem"), "key", 0o644)
	if err := os.Symlink(at("tight.pem"), at("live.pem")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cert, key, wrong, hint string
	}{
		{"cert.pem", "tight.pem", "", ""},
		{"cert.pem", "live.pem", "", ""},
		{"cert.pem", "loose.pem", "site.tls.key: " + at("loose.pem") + ": is a key and open to everybody", "chmod u=rw,g=,o= " + at("loose.pem")},
		{"cert.pem", "fifo", "site.tls.key: " + at("fifo") + ": is no regular file", ""},
		{"cert.pem", ".", "is no regular file", ""},
		{"absent", "tight.pem", "site.tls.cert: " + at("absent") + ": no such file or directory", ""},
	} {
		plan := &conf.Plan{Keeper: conf.Keeper{Certificates: []conf.Certificate{{Cert: at(c.cert), Key: at(c.key)}}}}
		b := &boot{answer: answer{Plan: plan, Files: keeperFiles(plan)}}
		mistakes := b.openFiles()
		for _, file := range b.files {
			unix.Close(file.FD)
		}
		switch {
		case c.wrong == "":
			if len(mistakes) > 0 || b.files.Names() != "cert0,key0" {
				t.Errorf("%s, %s: %v, %v", c.cert, c.key, mistakes, b.files)
			}
		case len(mistakes) != 1 || !strings.Contains(mistakes[0].Error(), c.wrong) || mistakes[0].Hint != c.hint:
			t.Errorf("%s, %s: %v, want %q", c.cert, c.key, mistakes, c.wrong)
		}
	}
}

// TestMistakesOfBoot shows that bind and files are tried all, and reported together.
func TestMistakesOfBoot(t *testing.T) {
	busy, address := listenTCP(t)
	defer busy.Close()
	h := build(t, settings{key: "good"})
	config, err := os.ReadFile(filepath.Join(h.dir, "sallyport.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(config), `"127.0.0.1:0"`, `"`+address+`"`, 1)
	write(t, filepath.Join(h.dir, "sallyport.toml"), text, 0o600)
	if err := os.Chmod(filepath.Join(h.dir, "k.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := h.cmd.CombinedOutput() // the exit code is in ProcessState
	for _, want := range []string{
		"sallyport.toml:6: listen.http: sockets: bind tcp " + address + ": address already in use\nhint: see who has it: ss -ltnp",
		"sallyport.toml:10: site.tls.key: " + h.dir + "/k.pem: is a key and open to everybody (mode 0644)\nhint: chmod u=rw,g=,o=",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if code := h.cmd.ProcessState.ExitCode(); code != exitMistake {
		t.Errorf("exit code %d", code)
	}
}

// TestControlNotMade shows that a control socket is worth one warning, no more.
func TestControlNotMade(t *testing.T) {
	log := new(bytes.Buffer)
	b := &boot{answer: answer{Plan: &conf.Plan{Control: "/nonexistent/folder/control.sock"}}, log: slog.New(slog.NewTextHandler(log, nil))}
	b.openControl()
	if len(b.links) > 0 || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "control socket not made") {
		t.Errorf("%v, %s", b.links, log)
	}
}

// TestControlMade shows that its folder is made, and a dead socket replaced.
func TestControlMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sallyport", "control.sock")
	for range 2 {
		b := &boot{answer: answer{Plan: &conf.Plan{Control: path}}, log: slog.New(slog.DiscardHandler)}
		b.openControl()
		if len(b.links) != 1 {
			t.Fatal("not made")
		}
		b.links.Close()
	}
}

// process makes what /proc would say of one.
func process(t *testing.T, proc, pid, exe, status string) {
	t.Helper()
	dir := filepath.Join(proc, pid)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "status"), status, 0o644)
	if exe != "" {
		if err := os.Symlink(exe, filepath.Join(dir, "exe")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStrangerWith(t *testing.T) {
	const ids = "Name:\tx\nUid:\t%d\t%d\t%d\t%d\nGid:\t%d\t0\t0\t0\nGroups:\t%d \n"
	status := func(uid, suid, gid, group int) string { return fmt.Sprintf(ids, uid, uid, suid, uid, gid, group) }
	for _, c := range []struct {
		name, exe, status string
		want              bool
	}{
		{"nobody's", "/bin/x", status(1, 1, 1, 1), false},
		{"longer number", "/bin/x", status(605780, 1, 1, 1), false},
		{"uid", "/bin/x", status(60578, 1, 1, 1), true},
		{"saved uid", "/bin/x", status(1, 60578, 1, 1), true},
		{"gid", "/bin/x", status(1, 1, 60578, 1), true},
		{"group", "/bin/x", status(1, 1, 1, 60578), true},
		{"ours", "/opt/sallyport-core", status(60578, 60578, 60578, 1) + "PPid:\t40\n", false},
		{"ours, replaced", "/opt/sallyport (deleted)", status(60578, 60578, 60578, 1) + "PPid:\t40\n", false},
		{"left by ours", "/opt/sallyport-core", status(60578, 60578, 60578, 1) + "PPid:\t41\n", true},
		{"left by ours, to nobody", "/opt/sallyport-core", status(60578, 60578, 60578, 1) + "PPid:\t0\n", true},
		{"nearly ours", "/opt/sallyport-core2", status(60578, 60578, 60578, 1), true},
		{"zombie", "", status(60578, 60578, 60578, 1), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			proc := t.TempDir()
			process(t, proc, "40", "/opt/sallyport", status(1, 1, 1, 1))
			write(t, filepath.Join(proc, "40", "cmdline"), "sallyport\x00warden\x00main\x00", 0o600)
			process(t, proc, "41", "/bin/other", status(0, 0, 0, 0))
			process(t, proc, "42", c.exe, c.status)
			pid, exe := strangerWith(proc, 60578)
			if found := pid == 42; found != c.want || found && exe != c.exe {
				t.Errorf("%d, %q; want %v", pid, exe, c.want)
			}
		})
	}
}

// TestCheckIDs shows that only ids which were not chosen by the operator are
// looked after.
func TestCheckIDs(t *testing.T) {
	own := os.Getuid()
	for _, users := range []conf.Users{
		{Core: conf.ID{UID: own}, Keeper: conf.ID{UID: own}, Switch: true},
		{Core: conf.ID{UID: 60578}, Keeper: conf.ID{UID: 60579}},
	} {
		if mistakes := checkIDs(fixedIDs(&conf.Plan{Users: users})); mistakes != nil {
			t.Errorf("%v: %v", users, mistakes)
		}
	}
}

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	var p pace
	for i, c := range []struct{ lived, want time.Duration }{
		{time.Second, 0},
		{time.Second, 100 * ms},
		{0, 200 * ms},
		{9 * time.Second, 400 * ms},
		{0, 800 * ms},
		{0, 1600 * ms},
		{0, 3200 * ms},
		{0, 5 * time.Second},
		{0, 5 * time.Second},
		{10 * time.Second, 0},
		{0, 100 * ms},
	} {
		if got := p.after(c.lived); got != c.want {
			t.Errorf("death %d: %v, want %v", i, got, c.want)
		}
	}
}

func TestLog(t *testing.T) {
	out := new(bytes.Buffer)
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{ReplaceAttr: houseStyle}))
	log.Warn("listener healed", "listener", "[::]:80", "error", errors.New("x"))
	var facts map[string]any
	if err := json.Unmarshal(out.Bytes(), &facts); err != nil {
		t.Fatal(err)
	}
	when, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(facts["time"]))
	if err != nil || time.Since(when).Abs() > time.Minute {
		t.Errorf("time %v, %v", facts["time"], err)
	}
	delete(facts, "time")
	if got := fmt.Sprint(facts); got != "map[error:x level:warn listener:[::]:80 message:listener healed]" {
		t.Error(got)
	}
}

// TestDuty shows that a warden reads what boot has written.
func TestDuty(t *testing.T) {
	want := duty{Who: conf.ID{UID: 7}, Siblings: []sibling{{Name: "keeper", PID: 9}}, Drain: time.Second, Wards: []wardPlan{
		{Name: "core"}, {Name: "app", App: &appPlan{Argv: conf.Words{"sh", "", "\xff"}}},
	}}
	gifts, err := want.seal(sockets.Gifts{{Name: "program", FD: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(gifts[0].FD)
	got, err := readDuty(gifts)
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if args := wardenArgs("main", gifts); strings.Join(args, " ") != "sallyport warden main duty,program" {
		t.Errorf("%v", args)
	}
}

func TestSummary(t *testing.T) {
	plan := &conf.Plan{
		Users:     conf.Users{Core: conf.ID{Name: "sallyport"}, Keeper: conf.ID{UID: 60579}},
		Workers:   2,
		Listeners: []conf.Listener{{Address: ":80"}, {Address: ":443", Secure: true}},
		Core:      conf.Core{Sites: make([]conf.Site, 1), Apps: make([]conf.App, 2)},
		Keeper:    conf.Keeper{Certificates: make([]conf.Certificate, 1)},
	}
	want := "1 site, 2 apps, http on :80, https on :443, 2 cores as sallyport, 1 certificate kept as uid 60579"
	if got := summary(plan); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
