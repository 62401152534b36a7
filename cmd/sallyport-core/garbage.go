package main

import (
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// How much garbage may be there. A handshake makes 45 KiB of it and a proxied request
// none. With Go's own rule a core that has little to keep collects for every 90
// handshakes, which was 9 % of their cost (360 to 328 µs of a full one).
const (
	garbageBytes = 16 << 20 // or as much as is kept, if that is more
	percentMost  = 400      // of the smallest heap that Go reckons with, 4 MiB: garbageBytes
	percentLeast = 100
)

// When it is given back. Idle connections would otherwise be charged for the handshakes
// before theirs, a third of the heap after 5,000 of them, and nobody would ever be
// credited for connections that have ended.
const (
	quietEvery  = 50 * time.Millisecond // a look whether there was a stir
	quietLooks  = 2                     // so many without any in a row, and it is over
	returnEvery = time.Minute           // a collection costs 1 ms for each MiB that is kept
	returnLeast = 4 << 20
)

// A garbage is the core's garbage: it may pile up while handshakes come and connections
// go, and is collected when that is over, and the memory given back.
//
//	still ── stir ──► watched ── none for two looks ──► given back ──► still
//
// The zero value is ready. Nothing runs while it is still.
type garbage struct {
	stirs    atomic.Int64
	watched  atomic.Bool
	returned time.Time // when memory was last given back; of whoever watches
}

// stir notes a handshake that begins, or a connection that has ended.
func (g *garbage) stir() {
	g.stirs.Add(1)
	if !g.watched.Load() && g.watched.CompareAndSwap(false, true) {
		go g.watchLoop()
	}
}

// watchLoop ends when nothing stirs any more.
func (g *garbage) watchLoop() {
	seen := g.watch(quietEvery, returnEvery)
	g.watched.Store(false)
	if g.stirs.Load() != seen && g.watched.CompareAndSwap(false, true) {
		go g.watchLoop() // one came just now, and left the watch to us
	}
}

// watch looks every so often until nothing stirs and what was left is given back, as soon
// as the last time is long enough ago. It returns how many stirs it has seen.
func (g *garbage) watch(every, pause time.Duration) int64 {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	seen, quiet, percent := int64(-1), 0, 0
	for range ticker.C {
		switch now := g.stirs.Load(); {
		case now != seen:
			seen, quiet = now, 0
			if next := percentFor(readHeap().kept); next != percent {
				percent = next
				debug.SetGCPercent(percent)
			}
			continue
		case quiet < quietLooks-1:
			quiet++
			continue
		}
		if percent != percentLeast { // what else grows has no business with our percent
			percent = percentLeast
			debug.SetGCPercent(percent)
		}
		if readHeap().unused() < returnLeast {
			return seen
		}
		if time.Since(g.returned) >= pause {
			g.returned = time.Now()
			debug.FreeOSMemory()
			return seen
		}
	}
	panic("BUG: a ticker has ended")
}

// percentFor is how much garbage there may be for so much that is kept, in percent of
// that, as debug.SetGCPercent takes it. It moves in steps: each change stops the world.
func percentFor(kept uint64) int {
	const step = 25
	percent := garbageBytes * 100 / max(kept, 1) / step * step
	return int(min(max(percent, percentLeast), percentMost))
}

// A heapSize is what the runtime says of the heap, in bytes.
type heapSize struct {
	kept    uint64 // by the latest collection
	objects uint64 // that are there, garbage included
	free    uint64 // not in use, and not given back
}

// unused is what giving back would find, about.
func (h heapSize) unused() uint64 {
	return h.objects - min(h.objects, h.kept) + h.free
}

func readHeap() heapSize {
	samples := [...]metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples[:])
	return heapSize{samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()}
}
