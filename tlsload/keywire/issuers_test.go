package keywire

import (
	"fmt"
	"testing"
)

func TestIssuers(t *testing.T) {
	var s Issuers
	text := []byte("intermediate")
	one := s.Share([][]byte{text})
	text[0] = 'I'
	if string(one[0]) != "intermediate" {
		t.Error("it is no copy")
	}
	if two := s.Share([][]byte{[]byte("intermediate")}); &one[0] != &two[0] {
		t.Error("the same is kept twice")
	}
	if none := s.Share(nil); len(none) != 0 {
		t.Errorf("none is %q", none)
	}
	for i := range 3 * issuersMost {
		if got := s.Share([][]byte{fmt.Append(nil, i), text}); string(got[0]) != fmt.Sprint(i) || len(got) != 2 {
			t.Errorf("%d: %q", i, got)
		}
	}
	if len(s.lists) > issuersMost {
		t.Errorf("%d lists are looked through", len(s.lists))
	}
}
