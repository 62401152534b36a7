package keeper

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/tlsload/keywire"
)

// What a taken-over core can do to its link, and to the thread behind it.

// processorTime is what this process has used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A core that shuts one direction of its link, or both, ends it, and costs nothing:
// what is shut stays readable for ever.
func TestShutLink(t *testing.T) {
	store := stocked(t, keys()["Ed25519"])
	for name, how := range map[string]int{"writing": unix.SHUT_WR, "reading": unix.SHUT_RD, "both": unix.SHUT_RDWR} {
		var text bytes.Buffer
		core, link := linked(t)
		other, otherLink := linked(t)
		k := New(store, []int{link, otherLink}, zerolog.New(&text))
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- k.Serve(ctx) }()
		told(t, core, keywire.Hello{Epoch: 1}.Append(nil))
		heard(t, core)
		heard(t, core)
		if err := unix.Shutdown(core, how); err != nil {
			t.Fatal(err)
		}
		if how == unix.SHUT_RD { // noticed with the next answer
			told(t, core, keywire.Hello{Epoch: 1}.Append(nil))
		}
		told(t, other, keywire.Hello{Epoch: 2}.Append(nil))
		heard(t, other)
		heard(t, other)
		const window = 300 * time.Millisecond
		before := processorTime(t)
		if readable(t, other, window) {
			t.Errorf("%s: the other core is told %x", name, heard(t, other))
		}
		if used := processorTime(t) - before; used > window/4 {
			t.Errorf("%s: %v of processor time in %v", name, used, window)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if k.sessions[0].state != ended || k.refusals.total != 0 || strings.Count(text.String(), "link ended") != 1 {
			t.Errorf("%s: state %d, %d refusals, logged %s", name, k.sessions[0].state, k.refusals.total, &text)
		}
	}
}

// Nobody can pass a descriptor to the keeper.
func TestNobodyPassesDescriptors(t *testing.T) {
	core, link := linked(t)
	if _, err := unix.GetsockoptInt(link, unix.SOL_SOCKET, unix.SO_PASSRIGHTS); errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("before Linux 6.16")
	}
	serve(t, stocked(t, keys()["Ed25519"]), link)
	told(t, core, keywire.Hello{Epoch: 1}.Append(nil))
	heard(t, core)
	err := unix.Sendmsg(core, keywire.Hello{Epoch: 1}.Append(nil), unix.UnixRights(0), nil, unix.MSG_NOSIGNAL)
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want EPERM", err)
	}
}

// greet says one Hello to a session, and returns everything that it is answered with.
func (s *session) greet(t *testing.T, core int, epoch uint64) (keys [][32]byte, certificates int) {
	t.Helper()
	told(t, core, keywire.Hello{Epoch: epoch}.Append(nil))
	s.react(unix.POLLIN)
	return s.answer(t, core, epoch)
}

// answer is everything that a session owes.
func (s *session) answer(t *testing.T, core int, epoch uint64) (keys [][32]byte, certificates int) {
	t.Helper()
	for s.owes() {
		s.react(unix.POLLOUT)
		turn := 0
		for readable(t, core, 0) {
			packet := heard(t, core)
			if tickets, err := keywire.DecodeTickets(packet); err == nil && tickets.Epoch == epoch {
				keys = tickets.Keys
			} else if m, err := keywire.DecodeCertificate(packet); err == nil && m.Epoch == epoch {
				turn++
			} else {
				t.Fatalf("got %x", packet)
			}
		}
		if turn > 8 {
			t.Errorf("%d certificates in one turn", turn)
		}
		certificates += turn
	}
	return keys, certificates
}

