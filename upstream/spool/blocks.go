package spool

import "math/bits"

// A Block is the unit of an arena's file.
const (
	blockShift = 16
	blockBytes = 1 << blockShift
)

// blocksOf is how many whole blocks a size has.
func blocksOf(bytes int64) int64 { return bytes >> blockShift }

// A run is blocks that lie side by side.
type run struct{ first, n int64 }

// blocks says of each block of a file whether it is used, and of those that are
// not whether pages of an earlier body still lie behind it: warm ones are written
// without a page fault, and have to be punched some day. There is no fragmentation
// to speak of: a body takes several runs, a run may be one block, so that what is
// free can be had to the last block. Both maps grow with use.
type blocks struct {
	n         int64 // blocks of the file
	used      []uint64
	warm      []uint64 // never one that is used
	warmCount int64
	low       int64 // no free block is below
}

// take takes up to most blocks: the lowest warm ones, or else the lowest free ones,
// so that the file stays short. The run is empty when no block is free.
func (b *blocks) take(most int64) run {
	first := b.nextFree(b.low)
	b.low = first
	if b.warmCount > 0 {
		first = next(b.warm)
	}
	r := run{first: first}
	for r.n < most && first+r.n < b.n && !b.isUsed(first+r.n) {
		b.use(first + r.n)
		r.n++
	}
	return r
}

// free gives a run back; warm: with its pages.
func (b *blocks) free(r run, warm bool) {
	for i := r.first; i < r.first+r.n; i++ {
		b.used[i/64] &^= 1 << (i % 64)
		if warm {
			b.warm[i/64] |= 1 << (i % 64)
		}
	}
	if warm {
		b.warmCount += r.n
	}
	b.low = min(b.low, r.first)
}

// takeWarm takes up to most warm blocks that lie side by side; none when there are none.
func (b *blocks) takeWarm(most int64) run {
	if b.warmCount == 0 {
		return run{}
	}
	r := run{first: next(b.warm)}
	for r.n < most && b.isWarm(r.first+r.n) {
		b.use(r.first + r.n)
		r.n++
	}
	return r
}

func (b *blocks) use(i int64) {
	for i/64 >= int64(len(b.used)) {
		b.used, b.warm = append(b.used, 0), append(b.warm, 0)
	}
	b.used[i/64] |= 1 << (i % 64)
	if b.warm[i/64]&(1<<(i%64)) != 0 {
		b.warm[i/64] &^= 1 << (i % 64)
		b.warmCount--
	}
}

func (b *blocks) isUsed(i int64) bool { return isSet(b.used, i) }
func (b *blocks) isWarm(i int64) bool { return isSet(b.warm, i) }

// nextFree is the first block from i on that is not used; it may be behind the file.
func (b *blocks) nextFree(i int64) int64 {
	for w := i / 64; w < int64(len(b.used)); w++ {
		free := ^b.used[w]
		if w == i/64 {
			free &= ^uint64(0) << (i % 64)
		}
		if free != 0 {
			return w*64 + int64(bits.TrailingZeros64(free))
		}
	}
	return max(i, int64(len(b.used))*64)
}

func isSet(set []uint64, i int64) bool {
	return i/64 < int64(len(set)) && set[i/64]&(1<<(i%64)) != 0
}

// next is the first member of a set, which has one.
func next(set []uint64) int64 {
	w := 0
	for set[w] == 0 {
		w++
	}
	return int64(w*64 + bits.TrailingZeros64(set[w]))
}
