package proxy

import (
	"net/netip"
	"strings"
	"testing"

	"sallyport/conf"
)

func trusting(prefixes ...string) *rewriter {
	plan := new(conf.Core)
	for _, prefix := range prefixes {
		plan.Trusted = append(plan.Trusted, netip.MustParsePrefix(prefix))
	}
	w := newRewriter(plan)
	return &w
}

// FuzzRewriter holds the walk over a chain against its definition, written out
// plainly: the address nearest to us that is no proxy of ours, or the proxy that
// stands before what is no address.
func FuzzRewriter(f *testing.F) {
	for _, seed := range []string{"", "1.2.3.4", "1.2.3.4, 10.0.0.1", "x, 10.0.0.1", ",", "::1,::ffff:10.0.0.1 ", "fe80::1%eth0, 10.1.1.1"} {
		f.Add(seed, "10.0.0.9")
		f.Add(seed, "9.9.9.9")
	}
	w := trusting("10.0.0.0/8", "fd00::/8")
	f.Fuzz(func(t *testing.T, chain, from string) {
		peer, err := netip.ParseAddr(from)
		if err != nil {
			return
		}
		want := peer
		for elements := strings.Split(chain, ","); w.trusts(want) && chain != "" && len(elements) > 0; elements = elements[:len(elements)-1] {
			addr, err := netip.ParseAddr(strings.Trim(elements[len(elements)-1], " \t"))
			if err != nil {
				break
			}
			want = addr.Unmap()
		}
		if got := w.client([]byte(chain), peer); got != want {
			t.Fatalf("%q from %s: %s, want %s", chain, from, got, want)
		}
	})
}

func TestTrusts(t *testing.T) {
	w := trusting("10.0.0.0/8", "2001:db8::/32")
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "11.0.0.1": false, "2001:db8::1": true, "2001:db9::1": false, "::1": false,
		"2001:db8::1%eth0": false, // a zone is a link of ours, not a place of theirs
	} {
		if got := w.trusts(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if w.trusts(netip.Addr{}) || !(&conf.Core{TrustUnix: true}).Trusts(netip.Addr{}) {
		t.Error("unix")
	}
}

func TestRequestID(t *testing.T) {
	const want = "0199f0e1-d2c3-7123-8000-00000000000f"
	if got := appendUUID(nil, 0x0199f0e1d2c3, 0xffff_ffff_ffff_f123, 0x3c); string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	for id, want := range map[string]bool{"": false, "a-Z_9": true, "a b": false, "a\n": false, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false} {
		if isRequestID([]byte(id)) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}
