package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// soakTime is how long the soak is when nobody says otherwise (SALLYPORT_SOAK=30m).
const soakTime = 6 * time.Second

// long is two apps behind two cores: one that does much at a time, keeps connections,
// streams and has WebSockets; and one of two workers that do one thing at a time.
const long = control + `workers = 2
listen = { http = ["127.0.0.1:0"], https = ["127.0.0.1:0"], advertise_port = 443 }
log = { access = false, level = "warn" }
[[site]]
host = "shop.test"
tls = { cert = "shop.pem", key = "shop.key" }
redirect = false
app = "shop"
[[site]]
host = "sync.test"
tls = { cert = "shop.pem", key = "shop.key" }
redirect = false
app = "sync"
[app.shop]
socket = "unix:{dir}/app/app.sock"
keepalive = 8
[app.sync]
socket = "unix:{dir}/app/sync.sock"
max_inflight = 2
queue = { len = 200, time = "30s" }
`

// A soak is a house with a mixed load, and what its clients have met.
type soak struct {
	*scene
	h    *house
	shop *exec.Cmd // the app that is killed
	done sync.WaitGroup
	all  atomic.Int64 // errands that were run

	mu   sync.Mutex
	ran  map[string]int // of them, by kind
	cuts []attempt      // kills during which what is in flight may be lost
	lost []attempt
}

// clientsOfEach is how many clients there are of each kind: half of them on TLS.
const clientsOfEach = 2

// TestSoak has many kinds of clients at work, first undisturbed, then while cores,
// keeper and app are killed and the house reloads. Every answer is checked against its
// own request's token. Nothing is lost but what was in flight in a core or an app that was
// killed; and in the first half descriptors and memory of a core end as they began.
func TestSoak(t *testing.T) {
	span := soakTime
	if given := os.Getenv("SALLYPORT_SOAK"); given != "" {
		var err error
		if span, err = time.ParseDuration(given); err != nil {
			t.Fatal(err)
		}
	}
	k := newSoak(t)
	k.undisturbed(span / 2)
	k.disturbed(span / 2)
	k.emptied()
	k.stacks()
	k.account()
}

func newSoak(t *testing.T) *soak {
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test", "sync.test")
	s.write("sallyport.toml", long)
	for _, kind := range []string{"uvicorn", "gunicorn-sync"} {
		serverOf(t, kind).installed(t)
	}
	s.folder()
	k := &soak{scene: s, shop: s.startApp("uvicorn"), ran: map[string]int{}}
	s.startAppOn("gunicorn-sync", s.path("app/sync.sock"))
	takes(t, s.path("app/app.sock"))
	takes(t, s.path("app/sync.sock"))
	k.h = s.start()
	return k
}

// work has the clients run errands until ctx ends.
func (k *soak) work(ctx context.Context) {
	for _, kind := range kinds() {
		for client := range clientsOfEach {
			k.done.Add(1)
			go k.errandLoop(ctx, kind, client)
		}
	}
}

func (k *soak) errandLoop(ctx context.Context, kind kind, client int) {
	defer k.done.Done()
	e := k.errand(client)
	defer e.leave()
	var before time.Time // when the errand before began
	for ctx.Err() == nil {
		now := time.Now()
		begun := now
		if e.conn != nil {
			begun = before // a kept connection may have been cut while the last answer was still read
		}
		before = now
		e.token = fmt.Sprintf("%s-%d", kind.name, rand.Uint64())
		err := e.reach()
		if err == nil {
			err = kind.run(e)
		}
		k.mu.Lock()
		k.ran[kind.name]++
		if err != nil {
			k.lost = append(k.lost, attempt{begun, time.Now(), fmt.Errorf("%s: %w", e.token, err)})
			e.leave()
		}
		k.mu.Unlock()
		k.all.Add(1)
	}
}

// undisturbed is the first half: what the cores use after it, with nobody there, is what
// they used after a first part of it.
func (k *soak) undisturbed(span time.Duration) {
	k.t.Helper()
	k.during(span / 4)
	before := k.uses()
	k.during(span * 3 / 4)
	after := k.uses()
	for name, b := range before {
		a := after[name]
		k.t.Logf("%s: descriptors %d, then %d; threads %d, then %d; PSS %d KiB, then %d KiB; at most %s resident",
			name, b.descriptors, a.descriptors, b.threads, a.threads, b.memory, a.memory, a.peak)
		if a.descriptors > b.descriptors+64 { // pipes and connections to apps are kept, with limits
			k.t.Errorf("%s: %d descriptors became %d", name, b.descriptors, a.descriptors)
		}
		if a.threads > b.threads+16 {
			k.t.Errorf("%s: %d threads became %d", name, b.threads, a.threads)
		}
		if a.memory > b.memory*3/2+16<<10 { // of caches that fill with the first of each kind
			k.t.Errorf("%s: %d KiB became %d KiB", name, b.memory, a.memory)
		}
	}
}

// during works for a while, and waits until the last client has left.
func (k *soak) during(span time.Duration) {
	ctx, stop := context.WithTimeout(k.t.Context(), span)
	defer stop()
	k.work(ctx)
	k.done.Wait()
}

// A usage is what a process has.
type usage struct {
	descriptors, threads, memory int
	peak                         string
}

