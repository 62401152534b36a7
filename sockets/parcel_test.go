package sockets

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestParcel shows that a parcel gives what was put in, in its order, also where that takes
// many messages, or is a parcel itself, which is passed on over a link.
func TestParcel(t *testing.T) {
	before := lowestFree(t)
	for _, count := range []int{0, 1, passedMax, passedMax + 1, 5000} {
		content, err := Seal("test", fmt.Append(nil, count))
		if err != nil {
			t.Fatal(err)
		}
		var gifts Gifts
		for i := range count {
			gifts = append(gifts, Gift{fmt.Sprint("gift", i), content})
		}
		within, err := Pack(gifts)
		if err != nil {
			t.Fatal(err)
		}
		parcel, err := Pack(Gifts{{"within", within}})
		if err != nil {
			t.Fatal(err)
		}
		a, b := newLink(t)
		if err := Send(a, []byte("parcel"), parcel); err != nil {
			t.Fatal(err)
		}
		CloseAll([]int{content, within, parcel})
		_, passed, err := Receive(b, make([]byte, 16))
		if err != nil || len(passed) != 1 {
			t.Fatal(passed, err)
		}
		outer, err := Unpack(passed[0])
		if err != nil || outer.Names() != "within" {
			t.Fatal(outer, err)
		}
		got, err := Unpack(outer[0].FD)
		if err != nil || got.Names() != gifts.Names() {
			t.Fatalf("%d gifts of %d, %v", len(got), count, err)
		}
		for _, gift := range got {
			if text, err := ReadSealed(gift.FD); string(text) != fmt.Sprint(count) {
				t.Fatalf("%s: %q, %v", gift.Name, text, err)
			}
		}
		got.Close()
		CloseAll([]int{a, b})
	}
	if after := lowestFree(t); after != before {
		t.Errorf("descriptor %d is still open", before)
	}
}

// TestUnpackRefuses shows what is no parcel, and that nothing of it stays open.
func TestUnpackRefuses(t *testing.T) {
	for _, c := range []struct {
		messages []string
		each     int // descriptors
		open     bool
		want     string
	}{
		{messages: []string{"one"}, each: 1, open: true, want: "temporarily unavailable"},
		{messages: []string{"one,two"}, each: 1, want: "1 descriptors for 2 names"},
		{messages: []string{"one"}, want: "0 descriptors for 1 names"},
		{messages: []string{"one", "one"}, each: 1, want: "named twice"},
		{messages: []string{"one", "../two"}, each: 1, want: "is no name"},
		{messages: []string{strings.Repeat("x", parcelBytesMax+1)}, each: 1, want: "too long"},
	} {
		before := lowestFree(t)
		parcel, end, err := Link()
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range c.messages {
			if err := Send(end, []byte(message), make([]int, c.each)...); err != nil {
				t.Fatal(err)
			}
		}
		if !c.open {
			unix.Close(end)
		}
		if gifts, err := Unpack(parcel); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, %v, want %q", c.messages, gifts, err, c.want)
		}
		if c.open {
			unix.Close(end)
		}
		if after := lowestFree(t); after != before {
			t.Errorf("%q: descriptor %d is still open", c.messages, before)
		}
	}
}

// FuzzUnpack: a message is gifts with names, or none of them is taken.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("plan,cert0,key0"), 3)
	f.Fuzz(func(t *testing.T, message []byte, count int) {
		if len(message) == 0 || count < 0 || count > passedMax {
			return
		}
		parcel, end, err := Link()
		if err != nil {
			t.Fatal(err)
		}
		err = Send(end, message, make([]int, count)...)
		unix.Close(end)
		if err != nil {
			unix.Close(parcel)
			return
		}
		gifts, err := Unpack(parcel)
		if err == nil && (len(gifts) != count || gifts.Names() != string(message)) {
			t.Errorf("%q with %d descriptors is %v", message, count, gifts)
		}
		gifts.Close()
	})
}
