package keeper

import (
	"context"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// adopting runs a keeper without a link, and returns its warden's end and what waits for
// its end.
func adopting(t *testing.T) (k *Keeper, warden int, wait func() error) {
	t.Helper()
	warden, theirs, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	k = New(stocked(t, keys()["Ed25519"]), []int{-1, -1}, zerolog.Nop())
	if err := k.Adopt(theirs, loads(t)); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { served <- k.Serve(ctx) }()
	t.Cleanup(func() { cancel(); unix.Close(warden); unix.Close(theirs) })
	return k, warden, func() error { return <-served }
}

// comes sends a link for a row, and returns the core's end.
func comes(t *testing.T, warden int, a sockets.Adoption) (core int) {
	t.Helper()
	core, keeper, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(core) })
	if err := sockets.Send(warden, a.Append(nil), keeper); err != nil {
		t.Fatal(err)
	}
	unix.Close(keeper)
	return core
}

// greets says Hello and takes the ticket keys and the one certificate.
func greets(t *testing.T, core int, epoch uint64) (tickets string) {
	t.Helper()
	told(t, core, keywire.Hello{Epoch: epoch}.Append(nil))
	for range 2 {
		packet := heard(t, core)
		if op, _, _ := keywire.Head(packet); op == keywire.OpTickets {
			m, err := keywire.DecodeTickets(packet)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range m.Keys {
				tickets += string(key[:])
			}
		}
	}
	return tickets
}

// A link that comes while the keeper runs is as good as any; the next one of its row
// ends it; and what is no adoption, or comes without a link, harms nobody.
func TestAdopt(t *testing.T) {
	k, warden, wait := adopting(t)
	first := comes(t, warden, sockets.Adoption{Row: 5, Table: sockets.FirstTable})
	tickets := greets(t, first, 1)
	for _, nonsense := range []string{"adopt 6", "adopt 6 1", "adopt 1024 1", "keep 2", "nonsense"} {
		if err := sockets.Send(warden, []byte(nonsense)); err != nil {
			t.Fatal(err)
		}
	}
	second := comes(t, warden, sockets.Adoption{Row: 5, Table: sockets.FirstTable})
	if greets(t, second, 2) != tickets {
		t.Error("other ticket keys, and nobody has died")
	}
	if n, err := unix.Read(first, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("the first link is not closed: %d bytes, %v", n, err)
	}
	unix.Close(second) // a keeper without a link goes on
	third := comes(t, warden, sockets.Adoption{Row: 0, Table: sockets.FirstTable})
	greets(t, third, 3)
	if err := unix.Shutdown(warden, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
	if len(k.sessions) != 6 || k.sessions[5].link != -1 || k.sessions[5].state != ended {
		t.Errorf("%d sessions, that of row 5: %+v", len(k.sessions), k.sessions[5])
	}
}

// The ticket keys that a dead core knew are not used for long.
func TestAdoptSuspect(t *testing.T) {
	k, warden, wait := adopting(t)
	greets(t, comes(t, warden, sockets.Adoption{Row: 0, Table: sockets.FirstTable}), 1)
	greets(t, comes(t, warden, sockets.Adoption{Row: 1, Table: sockets.FirstTable, Suspect: true}), 2)
	if err := unix.Shutdown(warden, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
	if !k.tickets.spoiled {
		t.Error("the ticket keys are not spoilt")
	}
}
