package loop

import (
	"sync/atomic"
	"testing"
)

func TestClaim(t *testing.T) {
	c, peer := pair(t, started(t))
	defer c.Close()
	if c.Claim() {
		t.Error("claimed what was never idle")
	}
	c.Idle(func() { t.Error("called after it was claimed") })
	if !c.Claim() || c.Claim() {
		t.Error("an idle connection is claimed once")
	}
	say(t, peer, "x")
	hear(t, c, "x")

	say(t, peer, "y") // whoever is woken has it
	resumed := make(chan struct{})
	c.Idle(func() { close(resumed) })
	<-resumed
	if c.Claim() {
		t.Error("claimed what was resumed")
	}
	hear(t, c, "y")
}

// TestClaimRace has the end of a connection and a claim come at once: one of them
// gets it, never both and never neither.
func TestClaimRace(t *testing.T) {
	l := started(t)
	claims := 0
	for range 2000 {
		c, peer := pair(t, l)
		var resumed atomic.Bool
		done := make(chan struct{})
		c.Idle(func() {
			resumed.Store(true)
			close(done)
		})
		closing := make(chan struct{})
		go func() {
			close(closing)
			peer.Close()
		}()
		<-closing
		if c.Claim() {
			claims++
			if resumed.Load() {
				t.Fatal("both have it")
			}
			if _, err := c.Read(make([]byte, 1)); err == nil { // the loop has seen the end
				t.Fatal("read of a closed connection")
			}
			select {
			case <-done:
				t.Fatal("called after it was claimed")
			default:
			}
		} else {
			<-done // or nobody would have it
		}
		c.Close()
	}
	t.Logf("%d of 2000 were claimed", claims)
}
