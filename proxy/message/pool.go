package message

import "sync"

// Take is what a pool has, or a new one. Pools have pointers, which go into an interface without an
// allocation; buffers are arrays there.
func Take[T any](pool *sync.Pool) *T {
	if p, ok := pool.Get().(*T); ok {
		return p
	}
	return new(T)
}