// uses tells it of every process of the house that serves, once clients are gone.
func (k *soak) uses() map[string]usage {
	k.t.Helper()
	found := map[string]usage{}
	for _, p := range ours() {
		if p.name == "sallyport" {
			continue // a warden has no clients
		}
		held, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
		k.must(err)
		memory, err := status(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		k.must(err)
		size, err := strconv.Atoi(strings.TrimSuffix(memory["Pss"], " kB"))
		k.must(err)
		facts, err := status(fmt.Sprintf("/proc/%d/status", p.pid))
		k.must(err)
		threads, err := strconv.Atoi(facts["Threads"])
		k.must(err)
		found[p.String()] = usage{len(held), threads, size, facts["VmHWM"]}
	}
	return found
}

// disturbed is the second half.
func (k *soak) disturbed(span time.Duration) {
	k.t.Helper()
	ctx, stop := context.WithTimeout(k.t.Context(), span)
	defer stop()
	k.work(ctx)
	counts, generation := map[string]int{}, 1
	acts := []string{"reload", "core", "keeper", "app", "reload", "keeper"}
	for i := 0; ctx.Err() == nil; i++ {
		act := acts[i%len(acts)]
		counts[act]++
		switch act {
		case "reload":
			generation++
			k.reload(k.h, generation)
		case "app":
			k.killApp()
		default:
			k.kill("sallyport-" + act)
		}
		k.more(ctx, 200)
	}
	k.done.Wait()
	k.t.Logf("kills and reloads: %v", counts)
}

// emptied is what the board says with nobody there: no slot is taken and nobody waits, and
// also the cores that were killed have left nothing behind.
func (k *soak) emptied() {
	k.t.Helper()
	await(k.t, "free slots and empty queues", func() bool {
		for _, app := range k.appStatuses() {
			if app.InFlight+app.Queued > 0 {
				return false
			}
		}
		return true
	})
	for _, app := range k.appStatuses() {
		k.t.Logf("%s: served %d, queue full %d, queue time over %d, held %d, retried %d, failed %d, drained %d, clogged %d",
			app.Name, app.Served, app.QueueFull, app.QueueTime, app.Holds, app.Retries, app.Failed, app.Drained, app.Clogged)
	}
}

// idleGoroutines is more than a core or keeper has that nobody is connected to: the loop,
// the collector's, and workers that wait for the next turn.
const idleGoroutines = 64

// stackHead begins the line of each.
const stackHead = "goroutine "

// stacks ends every core and keeper by SIGQUIT, at which Go's runtime writes a line for each
// goroutine, and counts them.
func (k *soak) stacks() {
	k.t.Helper()
	for _, p := range ours() {
		if p.name == "sallyport" {
			continue
		}
		before := k.h.count(stackHead)
		k.must(syscall.Kill(p.pid, syscall.SIGQUIT))
		k.h.wait(k.t, "process died", fmt.Sprintf("pid=%d", p.pid)) // and so all is there that the process has written
		n := k.h.count(stackHead) - before
		k.t.Logf("%s: %d goroutines", p, n)
		if n == 0 || n > idleGoroutines {
			k.t.Errorf("%s: %d goroutines with nobody there", p, n)
		}
	}
}

// more waits until as many errands more have been run, or the time is over.
func (k *soak) more(ctx context.Context, n int64) {
	enough := k.all.Load() + n
	await(k.t, "more errands", func() bool { return k.all.Load() >= enough || ctx.Err() != nil })
}

// kill ends one process of this name, perhaps of a generation that leaves, and waits until
// it is gone and another one is there.
func (k *soak) kill(name string) {
	k.t.Helper()
	named := func() []process {
		return slices.DeleteFunc(ours(), func(p process) bool { return p.name != name })
	}
	all := named()
	victim := all[rand.IntN(len(all))]
	begun := time.Now()
	victim.kill()
	await(k.t, "another "+name, func() bool {
		now := named()
		return len(now) > 0 && !slices.Contains(now, victim)
	})
	if name == "sallyport-core" { // a keeper's death loses nothing
		k.cut(begun)
	}
}

// killApp ends the app that does much at a time, and starts it again.
func (k *soak) killApp() {
	k.t.Helper()
	begun := time.Now()
	k.must(syscall.Kill(-k.shop.Process.Pid, syscall.SIGKILL))
	_ = k.shop.Wait() // killed
	k.cut(begun)
	k.must(os.Remove(k.path("app/app.sock")))
	k.shop = k.startApp("uvicorn")
	takes(k.t, k.path("app/app.sock"))
}

// cut notes that what was in flight since may be lost.
func (k *soak) cut(begun time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cuts = append(k.cuts, attempt{begun: begun, ended: time.Now()})
}

// excuses reports whether one of the kills overlaps an errand.
func (k *soak) excuses(a attempt) bool {
	return slices.ContainsFunc(k.cuts, func(cut attempt) bool {
		return !cut.ended.Before(a.begun) && !cut.begun.After(a.ended)
	})
}

// account says what was lost, and whose fault it was.
func (k *soak) account() {
	k.t.Helper()
	k.t.Logf("errands: %v", k.ran)
	if k.h.says("DATA RACE") || k.h.says("panic:") {
		k.t.Error("a race or a panic: the log has it")
	}
	excused := 0
	for _, a := range k.lost {
		if k.excuses(a) {
			excused++
			continue
		}
		k.t.Errorf("lost after %v, without a kill of core or app: %v", a.ended.Sub(a.begun), a.err)
	}
	k.t.Logf("%d errands, %d lost in %d kills of core or app", k.all.Load(), excused, len(k.cuts))
	if most := len(k.cuts) * clientsOfEach * len(kinds()); excused > most {
		k.t.Errorf("%d lost; no more than %d can have been in flight", excused, most)
	}
}
