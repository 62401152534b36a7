package keeper

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// Loading takes what is whole and says of the rest that it is obtained anew.
func TestScheduleLoads(t *testing.T) {
	folder := folderAt(t, t.TempDir())
	plan := conf.ACME{CA: "https://ca.test/dir"}
	o := newObtainer(plan, folder, nil)
	defer o.close()
	cert, key := issue(t, keys()["P-256"])
	file := siteFile("certificates/" + o.issuer.IssuerKey() + "/good.test")
	broken := siteFile("certificates/" + o.issuer.IssuerKey() + "/bad.test")
	for name, content := range map[string][]byte{file: bundle(key, cert, []byte("{}")), broken: bundle(key, nil, nil)} {
		if err := folder.Write(name, content); err != nil {
			t.Fatal(err)
		}
	}
	store := &Store{pairs: []pair{{orderedFor: "good.test"}, {orderedFor: "bad.test"}, {orderedFor: "new.test"}}}
	k := New(store, nil, zerolog.Nop())
	s := &schedule{keeper: k, obtainer: o, log: zerolog.Nop(), ledger: newLedger(folder, plan.CA)}
	for handle, name := range []string{"good.test", "bad.test", "new.test"} {
		s.take(name, s.loadAll([]string{name})[0], func(change func()) { change() })
		n := s.names[handle]
		has := store.pairs[handle].key != nil
		if has != (handle == 0) || has != (n.leaf != nil) || has != n.due.After(time.Now()) {
			t.Errorf("%s: %+v, key %v", name, n, has)
		}
	}
	if folder.Has(broken) {
		t.Error("the broken one is still there")
	}
}

// Two tables have one name under other handles: both get what is published, and each core is
// told the handle of its own. A table that comes later has it from the start.
func TestTablesOfOneName(t *testing.T) {
	k, cores := served(t, 2)
	first, second := k.tables[sockets.FirstTable], &Store{pairs: []pair{{}, {}, {orderedFor: "a.test"}}}
	first.pairs[0].orderedFor = "a.test"
	k.Keep(sockets.FirstTable, first)
	k.Keep(2, second)
	k.sessions[1].store = second
	cert, key := issue(t, keys()["P-256"])
	p, err := unbundle(bundle(key, cert, nil))
	if err != nil {
		t.Fatal(err)
	}
	k.publish("a.test", p)
	for i, want := range []uint32{0, 2} {
		packets := paid(t, &k.sessions[i], cores[i])
		m, err := keywire.DecodeCertificate(packets[0])
		if err != nil || m.Handle != want || !bytes.Equal(m.Chain[0], p.chain[0]) {
			t.Errorf("core %d: got handle %d, %v, want %d", i, m.Handle, err, want)
		}
	}
	k.kept = func(name string) (pair, error) {
		if name != "back.test" {
			return pair{}, fs.ErrNotExist
		}
		return p, nil
	}
	third := &Store{pairs: []pair{{orderedFor: "a.test"}, {orderedFor: "back.test"}, {orderedFor: "new.test"}, {}}}
	k.fill(third)
	for i, want := range []string{"a.test", "back.test", "new.test", ""} {
		if got := third.pairs[i]; (got.key != nil) != (i < 2) || got.orderedFor != want {
			t.Errorf("a third table has %+v at %d", got, i)
		}
	}
}

// What comes and goes with tables is ordered, or is not any more.
func TestScheduleFollows(t *testing.T) {
	k, _ := served(t, 1)
	k.wanted = make(chan []string, 1)
	var err error
	if k.changes, err = newChanges(); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(k.changes.fd)
	folder := folderAt(t, t.TempDir())
	plan := conf.ACME{CA: "https://ca.test/dir"}
	o := newObtainer(plan, folder, nil)
	defer o.close()
	s := &schedule{keeper: k, obtainer: o, folder: folder, log: zerolog.Nop(), ledger: newLedger(folder, plan.CA)}
	tell := func(number int, names ...string) {
		store := &Store{}
		for _, name := range names {
			store.pairs = append(store.pairs, pair{orderedFor: name})
		}
		k.Keep(number, store)
		k.follow()
	}
	check := func(want string) {
		t.Helper()
		s.follow(<-k.wanted)
		var got []string
		for _, n := range s.names {
			if !n.dropped {
				got = append(got, n.name)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	tell(2, "a.test", "b.test")
	check("a.test b.test")
	late := s.names[0]
	s.note(late, nil)
	status := sockets.FileName(standingPrefix + "a.test")
	tell(3, "b.test", "c.test")
	k.forget(2) // nobody has read of table 3 yet
	check("b.test c.test")
	s.note(late, nil) // the end of a question that was under way
	if folder.Has(status) {
		t.Error("the status of a name that is gone is still there")
	}
	cert, key := issue(t, keys()["P-256"])
	if err := folder.Write(siteFile("certificates/"+o.issuer.IssuerKey()+"/a.test"), bundle(key, cert, []byte("{}"))); err != nil {
		t.Fatal(err)
	}
	tell(4, "a.test")
	check("a.test b.test c.test")
	k.changes.make()
	if len(s.names) != 3 || k.tables[4].pairs[0].key == nil {
		t.Errorf("there are %d names, and the certificate that was kept is %+v", len(s.names), k.tables[4].pairs[0])
	}
}
