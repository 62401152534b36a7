package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	for _, c := range []struct {
		kept uint64
		want int
	}{
		{0, 400},
		{1 << 20, 400},
		{4 << 20, 400},
		{5 << 20, 300}, // 320, in steps
		{8 << 20, 200},
		{16 << 20, 100},
		{1 << 40, 100},
	} {
		if got := percentFor(c.kept); got != c.want {
			t.Errorf("percentFor(%d) = %d, want %d", c.kept, got, c.want)
		}
	}
}

// TestGarbageBack makes garbage while something stirs, and has the watch give it back,
// once in a while only.
func TestGarbageBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(percentLeast))
	var g garbage
	g.watched.Store(true) // by this test
	g.stir()
	before := forced()
	watchLitter(t, &g, func() {
		if seen := g.watch(time.Millisecond, time.Hour); seen != 1 {
			t.Errorf("the watch has seen %d stirs, want 1", seen)
		}
	})
	if got := forced() - before; got != 1 {
		t.Fatalf("%d collections, want 1", got)
	}
	if left := readHeap().unused(); left >= returnLeast {
		t.Errorf("%d bytes are left of the garbage", left)
	}
	if percent := debug.SetGCPercent(percentLeast); percent != percentLeast {
		t.Errorf("percent is %d when nothing stirs, want %d", percent, percentLeast)
	}

	first := g.returned
	const pause = 50 * time.Millisecond
	watchLitter(t, &g, func() { g.watch(time.Millisecond, pause) })
	if got := g.returned.Sub(first); got < pause {
		t.Errorf("given back twice in %v, want not before %v", got, pause)
	}

	before = forced()
	g.watch(time.Millisecond, 0)
	if got := forced() - before; got != 0 {
		t.Errorf("%d collections where nothing is to be gained, want none", got)
	}
}

// watchLitter has watch find garbage and give it back. The runtime may collect it first,
// and then there is more.
func watchLitter(t *testing.T, g *garbage, watch func()) {
	t.Helper()
	for first, tries := g.returned, 0; g.returned.Equal(first); tries++ {
		if tries == 100 {
			t.Fatal("nothing was given back")
		}
		litter(t)
		watch()
	}
}

// TestGarbageWatched stirs from many sides: one watch at a time, and it ends.
func TestGarbageWatched(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(percentLeast))
	g := garbage{returned: time.Now()}
	done := make(chan struct{})
	for range 8 {
		go func() {
			for range 1000 {
				g.stir()
			}
			done <- struct{}{}
		}()
	}
	for range 8 {
		<-done
	}
	if !g.watched.Load() {
		t.Error("nobody watches")
	}
	runtime.GC()
	debug.FreeOSMemory() // nothing for the watch to wait for
	for limit := time.Now().Add(10 * time.Second); g.watched.Load(); runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatal("the watch does not end")
		}
	}
}

// litter leaves garbage that is worth a collection.
func litter(t *testing.T) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	kept := make([][]byte, 2*returnLeast>>16)
	for i := range kept {
		kept[i] = make([]byte, 1<<16)
	}
	runtime.KeepAlive(kept)
	if readHeap().unused() < returnLeast {
		t.Skip("a collection came between") // of the test before, that was under way
	}
}

func forced() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumForcedGC
}