// A core has died: whoever held it knows the ticket keys. All of them are drawn
// anew, though not more often than once a minute, and the other core is told.
func TestTicketKeysEndWithACore(t *testing.T) {
	core0, link0 := linked(t)
	core1, link1 := linked(t)
	k := New(stocked(t, keys()["Ed25519"]), []int{link0, link1}, zerolog.Nop())
	first, other := &k.sessions[0], &k.sessions[1]
	known, _ := first.greet(t, core0, 1)
	if same, _ := other.greet(t, core1, 2); known == nil || [3][32]byte(same) != [3][32]byte(known) {
		t.Fatal("two cores have different keys")
	}
	if again, _ := first.greet(t, core0, 1); again[0] != known[0] {
		t.Error("drawn anew for a core that asks again")
	}
	if next, _ := first.greet(t, core0, 3); next[0] != known[0] {
		t.Error("drawn anew within a minute")
	}
	if other.owes() {
		t.Error("the other core is told, of nothing")
	}
	k.rotate(k.tickets.drawn.Add(ticketLifeLeast - 1))
	if k.tickets.keys[0] != known[0] {
		t.Error("drawn anew before the minute is over")
	}
	k.rotate(k.tickets.drawn.Add(ticketLifeLeast))
	expectDrawn(t, "after a minute", known, first, core0, 3)
	expectDrawn(t, "after a minute, the other core", known, other, core1, 2)

	k.tickets.drawn = time.Now().Add(-ticketLifeLeast)
	now := k.tickets.keys
	known = now[:]
	told(t, core0, keywire.Hello{Epoch: 4}.Append(nil))
	first.react(unix.POLLIN)
	expectDrawn(t, "at once", known, first, core0, 4)
	expectDrawn(t, "at once, the other core", known, other, core1, 2)
}

// expectDrawn wants a session to send keys of which none is known.
func expectDrawn(t *testing.T, name string, known [][32]byte, s *session, core int, epoch uint64) {
	t.Helper()
	drawn, _ := s.answer(t, core, epoch)
	if len(drawn) != len(known) {
		t.Errorf("%s: told %d keys", name, len(drawn))
	}
	for _, a := range drawn {
		for _, b := range known {
			if a == b {
				t.Errorf("%s: a key is kept", name)
			}
		}
	}
}

// A rotation is pushed: no core has to ask.
func TestRotationIsPushed(t *testing.T) {
	core, link := linked(t)
	k := New(stocked(t, keys()["Ed25519"]), []int{link}, zerolog.Nop())
	s := &k.sessions[0]
	before, _ := s.greet(t, core, 1)
	k.rotate(time.Now().Add(ticketLife))
	after, certificates := s.answer(t, core, 1)
	if len(after) != 3 || after[0] != before[2] || after[1] != before[0] || certificates != 0 {
		t.Errorf("got %d keys and %d certificates", len(after), certificates)
	}
}

// A Hello costs little, however often it is said and under whatever epoch.
func TestHelloIsNoAmplifier(t *testing.T) {
	store := stocked(t, keys()["Ed25519"])
	const count = 3*payMost + 1
	for len(store.pairs) < count {
		store.pairs = append(store.pairs, store.pairs[0])
	}
	core, link := linked(t)
	k := New(store, []int{link}, zerolog.Nop())
	s := &k.sessions[0]
	expect := func(name string, epoch uint64, want int) {
		t.Helper()
		if _, got := s.greet(t, core, epoch); got != want {
			t.Errorf("%s: got %d certificates, want %d", name, got, want)
		}
	}
	begin := time.Now()
	expect("first", 1, count)
	expect("again", 1, 0)
	expect("next core", 2, 0)
	if time.Since(begin) >= beginEvery {
		t.Skip("this machine is too slow")
	}
	s.began = begin.Add(-beginEvery)
	expect("next core, a second later", 2, count)
	s.began = begin.Add(-beginEvery)
	told(t, core, keywire.Hello{Epoch: 2}.Append(nil))
	s.react(unix.POLLIN)
	s.react(unix.POLLOUT)
	for range 1 + payMost {
		heard(t, core)
	}
	s.began = begin.Add(-beginEvery)
	expect("while they are on their way", 2, count-payMost)
}
