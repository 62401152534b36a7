package main

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// sent makes what the main warden sends for a row, and returns the core's end.
func sent(t *testing.T, row int) (core int, a adoption) {
	t.Helper()
	core, keeper, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(core) })
	return core, adoption{sockets.Adoption{Row: row, Table: sockets.FirstTable}, keeper}
}

// cutOff reports whether nobody has the other end of a link any more.
func cutOff(core int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(core), Events: unix.POLLIN}}, 0)
	return n > 0
}

// TestAdopt shows that the keeper's warden passes a link on, keeps it for the next
// keeper, and drops it for the next core of its row.
func TestAdopt(t *testing.T) {
	w := &warden{log: slog.New(slog.DiscardHandler), wards: []*ward{{plan: wardPlan{Name: "keeper", Role: jail.Keeper}}}}
	w.keepFirst(nil)
	w.kept.tables[sockets.FirstTable] = sockets.Gifts{}
	first, a := sent(t, 3)
	w.adopt(a)
	gifts, release, err := w.startGifts(w.wards[0])
	if err != nil {
		t.Fatal(err)
	}
	if gifts.Names() != "adopt,link3" || cutOff(first) {
		t.Errorf("given %s", gifts.Names())
	}
	defer release()
	defer w.closeAdopt(w.wards[0])
	w.wards[0].pid = 1 << 30
	second, a := sent(t, 3)
	w.adopt(a)
	if !cutOff(first) || cutOff(second) {
		t.Error("the row has another link")
	}
	message := make([]byte, sockets.AdoptionBytesMax)
	n, descriptors, err := sockets.Receive(gifts[0].FD, message)
	defer sockets.CloseAll(descriptors)
	if string(message[:n]) != "adopt 3 1" || len(descriptors) != 1 || err != nil {
		t.Errorf("passed on %q, %v, %v", message[:n], descriptors, err)
	}
}

// TestAdoptOverLeash shows that a link comes over the leash, and that what is neither a
// link nor an order cuts it.
func TestAdoptOverLeash(t *testing.T) {
	hold, end, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(hold)
	leash, err := pollable(end, "leash")
	if err != nil {
		t.Fatal(err)
	}
	defer leash.Close()
	orders, adoptions := make(chan order), make(chan adoption)
	go leashLoop(leash, leashed{orders, adoptions, nil})
	core, a := sent(t, 7)
	if err := sockets.Send(hold, a.Append(nil), a.link); err != nil {
		t.Fatal(err)
	}
	unix.Close(a.link)
	got := <-adoptions
	if got.Row != 7 || cutOff(core) {
		t.Errorf("%+v", got)
	}
	unix.Close(got.link)
	if err := sockets.Send(hold, []byte("adopt 7 1")); err != nil { // without a link
		t.Fatal(err)
	}
	if o, held := <-orders; held {
		t.Errorf("order %q", o)
	}
}

// TestSuspect shows that the keeper is told once of a core that died, with the next link.
func TestSuspect(t *testing.T) {
	hold, leash, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.CloseAll([]int{hold, leash})
	core := wardPlan{Name: "core", Role: jail.Core, Linked: true}
	e := &estate{number: 3, ground: new(ground)}
	w := &warden{
		duty: &duty{Wards: []wardPlan{core}, Siblings: []sibling{{Name: "keeper", hold: hold}}},
		log:  slog.New(slog.DiscardHandler), state: serving,
		wards: []*ward{{plan: core, generation: 1, estate: e, link: 2, proved: true}}, reload: reload{generation: 1, last: 1},
	}
	var told bytes.Buffer
	for _, status := range []unix.WaitStatus{0, unix.WaitStatus(unix.SIGKILL), 0} {
		if status != 0 {
			w.wardDied(w.wards[0], status, time.Now())
		}
		_, release, err := w.startGifts(w.wards[0])
		if err != nil {
			t.Fatal(err)
		}
		release()
		message := make([]byte, sockets.AdoptionBytesMax)
		n, descriptors, err := sockets.Receive(leash, message)
		if err != nil || len(descriptors) != 1 {
			t.Fatalf("%v, %v", descriptors, err)
		}
		sockets.CloseAll(descriptors)
		told.Write(append(message[:n], '\n'))
	}
	if told.String() != "adopt 2 3\nadopt 2 3 suspect\nadopt 2 3\n" {
		t.Errorf("%s", &told)
	}
}
