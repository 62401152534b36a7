package h1

import (
	"testing"
	"time"

	"sallyport/conf"
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
		r := rateOf(&conf.Limits{BodyIdle: 30 * s, BodyRate: 100})
		spent := 0
		for i, read := range test.reads {
			if r.account(read.waited, read.bytes); r.spent() && spent == 0 {
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
		limits conf.Limits
		waited time.Duration
		want   time.Duration
	}{
		{conf.Limits{BodyIdle: time.Minute}, 0, time.Minute},
		{conf.Limits{}, 0, 0},
		{conf.Limits{BodyIdle: time.Minute, BodyRate: 1}, 0, time.Minute},
		{conf.Limits{BodyIdle: time.Minute, BodyRate: 1}, 90 * time.Second, 30 * time.Second},
		{conf.Limits{BodyRate: 1}, 0, plainWindow},
		{conf.Limits{BodyRate: 1}, 10 * time.Second, plainWindow - 10*time.Second},
	} {
		r := rateOf(&test.limits)
		if test.limits.BodyRate > 0 {
			r.account(test.waited, 0)
		}
		if got := r.bound(test.limits.BodyIdle); got != test.want {
			t.Errorf("%+v after %v: %v, want %v", test.limits, test.waited, got, test.want)
		}
	}
}
