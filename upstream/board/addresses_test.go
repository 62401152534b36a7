package board

import (
	"net/netip"
	"testing"
	"time"
)

// addressed is a plan in which clients are counted.
func addressed() Plan { return Plan{Rows: 4, Apps: []App{{Members: 1}}, Addresses: true} }

func at(text string) netip.Addr { return netip.MustParseAddr(text) }

// TestConnectionsOfAnAddress: the limit is one over all rows, what left or died takes no
// place, and others have their own.
func TestConnectionsOfAnAddress(t *testing.T) {
	const most = 3
	s := lay(t, addressed())
	a, b := s.rows[0].Addresses(most, 0), s.rows[3].Addresses(most, 0)
	client := at("192.0.2.1")
	for i := range most {
		if ![]*Addresses{a, b}[i%2].Enter(client) {
			t.Fatalf("connection %d is one too many", i)
		}
	}
	if a.Enter(client) || b.Enter(client) || b.Enter(at("::ffff:192.0.2.1")) {
		t.Error("more than the limit")
	}
	if !a.Enter(at("192.0.2.2")) {
		t.Error("another address is refused")
	}
	b.Leave(client)
	if !a.Enter(client) || b.Enter(client) {
		t.Error("one has left: not one came")
	}
	if err := s.Clear(0); err != nil {
		t.Fatal(err)
	}
	for range most {
		if !b.Enter(client) {
			t.Error("the dead take places")
		}
	}
	if b.Enter(client) {
		t.Error("more than the limit")
	}
	if n := s.rows[1].Addresses(most, 0).count(a.spot(client)); n != most {
		t.Errorf("%d connections, not %d", n, most)
	}
}

// TestNetworksOfAddresses: an IPv6 client has its /64, and who has no address no limit.
func TestNetworksOfAddresses(t *testing.T) {
	a := lay(t, addressed()).rows[0].Addresses(1, 1)
	now := time.Now()
	if !a.Enter(at("2001:db8::1")) || a.Enter(at("2001:db8::ffff:1:2")) || !a.Enter(at("2001:db8:0:1::1")) {
		t.Error("connections: a /64 is not one client")
	}
	if !a.Ask(at("2001:db8::1"), now) || a.Ask(at("2001:db8::ffff:1:2"), now) || !a.Ask(at("2001:db8:0:1::1"), now) {
		t.Error("requests: a /64 is not one client")
	}
	for range 9 {
		if !a.Enter(netip.Addr{}) || !a.Ask(netip.Addr{}, now) {
			t.Error("nobody is refused")
		}
	}
	if b := lay(t, one(1, 1, 1, 1)).rows[0].Addresses(0, 0); b != nil {
		t.Error("counted where there is no limit")
	}
}

// TestManyAddresses: with thousands connected at the limit, strangers are still told apart.
func TestManyAddresses(t *testing.T) {
	const most, crowd, strangers = 10, 2000, 1000
	a := lay(t, addressed()).rows[0].Addresses(most, 0)
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range crowd {
		for range most {
			a.Enter(address(i))
		}
	}
	refused := 0
	for i := range strangers {
		if !a.Enter(address(crowd + i)) {
			refused++
		}
	}
	// Each cell is somebody's with a chance of a quarter: both are with one of a sixteenth
	// at most, 62 of 1000; twice as many do not happen.
	if refused > 2*strangers/16 {
		t.Errorf("%d of %d strangers are refused", refused, strangers)
	}
}

// TestRateOfAnAddress: as many at once as in a second, over all rows, then as fast as the
// rate; and never later than in a second, whatever stands in a cell.
func TestRateOfAnAddress(t *testing.T) {
	const rate = 10
	s := lay(t, addressed())
	a, b := s.rows[0].Addresses(0, rate), s.rows[1].Addresses(0, rate)
	client, now := at("192.0.2.1"), time.Now()
	burst := func(now time.Time) (n int) {
		for range 3 * rate {
			if a.Ask(client, now) {
				n++
			}
			if b.Ask(client, now) {
				n++
			}
		}
		return n
	}
	if n := burst(now); n != rate {
		t.Errorf("%d at once, not %d", n, rate)
	}
	if n := burst(now.Add(time.Second / rate)); n != 1 {
		t.Errorf("%d after a tenth of a second, not 1", n)
	}
	if !b.Ask(at("192.0.2.2"), now) {
		t.Error("another address is refused")
	}
	if n := burst(now.Add(time.Hour)); n != rate {
		t.Errorf("%d after an hour, not %d", n, rate)
	}
	burst(now) // the clock is set back
	if n := burst(now.Add(time.Second)); n != rate {
		t.Errorf("%d a second after the clock was set back, not %d", n, rate)
	}
	for _, cell := range a.spot(client) {
		a.arrival(cell).Store(^uint64(0) >> 1)
	}
	later := now.Add(2 * time.Hour)
	burst(later)
	if n := burst(later.Add(time.Second)); n != rate {
		t.Errorf("%d a second after a lie, not %d", n, rate)
	}
}

func TestAllocAddresses(t *testing.T) {
	a := lay(t, addressed()).rows[0].Addresses(10, 1000)
	client, now := at("2001:db8::1"), time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		a.Enter(client)
		a.Ask(client, now)
		a.Leave(client)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
