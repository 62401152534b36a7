package loop

import "sync"

// parkedMax is how many workers wait for work. Those beyond it end: after a flood,
// their stacks would be all that is left of it.
const parkedMax = 256

// workers run what idle connections left behind. A worker that has run is used
// again, the last one first: its stack has grown already, and is warm.
type workers struct {
	mu     sync.Mutex
	parked []chan func()
	closed bool
}

// run runs job on a worker, at once.
func (w *workers) run(job func()) {
	w.mu.Lock()
	last := len(w.parked) - 1
	if last < 0 {
		w.mu.Unlock()
		go w.workLoop(job)
		return
	}
	worker := w.parked[last]
	w.parked = w.parked[:last]
	w.mu.Unlock()
	worker <- job
}

// workLoop runs its first job and those that come after, until there are too many
// workers, or close.
func (w *workers) workLoop(job func()) {
	next := make(chan func(), 1)
	for job != nil {
		job()
		if !w.park(next) {
			return
		}
		job = <-next
	}
}

func (w *workers) park(worker chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.parked) == parkedMax {
		return false
	}
	w.parked = append(w.parked, worker)
	return true
}

// close ends the workers that wait; the others end after their job.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, worker := range w.parked {
		close(worker)
	}
	w.parked = nil
}
