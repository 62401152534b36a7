package board

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Create makes an empty board, and its wake-ups as Make does. All descriptors are
// close-on-exec and the caller's to close.
func Create(plan Plan) (memory int, wakes []int, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	memory, err = unix.MemfdCreate("board", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		memory, err = unix.MemfdCreate("board", flags)
	}
	if err != nil {
		return -1, nil, fmt.Errorf("board: memfd_create: %w", err)
	}
	if wakes, err = Make(memory, plan); err != nil {
		unix.Close(memory)
		return -1, nil, err
	}
	return memory, wakes, nil
}

// Make makes an empty board of empty memory that can be sealed (memfd_create(2)), and its
// wake-ups, one eventfd per row, which every row is given. The memory can be neither shrunk
// nor grown, so that no holder can make another one die of SIGBUS (file-backed faults in
// mmap(2)). The wake-ups are close-on-exec and the caller's to close.
func Make(memory int, plan Plan) (wakes []int, err error) {
	l, err := plan.layOut()
	if err != nil {
		return nil, err
	}
	size := int64(l.words) * 8
	if err := unix.Ftruncate(memory, size); err != nil {
		return nil, fmt.Errorf("board: ftruncate to %d bytes: %w", size, err)
	}
	if _, err := unix.FcntlInt(uintptr(memory), unix.F_ADD_SEALS, fixedSize); err != nil {
		return nil, fmt.Errorf("board: seals: %w", err)
	}
	if plan.Addresses {
		if err := makeKey(memory, int64(l.addresses)*8); err != nil {
			return nil, err
		}
	}
	for range plan.Rows {
		wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			for _, fd := range wakes {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("board: wake-up of row %d: eventfd: %w", len(wakes), err)
		}
		wakes = append(wakes, wake)
	}
	return wakes, nil
}

// makeKey writes what cells are found by, which clients must not know: they could meet on
// purpose.
func makeKey(memory int, at int64) error {
	var key [tables * 8]byte
	if _, err := unix.Getrandom(key[:], 0); err != nil {
		return fmt.Errorf("board: key of addresses: getrandom: %w", err)
	}
	if _, err := unix.Pwrite(memory, key[:], at); err != nil {
		return fmt.Errorf("board: key of addresses: %w", err)
	}
	return nil
}

const fixedSize = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Memory is the board as the warden has it: mapped, and used to clear rows and to report.
type Memory struct {
	layout
	plan   Plan
	mapped []byte
	all    []atomic.Uint64 // mapped
	wakes  []int           // one eventfd per row; not ours to close
	once   []byte          // what is written to them: the number 1, eventfd(2)
}

// Map maps the board behind fd, which must have been created for the same plan. It
// needs fd no more afterwards, but wakes for as long as it lives.
func Map(fd int, wakes []int, plan Plan) (*Memory, error) {
	l, err := plan.layOut()
	if err != nil {
		return nil, err
	}
	if len(wakes) != plan.Rows {
		return nil, fmt.Errorf("board: %d wake-ups for %d rows", len(wakes), plan.Rows)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("board: descriptor %d: seals: %w", fd, err)
	}
	if seals&fixedSize != fixedSize {
		return nil, fmt.Errorf("board: descriptor %d: its size is not sealed", fd)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("board: descriptor %d: %w", fd, err)
	}
	if stat.Size != int64(l.words)*8 {
		return nil, fmt.Errorf("board: descriptor %d: %d bytes, but the plan takes %d: it was made for another plan", fd, stat.Size, l.words*8)
	}
	mapped, err := unix.Mmap(fd, 0, l.words*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("board: mmap of %d bytes: %w", l.words*8, err)
	}
	// The one use of unsafe: from here on everything is a slice, whose bounds come
	// from the plan and never from the memory itself. Pages are aligned for any word.
	all := unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(mapped))), l.words)
	once := binary.NativeEndian.AppendUint64(nil, 1)
	return &Memory{layout: *l, plan: plan, mapped: mapped, all: all, wakes: wakes, once: once}, nil
}

