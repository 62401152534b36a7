package e2e

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// overloadTime is how long TestOverload lasts; SALLYPORT_OVERLOAD says otherwise.
const overloadTime = 5 * time.Second

// overloaded is a file for gunicorn with two sync workers. With its app, whose requests
// take 100 ms, the last of 30 in the line would have its turn after 1.5 s.
const overloaded = `workers = 2
listen = { http = ["127.0.0.1:0"], https = [] }
[[site]]
host = "shop.test"
app = "shop"
[app.shop]
socket = "unix:{dir}/app/app.sock"
max_inflight = 2
queue = { len = 30, time = "250ms" }
`

// queueMost is more than queue.time by what a machine that is busy with other things may
// add, and much less than a line without a limit has.
const queueMost = 250 + 500 // ms

// nap is what a request of the app takes at least; see apps/wsgi.py.
const nap = 100 * time.Millisecond

// TestOverload: ten times the capacity of an app, for a while. It serves as many as it can;
// those that wait do not for longer than they should, the others are told 503 at once; and
// memory does not grow.
func TestOverload(t *testing.T) {
	lasting := overloadTime
	if text := os.Getenv("SALLYPORT_OVERLOAD"); text != "" {
		var err error
		if lasting, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	s := newScene(t)
	s.app("gunicorn-sync")
	s.write("sallyport.toml", overloaded)
	h := s.start()
	before := capacity(t, h.http, lasting/4)
	small := coreSizes(t)
	begun := time.Now()
	over, sizes := overload(t, h.http, 10*before, lasting)
	took := time.Since(begun) // for those too who were in the line at the end
	flat(t, small, sizes)
	after := capacity(t, h.http, lasting/4)

	// What it could serve is told by how long it took for those that it has served: other
	// work on this machine takes from that, and more or less as time goes by.
	answered := h.find("request answered", "status=200", "queue_ms=*")
	served, most := float64(over.of(200)), 2*took.Seconds()*1000/mean(answered, "app_ms", "send_ms")
	t.Logf("%v by status in %v: %.0f served, %.3f of %.0f; %.1f/s, where the app did %.1f/s before and %.1f/s after without a line",
		over.counts, took, served, served/most, most, served/took.Seconds(), before, after)
	if calm := 0.9 * 2 / nap.Seconds(); before < calm || after < calm {
		t.Logf("throughput was NOT TESTED: this machine has other things to do, or it would be more than %.0f/s without a line", calm)
	} else if served < 0.95*most {
		t.Errorf("%.0f of %.0f served", served, most)
	}
	if over.of(200)+over.of(503) != over.total() || over.vague > 0 {
		t.Errorf("%v by status, %d refusals without Retry-After", over.counts, over.vague)
	}
	full, late := h.find("request answered", "cause=queue full"), h.find("request answered", "cause=queue time over")
	waits := each(h.find("request answered", "queue_ms=*"), "queue_ms")
	slices.Sort(waits)
	t.Logf("refused: %d at once, %d after their time; %d waited, half of them up to %.0f ms, 9 of 10 %.0f ms, all %.0f ms",
		len(full), len(late), len(waits), waits[len(waits)/2], waits[len(waits)*9/10], waits[len(waits)-1])
	if len(full) == 0 || len(late) == 0 {
		t.Error("both limits of the line were to be met")
	}
	if waited := h.find("request answered", "cause=queue full", "queue_ms=*"); len(waited) > 0 {
		t.Errorf("%d were refused after they had waited: %s", len(waited), waited[0].text)
	}
	if ms := waits[len(waits)*9/10]; ms > queueMost {
		t.Errorf("one of ten waited for more than %.0f ms", ms)
	}
}

// capacity is how many requests a second an app serves that always has two, no more.
func capacity(t *testing.T, address string, lasting time.Duration) float64 {
	t.Helper()
	var served atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for range 2 {
		all.Go(func() {
			for time.Since(begun) < lasting {
				status, _ := get(address, "nap")
				if status != 200 {
					t.Errorf("below the capacity: status %d", status)
					return
				}
				served.Add(1)
			}
		})
	}
	all.Wait()
	return float64(served.Load()) / time.Since(begun).Seconds()
}

// overload sends requests at a rate, whatever becomes of them, and has the sizes of the
// cores meanwhile.
func overload(t *testing.T, address string, rate float64, lasting time.Duration) (*turnout, []int) {
	t.Helper()
	over := &turnout{path: "nap", counts: map[int]int{}}
	var sizes []int
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begun, sent := time.Now(), 0
	for passed := time.Duration(0); passed < lasting; passed = time.Since(begun) {
		due := int(rate * passed.Seconds())
		over.send(address, due-sent)
		sent = due
		if int(20*passed/lasting) > len(sizes) {
			sizes = append(sizes, coreSizes(t))
		}
		<-tick.C
	}
	over.all.Wait()
	return over, sizes
}

func (t *turnout) total() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, count := range t.counts {
		n += count
	}
	return n
}

// each is the sum of these facts in each line.
func each(lines []line, names ...string) []float64 {
	sums := make([]float64, len(lines))
	for i, l := range lines {
		for _, name := range names {
			n, err := strconv.ParseFloat(fmt.Sprint(l.facts[name]), 64)
			if err == nil {
				sums[i] += n
			}
		}
	}
	return sums
}

func mean(lines []line, names ...string) (sum float64) {
	for _, n := range each(lines, names...) {
		sum += n
	}
	return sum / float64(len(lines))
}

// coreSizes is the memory of all cores together, in KiB; 0 where nobody may see it.
func coreSizes(t *testing.T) (sum int) {
	t.Helper()
	if os.Getuid() != 0 {
		return 0
	}
	for _, p := range ours() {
		if p.name != "sallyport-core" {
			continue
		}
		file, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			var size int
			if n, _ := fmt.Sscanf(strings.TrimSpace(lines.Text()), "Pss: %d kB", &size); n == 1 {
				sum += size
			}
		}
		file.Close()
	}
	return sum
}

// Garbage that each core may have while connections come and go, and after that, in KiB;
// see cmd/sallyport-core/garbage.go. It is given back once a minute.
const (
	garbageMost = 20 << 10
	garbageLeft = 8 << 10 // 4 MiB are kept; and stacks, and what the collector needs itself
)

// flat checks that memory does not grow but for garbage, which is given back: two cores had
// so much before, such sizes meanwhile, and are idle now.
func flat(t *testing.T, before int, sizes []int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Log("memory was NOT TESTED: this needs root; run `make test` as root")
		return
	}
	if most := slices.Max(sizes); most > before+2*garbageMost {
		t.Errorf("the cores have grown from %d to %d KiB", before, most)
	}
	last := 0
	back := until(time.Minute+patience, func() bool { last = coreSizes(t); return last <= before+2*garbageLeft })
	t.Logf("KiB of both cores: %d before, %v, %d after", before, sizes, last)
	if !back {
		t.Errorf("the cores have grown from %d to %d KiB for good", before, last)
	}
}
