//go:build race

package h2

// raced: the race detector makes sync.Pool forget, so that nothing can be said of
// allocations.
const raced = true
