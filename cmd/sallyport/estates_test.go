package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
	"sallyport/upstream/board"
)

// memory is a descriptor of something.
func memory(t *testing.T) int {
	t.Helper()
	fd, err := sockets.Seal("test", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// open is how many descriptors this process has.
func open(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// bound is a listener of what a configuration would call text.
func bound(t *testing.T, text string) sockets.Listener {
	t.Helper()
	where, err := sockets.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	l, err := sockets.Bind(where, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// inForce is a main warden with one listener.
func inForce(t *testing.T) *warden {
	t.Helper()
	l := bound(t, "127.0.0.1:0")
	here := listening{Gift: "http0", Text: "127.0.0.1:0", Address: l.Address}
	d := &duty{Listeners: []listening{here}}
	w := &warden{duty: d, log: slog.New(slog.DiscardHandler), state: serving}
	if err := w.firstEstate(sockets.Gifts{{Name: "http0", FD: l.FD}, {Name: "running", FD: memory(t)}}); err != nil {
		t.Fatal(err)
	}
	return w
}

// offered packs a duty as the reload command does, with what else is named.
func offered(t *testing.T, d duty, more ...string) int {
	t.Helper()
	var gifts sockets.Gifts
	for _, name := range more {
		gifts = append(gifts, sockets.Gift{Name: name, FD: memory(t)})
	}
	gifts, err := d.seal(gifts)
	if err != nil {
		t.Fatal(err)
	}
	parcel, err := sockets.Pack(gifts)
	if err != nil {
		t.Fatal(err)
	}
	gifts.Close()
	return parcel
}

// TestEstates shows what an offer has to be, and that nothing stays open of what is
// refused.
func TestEstates(t *testing.T) {
	w := inForce(t)
	before := open(t)
	for want, parcel := range map[string]int{
		"another reload has come between": offered(t, duty{Follows: 2}, "running", "part"),
		`gift "running": not given`:       offered(t, duty{Follows: 1}, "part"),
		`gift "duty": not given`:          func() int { p, _ := sockets.Pack(nil); return p }(),
		"neither here nor given":          offered(t, duty{Follows: 1, Listeners: []listening{{Gift: "http1", Text: ":80"}}}, "running"),
		"certificates for the keeper":     offered(t, duty{Follows: 1}, "running", "part", "keeper"),
	} {
		if e, err := w.takeEstate(parcel); err == nil || !strings.Contains(err.Error(), want) || (want == "another reload has come between") != errors.Is(err, errOutdated) {
			t.Errorf("%+v, %v, want %s", e, err, want)
		}
	}
	if after := open(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// TestEstatesFollow shows that a listener in common is kept under its new name, and that
// nothing stays open of a plan that is over.
func TestEstatesFollow(t *testing.T) {
	w := inForce(t)
	here := w.duty.Listeners[0]
	before := open(t)
	path := filepath.Join(t.TempDir(), "x.sock")
	fresh := bound(t, "unix:"+path)
	renamed := here
	renamed.Gift = "http1"
	next := duty{Follows: 1, Listeners: []listening{{Gift: "http0", Text: "unix:" + path, Address: "unix:" + path}, renamed}}
	gifts, err := next.seal(sockets.Gifts{{Name: "running", FD: memory(t)}, {Name: "part", FD: memory(t)}, {Name: "http0", FD: fresh.FD}})
	if err != nil {
		t.Fatal(err)
	}
	parcel, err := sockets.Pack(gifts)
	if err != nil {
		t.Fatal(err)
	}
	gifts.Close()
	e, err := w.takeEstate(parcel)
	if err != nil {
		t.Fatal(err)
	}
	if names := w.lends(e).Names(); names != "program,part,http0,http1" {
		t.Errorf("lends %s", names)
	}
	kept := w.doors[0].fd
	w.enforce(e)
	w.keepDoors(e)
	w.settle()
	if doors := w.doorsOf(e); len(doors) != 2 || len(w.doors) != 2 || doors[1].fd != kept || len(w.estates) != 1 || w.duty.Listeners[1].Gift != "http1" {
		t.Errorf("%+v, %d estates", doors, len(w.estates))
	}
	last, err := w.takeEstate(offered(t, duty{Follows: e.number}, "running"))
	if err != nil {
		t.Fatal(err)
	}
	w.enforce(last)
	w.keepDoors(last)
	w.settle()
	if _, err := os.Lstat(path); err == nil || len(w.doors) != 0 {
		t.Error("a listener is left that no plan has")
	}
	if after := open(t); after != before-1 {
		t.Errorf("%d descriptors, want one less than %d: the listener's", after, before)
	}
}

// TestKeep shows that the keeper's warden has each table for the next keeper until it is
// forgotten, with its links; the internal CA stays.
func TestKeep(t *testing.T) {
	before := open(t)
	keeper := &ward{plan: wardPlan{Name: "keeper", Role: jail.Keeper}, gifts: sockets.Gifts{{Name: "plan", FD: memory(t)}, {Name: "key0", FD: memory(t)}}}
	w := &warden{log: slog.New(slog.DiscardHandler), wards: []*ward{keeper}}
	w.keepFirst(nil)
	packed := func(names ...string) int {
		var gifts sockets.Gifts
		for _, name := range names {
			gifts = append(gifts, sockets.Gift{Name: name, FD: memory(t)})
		}
		parcel, err := sockets.Pack(gifts)
		if err != nil {
			t.Fatal(err)
		}
		gifts.Close()
		return parcel
	}
	w.keep(keeping{sockets.Keeping{Table: 2}, packed("plan", "key0", "secret", "root")})
	w.keep(keeping{sockets.Keeping{Table: 3}, -1}) // no parcel at all
	for row, table := range []int{1, 2, 3} {
		core, a := sent(t, row)
		a.Table = table
		w.adopt(a)
		if cutOff(core) != (table == 3) {
			t.Errorf("table %d: cut off: %v", table, cutOff(core))
		}
	}
	given := func() map[string]bool {
		gifts, release, err := w.startGifts(keeper)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		names := map[string]bool{}
		for _, gift := range append(gifts, keeper.gifts...) {
			names[gift.Name] = true
		}
		return names
	}
	want := "map[adopt:true key0:true link0:true link1-2:true plan:true root:true secret:true table2-key0:true table2-plan:true]"
	if got := fmt.Sprint(given()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	w.keep(keeping{sockets.Keeping{Table: 1, Forget: true}, -1})
	want = "map[adopt:true link1-2:true root:true secret:true table2-key0:true table2-plan:true]"
	if got := fmt.Sprint(given()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	w.keep(keeping{sockets.Keeping{Table: 2, Forget: true}, -1})
	w.closeAdopt(keeper)
	keeper.gifts.Close()
	if after := open(t); after != before+3 { // the cores' ends of their links, until the end of the test
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// TestRoomFor: tables that a next keeper could not be given are not taken.
func TestRoomFor(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	w := &warden{kept: kept{tables: map[int]sockets.Gifts{1: make(sockets.Gifts, 100)}}}
	for i := range w.kept.tables[1] {
		w.kept.tables[1][i].Name = fmt.Sprint("key", i)
	}
	if err := w.roomFor(make(sockets.Gifts, 100)); err != nil {
		t.Error(err)
	}
	if err := w.roomFor(make(sockets.Gifts, argumentMax/len("table1000-"))); err == nil {
		t.Error("more names than an argument may have")
	}
	if err := w.roomFor(make(sockets.Gifts, limit.Max/2)); err == nil {
		t.Error("more files than a process may have")
	}
}

// TestCounts: what is counted of an app on ground that is gone is counted on, for as long
// as a plan has the app, and its members by their sockets.
func TestCounts(t *testing.T) {
	old := manyApps(t, 2, 2)
	w := manyApps(t, 2, 2)
	first := old.appStatuses()[1]
	shaken, both := old.tlsReport(), old.tlsReport()
	both.Add(shaken)
	w.keepCounts(old.estate.ground)
	w.keepCounts(new(ground))
	if got := w.tlsReport(); got != both || shaken == (board.TLSReport{}) {
		t.Errorf("handshakes: %v, want twice %v", got, shaken)
	}
	sum := w.appStatuses()
	if got := sum[1]; got.Served != 2*first.Served || got.QueueTime != 2*first.QueueTime || got.Clogged != 2*first.Clogged ||
		got.Members[1].Ejections != 2*first.Members[1].Ejections || got.Members[0].ChecksFailed != 2*first.Members[0].ChecksFailed ||
		got.MaxInFlight != first.MaxInFlight || got.Members[1].Why != first.Members[1].Why {
		t.Errorf("%+v, want twice %+v", got, first)
	}
	w.estate.ground.apps = w.estate.ground.apps[:1] // a plan without the other
	w.keepCounts(new(ground))
	if len(w.counts) != 1 {
		t.Errorf("%+v", w.counts)
	}
}
