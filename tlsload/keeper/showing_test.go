package keeper

import (
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
)

// shownBy is what somebody reads of a Keeper's memory.
func shownBy(t *testing.T, fd int) (number uint64, all []standing) {
	t.Helper()
	head := make([]byte, showingHead)
	if n, err := unix.Pread(fd, head, 0); n != len(head) {
		t.Fatal(n, err)
	}
	text := make([]byte, binary.NativeEndian.Uint64(head[8:]))
	if _, err := unix.Pread(fd, text, showingHead); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return binary.NativeEndian.Uint64(head), all
}

// TestShowing: what is served is shown, of the last table, once for each change; what has no
// room is left out.
func TestShowing(t *testing.T) {
	k, _ := served(t, 1)
	cert, key := issue(t, keys()["P-256"])
	p, err := unbundle(bundle(key, cert, nil))
	if err != nil {
		t.Fatal(err)
	}
	p.file = "/etc/shop.pem"
	k.Keep(2, &Store{pairs: []pair{p, {orderedFor: "a.test"}, {orderedFor: "b.test"}}})
	const size = 4096
	fd, err := sockets.Sealable("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := sockets.Fix(fd, size); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := k.Show(fd); err != nil {
		t.Fatal(err)
	}
	k.showing.note(standing{Host: "a.test", Source: "acme", Error: "no", Next: time.Now()})
	k.show()
	k.show()
	number, all := shownBy(t, fd)
	if number != 2 || len(all) != 2 || all[0].Source != "file" || all[0].File != p.file || all[0].Serial != p.leaf.SerialNumber.Text(16) ||
		all[1].Host != "a.test" || all[1].Error != "no" {
		t.Errorf("number %d, %+v", number, all)
	}
	many := &Store{}
	for range 100 {
		many.pairs = append(many.pairs, p)
	}
	k.Keep(3, many)
	k.show()
	if number, all = shownBy(t, fd); number != 4 || len(all) == 0 || len(all) == 100 {
		t.Errorf("number %d, %d are shown in %d bytes", number, len(all), size)
	}
	k.forget(3)
	k.show()
	if _, all = shownBy(t, fd); len(all) != 2 {
		t.Errorf("%+v", all)
	}
}
