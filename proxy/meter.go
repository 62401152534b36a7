package proxy

import (
	"sync"
	"sync/atomic"
)

// A Meter counts what the forwarder did. Its zero value is ready.
type Meter struct {
	Classes [6]atomic.Uint64 // answers by the hundreds of their status; 0: none was sent
	Unclear atomic.Uint64    // fields taken out because of "_" or "." in their name

	refusals sync.Map // cause -> *atomic.Uint64; causes are constants, so there are few
}

// refuse counts one refusal.
func (m *Meter) refuse(cause string) {
	count, ok := m.refusals.Load(cause)
	if !ok {
		count, _ = m.refusals.LoadOrStore(cause, new(atomic.Uint64))
	}
	count.(*atomic.Uint64).Add(1)
}

// Refusals calls yield for every cause and its count.
func (m *Meter) Refusals(yield func(cause string, count uint64) bool) {
	m.refusals.Range(func(cause, count any) bool {
		return yield(cause.(string), count.(*atomic.Uint64).Load())
	})
}
