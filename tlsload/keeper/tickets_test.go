package keeper

import (
	"testing"
	"time"
)

func TestTicketKeysRotate(t *testing.T) {
	start := time.Now()
	keys := newTicketKeys(start)
	first := keys.keys
	if first[0] == first[1] || first[1] == first[2] || first[0] == first[2] || first[2] == [32]byte{} {
		t.Fatal("keys are not drawn")
	}
	keys.rotate(start.Add(ticketLife - 1))
	if keys.keys != first {
		t.Error("rotated before it was time")
	}
	now, quic := start, [2][32]byte{keys.reset, keys.token}
	if quic[0] == quic[1] || quic[0] == [32]byte{} || quic[1] == [32]byte{} {
		t.Error("the keys of QUIC are not drawn")
	}
	for range 3 {
		before := keys.keys
		now = now.Add(ticketLife)
		keys.rotate(now)
		if keys.keys[0] != before[2] {
			t.Error("the next key, which every core knows, is not in force")
		}
		if keys.keys[1] != before[0] {
			t.Error("tickets of the key before are not opened any more")
		}
		if keys.reset != quic[0] || keys.token != quic[1] {
			t.Error("the keys of QUIC have changed: no transport would follow")
		}
		if keys.keys[2] == before[1] || keys.keys[2] == before[2] {
			t.Error("the next key is not new")
		}
	}
}
