package board

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// pause is how often a process that has waiters looks at its lines without being
// woken. It bounds what a lost or stolen wake-up costs.
const pause = 10 * time.Millisecond

// A Board is the memory that all cores share, as one of them, a row, uses it.
type Board struct {
	memory *Memory
	row    int
	queues []*Queue
	stall  time.Duration // patience with an older waiter elsewhere that takes no free slot

	waiters atomic.Int64 // in the lines of this process
	armed   atomic.Bool  // the pause is running
	seen    uint64       // what cleared was when stock was taken; watchLoop's
	stocked time.Time    // when that was; watchLoop's
	woken   *os.File     // the wake-up of this row
	ended   chan struct{}
}

// Open makes the calling process the user of a row, which nobody else may have.
// Whatever the row is said to hold by then is freed. fd is needed no more
// afterwards; wakes must stay open until Close.
func Open(fd int, wakes []int, plan Plan, row int) (*Board, error) {
	m, err := Map(fd, wakes, plan)
	if err != nil {
		return nil, err
	}
	b, err := open(m, row)
	if err != nil {
		return nil, errors.Join(err, m.Unmap())
	}
	return b, nil
}

// Private is a board of one row that this process shares with nobody.
func Private(apps []conf.App) (*Board, error) {
	plan := PlanOf(&conf.Core{Apps: apps, Workers: 1})
	plan.Rows = 1
	fd, wakes, err := Create(plan)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	defer unix.Close(wakes[0]) // nobody else is there to write to it
	return Open(fd, wakes, plan, 0)
}

func open(m *Memory, row int) (*Board, error) {
	b := &Board{memory: m, row: row, stall: pause, ended: make(chan struct{})}
	if err := m.Clear(row); err != nil {
		return nil, err
	}
	// A copy: its end is Close's, and the number in wakes stays the caller's.
	woken, err := unix.FcntlInt(uintptr(m.wakes[row]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("board: wake-up of row %d: %w", row, err)
	}
	b.woken = os.NewFile(uintptr(woken), "board wake-up")
	if err := b.woken.SetReadDeadline(time.Time{}); err != nil {
		return nil, errors.Join(fmt.Errorf("board: wake-up of row %d: is no eventfd that can be polled: %w", row, err), b.woken.Close())
	}
	b.seen = m.cleared().Load()
	for i := range m.plan.Apps {
		b.queues = append(b.queues, newQueue(b, i))
	}
	go b.watchLoop()
	return b, nil
}

// Queue is that of the app with this index in the plan.
func (b *Board) Queue(app int) *Queue { return b.queues[app] }

// Close ends the use of the board. Nobody may wait or hold a slot any more: a core
// that ends does not call it, its row is cleared by the warden.
func (b *Board) Close() error {
	err := b.woken.Close()
	<-b.ended
	return errors.Join(err, b.memory.Unmap())
}

// watchLoop serves the lines of this process whenever another one wakes it, and
// after each pause while somebody waits. Close ends it.
func (b *Board) watchLoop() {
	defer close(b.ended)
	var count [8]byte
	for {
		_, err := b.woken.Read(count[:])
		switch {
		case err == nil:
			b.look((*Queue).onWake)
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			b.look((*Queue).onPause)
			b.rearm()
		default: // nothing that a sound eventfd says: pauses alone must do
			time.Sleep(pause)
			b.look((*Queue).onPause)
		}
	}
}

// look heeds the checks, and serves each line in which somebody waits. After a Clear each process takes
// stock first: the dead may have written anywhere. Once per pause is enough, whatever
// somebody writes into the word that says so.
func (b *Board) look(serve func(*Queue)) {
	if cleared := b.memory.cleared().Load(); cleared != b.seen {
		if now := time.Now(); now.Sub(b.stocked) >= pause {
			b.seen, b.stocked = cleared, now
			for _, q := range b.queues {
				q.takeStock()
			}
		} else {
			b.arm()
		}
	}
	for _, q := range b.queues {
		if q.heeds.Load() {
			q.heed()
		}
		if q.waiting.Load() > 0 {
			serve(q)
		}
	}
}

// arm starts the pause, for a waiter that has been counted.
func (b *Board) arm() {
	if !b.armed.Load() && b.armed.CompareAndSwap(false, true) {
		_ = b.woken.SetReadDeadline(time.Now().Add(pause)) // fails after Close only
	}
}

// rearm starts the next pause if anybody is left, or stock is still to be taken. Whoever
// comes between the two stores finds armed false and starts it himself.
func (b *Board) rearm() {
	_ = b.woken.SetReadDeadline(time.Time{}) // fails after Close only
	b.armed.Store(false)
	if b.waiters.Load() > 0 || b.memory.cleared().Load() != b.seen {
		b.arm()
	}
}
