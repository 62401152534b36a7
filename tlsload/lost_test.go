package tlsload

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/tlsload/keywire"
)

// patient are limits that a lost link must not be waited out for.
var patient = limits{resend: 2 * time.Second, giveUp: time.Minute, renew: time.Hour}

// A core before this one has shut the link, in one direction or both: there is no
// hope, and no waiting.
func TestOpenOnALostLink(t *testing.T) {
	for name, how := range map[string]int{"writing": unix.SHUT_WR, "reading": unix.SHUT_RD, "both": unix.SHUT_RDWR} {
		core, link := linked(t)
		newSafe(t, "a.test").serve(t, link)
		if err := unix.Shutdown(core, how); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err := open(core, 1, func(string, error) {}, patient)
		if took := time.Since(begin); !errors.Is(err, ErrClosed) || took > time.Second {
			t.Errorf("%s: got %v after %v", name, err, took)
		}
	}
}

// The link is lost while a core serves: its signatures fail at once, and it is told.
func TestLinkIsLost(t *testing.T) {
	for name, how := range map[string]int{"writing": unix.SHUT_WR, "reading": unix.SHUT_RD, "both": unix.SHUT_RDWR} {
		core, link := linked(t)
		newSafe(t, "a.test").serve(t, link)
		logged := make(chan error, 1)
		k, err := open(core, 1, func(_ string, err error) { logged <- err }, patient)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Shutdown(core, how); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if got := <-sign(keyOf(k)); !errors.Is(got.err, ErrClosed) {
			t.Errorf("%s: got %v", name, got.err)
		}
		select {
		case <-k.Lost():
		case <-time.After(10 * time.Second):
			t.Errorf("%s: nobody is told", name)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		if err := <-logged; err == nil {
			t.Errorf("%s: logged without a reason", name)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A core takes no descriptors from a keeper.
func TestNobodyPassesDescriptors(t *testing.T) {
	core, link := linked(t)
	if _, err := unix.GetsockoptInt(core, unix.SOL_SOCKET, unix.SO_PASSRIGHTS); errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("before Linux 6.16")
	}
	newSafe(t, "a.test").serve(t, link)
	k := opened(t, core, 1, quick)
	err := unix.Sendmsg(link, keywire.Refused{Epoch: k.epoch + 1, ID: 1, Reason: keywire.Failed}.Append(nil), unix.UnixRights(0), nil, unix.MSG_NOSIGNAL)
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want EPERM", err)
	}
}