// Unmap ends the use of m. No other call may be under way or come after.
func (m *Memory) Unmap() error {
	m.all = nil
	if err := unix.Munmap(m.mapped); err != nil {
		return fmt.Errorf("board: munmap: %w", err)
	}
	return nil
}

// cleared is the word that says when the last Clear was, in unix nanoseconds.
func (m *Memory) cleared() *atomic.Uint64 { return &m.all[0] }

// Clear frees all that is held by rows that no process has: one that had a row has been
// waited for (wait4(2)). These are slots, places, and their turn in every line. What bears
// the number of no row is freed as well. Then it wakes all rows; each takes stock of its own
// things and goes on. When a core has died, every row that no process has should be cleared
// with its own: it may have written their numbers.
func (m *Memory) Clear(rows ...int) error {
	vacant := make([]bool, m.plan.Rows)
	for _, row := range rows {
		if row < 0 || row >= m.plan.Rows {
			return fmt.Errorf("board: clear: no row %d among %d", row, m.plan.Rows)
		}
		vacant[row] = true
	}
	m.sweep(vacant)
	m.cleared().Store(uint64(time.Now().UnixNano())) // which whoever wrote it before could not foresee
	m.wakeAll()
	return nil
}

// sweep frees what vacant rows hold, and what bears the number of no row. What they have
// counted is added to what the dead have left.
func (m *Memory) sweep(vacant []bool) {
	for i, app := range m.plan.Apps {
		o := &m.apps[i]
		clearRows(m.all[o.heads:], 1, vacant)
		disown(m.all[o.slots:o.places], vacant)
		disown(m.all[o.places:o.places+app.QueueLen], vacant)
	}
	clearRows(m.all[m.rows:], m.stride, vacant)
	if m.plan.Addresses {
		clearRows(m.all[m.connections:], tables*cells, vacant)
	}
	for row := range vacant {
		if vacant[row] {
			m.inherit(row)
		}
	}
}

// inherit adds what row has counted to what the dead have left.
func (m *Memory) inherit(row int) {
	tallies, left := m.tallyBlock(row), m.tallyBlock(m.plan.Rows)
	for i := range tallies {
		left[i].Add(min(tallies[i].Swap(0), tallyMax))
	}
}

// clearRows makes the words of vacant rows zero, of which each row has so many.
func clearRows(words []atomic.Uint64, each int, vacant []bool) {
	for i := range len(vacant) * each {
		if vacant[i/each] {
			words[i].Store(0)
		}
	}
}

func disown(words []atomic.Uint64, vacant []bool) {
	for i := range words {
		owner := words[i].Load()
		if owner != 0 && (owner > uint64(len(vacant)) || vacant[owner-1]) {
			words[i].CompareAndSwap(owner, 0)
		}
	}
}

// rowNumber is how a row signs what it holds; 0 is nobody.
func rowNumber(row int) uint64 { return uint64(row) + 1 }

// wakeAll wakes every row. It asks first who can be woken: a row that nobody reads
// may be full, and a core that was taken over may have made its eventfd a blocking one.
func (m *Memory) wakeAll() {
	ready := make([]unix.PollFd, len(m.wakes))
	for i, fd := range m.wakes {
		ready[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
	}
	for {
		if _, err := unix.Poll(ready, 0); !errors.Is(err, unix.EINTR) {
			break // an error leaves nobody ready; rows look for themselves every pause
		}
	}
	for row := range ready {
		if ready[row].Revents&unix.POLLOUT != 0 {
			m.wake(row)
		}
	}
}

// wake makes row look at its lines. That it fails means that the row has a wake-up
// already (EAGAIN, eventfd(2)), or that it must look for itself, as it does every pause.
func (m *Memory) wake(row int) {
	_, _ = unix.Write(m.wakes[row], m.once)
}
