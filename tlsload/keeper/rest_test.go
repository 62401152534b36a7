package keeper

import (
	"runtime"
	"testing"
	"time"
)

func TestRest(t *testing.T) {
	now := time.Now()
	const long = time.Hour
	for _, c := range []struct {
		name   string
		rest   rest
		within time.Duration
		taken  bool
	}{
		{"nothing signed", rest{}, long, false},
		{"too little", rest{signed: restLeast - 1}, long, false},
		{"the first", rest{signed: restLeast}, restWait, true},
		{"too soon", rest{signed: 1 << 20, last: now.Add(-restEvery / 4)}, restEvery * 3 / 4, false},
		{"due", rest{signed: restLeast, last: now.Add(-restEvery)}, restWait, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.rest.within(long, now); got != c.within {
				t.Errorf("waits for %v, want %v", got, c.within)
			}
			if got := c.rest.within(time.Millisecond, now); got != time.Millisecond {
				t.Errorf("waits for %v, want no more than was asked for", got)
			}
			before, signed := forced(), c.rest.signed
			c.rest.take(now)
			if taken := forced() > before; taken != c.taken {
				t.Errorf("taken: %v, want %v", taken, c.taken)
			}
			if c.taken {
				signed = 0
			}
			if c.rest.signed != signed {
				t.Errorf("%d signatures since, want %d", c.rest.signed, signed)
			}
		})
	}
}

func forced() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumForcedGC
}
