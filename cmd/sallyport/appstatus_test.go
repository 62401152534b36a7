package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
	"sallyport/upstream/board"
)

// manyApps is a main warden with so many apps of so many members.
func manyApps(t *testing.T, apps, members int) *warden {
	t.Helper()
	plan := board.Plan{Rows: 1}
	d := new(duty)
	for i := range apps {
		plan.Apps = append(plan.Apps, board.App{Members: members, InFlightMax: 3, QueueLen: 5})
		app := appDuty{Name: fmt.Sprintf("app%d", i), InFlightMax: 3, QueueLen: 5}
		for m := range members {
			app.Sockets = append(app.Sockets, fmt.Sprintf("/run/%s/%d.sock", app.Name, m))
		}
		d.Apps = append(d.Apps, app)
	}
	memory, wakes, err := board.Create(plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(memory); unix.Close(wakes[0]) })
	w := &warden{duty: d, estate: &estate{ground: &ground{plan: plan, apps: d.Apps}}}
	if w.estate.ground.board, err = board.Map(memory, wakes, plan); err != nil {
		t.Fatal(err)
	}
	shared, err := board.Open(memory, wakes, plan, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shared.Close(); w.estate.ground.board.Unmap() })
	shared.CountTLS(board.Handshakes)
	shared.CountTLS(board.Resumed)
	q := shared.Queue(apps - 1)
	q.Count(board.Late)
	q.Count(board.Clogged)
	q.CountMember(members-1, board.Served)
	q.Lose(members-1, board.Trouble(unix.ECONNREFUSED))
	q.Judge(0, board.BadStatus(500))
	return w
}

// TestAppStatus: the numbers of the board come under the names of the plan.
func TestAppStatus(t *testing.T) {
	all := manyApps(t, 2, 2).appStatuses()
	want := `[{Name:app0 MaxInFlight:3 QueueLen:5 InFlight:0 Queued:0 Served:0 QueueFull:0 QueueTime:0 Holds:0 Retries:0 Failed:0 ` +
		`Drained:0 Clogged:0 Overflowed:0 SpoolFull:0 ` +
		`Members:[{Socket:/run/app0/0.sock State:up Why: InFlight:0 Served:0 Ejections:0 Checks:0 ChecksFailed:0 Peer:<nil>} ` +
		`{Socket:/run/app0/1.sock State:up Why: InFlight:0 Served:0 Ejections:0 Checks:0 ChecksFailed:0 Peer:<nil>}]} ` +
		`{Name:app1 MaxInFlight:3 QueueLen:5 InFlight:0 Queued:0 Served:1 QueueFull:0 QueueTime:1 Holds:0 Retries:0 Failed:0 ` +
		`Drained:0 Clogged:1 Overflowed:0 SpoolFull:0 ` +
		`Members:[{Socket:/run/app1/0.sock State:out Why:check: status 500 InFlight:0 Served:0 Ejections:0 Checks:1 ChecksFailed:1 Peer:<nil>} ` +
		`{Socket:/run/app1/1.sock State:out Why:connect: connection refused InFlight:0 Served:1 Ejections:1 Checks:0 ChecksFailed:0 Peer:<nil>}]}]`
	if got := fmt.Sprintf("%+v", all); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if none := new(warden).appStatuses(); none == nil || len(none) != 0 {
		t.Errorf("%v of a warden without a board", none)
	}
}

// TestStatusLong: an answer that fits no message comes whole.
func TestStatusLong(t *testing.T) {
	w := manyApps(t, 100, 64)
	w.duty.Apps[99].Name = "last"
	text := (&status{State: "serving", Apps: w.appStatuses()}).text()
	if len(text) < 10*statusPiece {
		t.Fatalf("%d bytes are no long answer", len(text))
	}
	path := filepath.Join(t.TempDir(), "control.sock")
	fd, err := sockets.BindPath(path, unix.SOCK_SEQPACKET, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := pollable(fd, "control")
	if err != nil {
		t.Fatal(err)
	}
	questions, ended := make(chan question, 1), make(chan struct{})
	c := &control{socket: socket, starter: os.Getuid(), log: slog.New(slog.DiscardHandler), ask: questions}
	go func() { c.loop(nil); close(ended) }()
	t.Cleanup(func() { socket.Close(); <-ended })
	go func() { (<-questions) <- text }()
	got, _, err := askStatus(path)
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%v, %d bytes of %d", err, len(got), len(text))
	}
}

// TestPeers: who listens is this process, or nobody that can be seen.
func TestPeers(t *testing.T) {
	dir := t.TempDir()
	there, stale := filepath.Join(dir, "there"), filepath.Join(dir, "stale")
	for _, path := range []string{there, stale} {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		listener.SetUnlinkOnClose(false)
		if path == stale {
			listener.Close()
			continue
		}
		t.Cleanup(func() { listener.Close() })
	}
	s := &status{Apps: []appStatus{{Members: []memberStatus{
		{Socket: there, State: memberUp},
		{Socket: stale, State: memberUp},
		{Socket: stale, State: memberOut, Why: "check: status 500"},
		{Socket: filepath.Join(dir, "none"), State: memberUp},
		{Socket: filepath.Join(there, "below"), State: memberUp},
	}}}}
	s.findPeers()
	want := []string{memberUp, memberAbsent, memberOut, memberAbsent, memberUp}
	for i, m := range s.Apps[0].Members {
		if m.State != want[i] || (i > 0) != (m.Peer.Why != "") || (i > 0) != (m.Peer.UID == -1) {
			t.Errorf("%+v, %+v; want %s", m, m.Peer, want[i])
		}
	}
	peer := s.Apps[0].Members[0].Peer
	if peer.PID != os.Getpid() || peer.UID != os.Getuid() || !strings.HasPrefix(peer.Command, os.Args[0]) || os.Getuid() == 0 && peer.User != "root" {
		t.Errorf("%+v", peer)
	}
}

// TestPlainCommand: what a process calls itself does nothing to a terminal.
func TestPlainCommand(t *testing.T) {
	long := strings.Repeat("x", commandMax)
	for text, want := range map[string]string{
		"":                           "",
		"puma\x00-C\x00p.rb\x00":     "puma -C p.rb",
		"gunicorn: master [shop]":    "gunicorn: master [shop]",
		"a\x1b[31mb\nc\td\x7f\u202e": "a?[31mb?c?d??",
		"\xff\xfe":                   "?",
		"caf\u00e9\x00\x00\x00":      "café",
		long:                         long,
		long + "y":                   long + "...",
	} {
		if got := plainCommand([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzPlainCommand(f *testing.F) {
	f.Add([]byte("puma\x00-C\x1b\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		plain := plainCommand(text)
		if strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) || len(plain) > 3*commandMax+3 {
			t.Errorf("%q", plain)
		}
	})
}
