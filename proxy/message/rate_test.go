package message

import (
	"testing"
	"time"
)

// TestRate: an account by the reads that it sees.
func TestRate(t *testing.T) {
	const s = time.Second
	type read struct {
		waited time.Duration
		bytes  int
	}
	many := func(n int, r read) []read {
		var all []read
		for range n {
			all = append(all, r)
		}
		return all
	}
	for name, test := range map[string]struct {
		reads []read
		spent int // after how many reads the account is empty; 0: never
	}{
		"nothing but waiting":        {[]read{{59 * s, 0}, {s, 0}}, 2},
		"exactly the rate":           {many(1000, read{2 * s, 200}), 0},
		"half the rate":              {many(1000, read{2 * s, 100}), 60},
		"a byte in 29 seconds":       {many(10, read{29 * s, 1}), 3},
		"fast once is no credit":     {append([]read{{0, 1 << 40}}, many(100, read{s, 0})...), 61},
		"slow, and then fast enough": {append(append(many(59, read{s, 0}), many(1000, read{s, 200})...), many(59, read{s, 0})...), 0},
		"no waiting at all":          {many(1000, read{0, 1}), 0},
		"a clock that is set back":   {[]read{{-time.Hour, 0}, {60 * s, 0}}, 2},
	} {
		r := NewRate(100, 30*s)
		spent := 0
		for i, read := range test.reads {
			if r.Account(read.waited, read.bytes); r.Spent() && spent == 0 {
				spent = i + 1
			}
		}
		if spent != test.spent {
			t.Errorf("%s: spent after %d reads, want %d", name, spent, test.spent)
		}
	}
}

// TestRateBound: the next wait ends with the account, or with the longest wait before it.
func TestRateBound(t *testing.T) {
	for _, test := range []struct {
		idle   time.Duration
		least  int64
		waited time.Duration
		want   time.Duration
	}{
		{time.Minute, 0, 0, time.Minute},
		{0, 0, 0, 0},
		{time.Minute, 1, 0, time.Minute},
		{time.Minute, 1, 90 * time.Second, 30 * time.Second},
		{0, 1, 0, plainWindow},
		{0, 1, 10 * time.Second, plainWindow - 10*time.Second},
	} {
		r := NewRate(test.least, test.idle)
		if r.Asks() {
			r.Account(test.waited, 0)
		}
		if got := r.Bound(test.idle); got != test.want {
			t.Errorf("%+v after %v: %v, want %v", test, test.waited, got, test.want)
		}
	}
}
