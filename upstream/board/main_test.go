package board

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain is also the cores: this binary under another name is a process with a row.
func TestMain(m *testing.M) {
	if os.Args[0] != coreName {
		os.Exit(m.Run())
	}
	if err := runCore(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "core:", err)
		os.Exit(1)
	}
}

const coreName = "board-core"

// An order is what a core shall do.
type order struct {
	Plan    Plan
	Row     int
	Story   string        // hammer, order, crowd, scribble
	Callers int           // goroutines
	Limit   time.Duration // of a wait
	Stall   time.Duration // 0: that of the package
}

// A ledger is what cores and tests tell each other, in shared memory of its own.
type ledger struct {
	words   []atomic.Uint64
	callers int
}

const (
	ledgerWords = 1 << 16
	ledgerGo    = iota
	ledgerStop
	ledgerReady
	ledgerTooMany // times that more than the limit were busy
	ledgerRefused
	ledgerDone
	ledgerLogged
	ledgerTaken = 64 // one word per row: slots had
	ledgerTried = 128
	ledgerBusy  = 1024 // one word per caller: times it became busy or idle, shifted; 1 + member while busy
	ledgerLog   = 16384
)

func readLedger(fd, callers int) (*ledger, error) {
	mapped, err := unix.Mmap(fd, 0, ledgerWords*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	words := unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(mapped))), ledgerWords)
	return &ledger{words, callers}, nil
}

func (l *ledger) at(i int) *atomic.Uint64 { return &l.words[i] }

func (l *ledger) busyWord(row, caller int) *atomic.Uint64 {
	return l.at(ledgerBusy + row*l.callers + caller)
}

// mark says that a caller is busy at a member, or idle (0).
func (l *ledger) mark(row, caller, busy int) {
	w := l.busyWord(row, caller)
	w.Store((w.Load()>>8+1)<<8 | uint64(busy))
}

// busy is how many callers are busy at a member: true of a moment, because nobody
// changed while it was counted twice. It gives up after some tries.
func (l *ledger) busy(rows, member int) int {
	all := l.words[ledgerBusy:][:rows*l.callers]
	seen := make([]uint64, len(all))
	for range 20 {
		for i := range all {
			seen[i] = all[i].Load()
		}
		n, still := 0, true
		for i := range all {
			still = still && all[i].Load() == seen[i]
			if seen[i]&255 == uint64(member)+1 {
				n++
			}
		}
		if still {
			return n
		}
	}
	return 0
}

// A core is one process's side of a test.
type core struct {
	order
	*ledger
	board *Board
	q     *Queue
}

// Descriptors of a core: the board, the ledger, and the wake-ups in order of rows.
const (
	boardFD  = 3
	ledgerFD = 4
	wakesFD  = 5
)

func runCore(text string) error {
	var c core
	if err := json.Unmarshal([]byte(text), &c.order); err != nil {
		return err
	}
	wakes := make([]int, c.Plan.Rows)
	for i := range wakes {
		wakes[i] = wakesFD + i
	}
	var err error
	if c.ledger, err = readLedger(ledgerFD, c.Callers); err != nil {
		return err
	}
	if c.board, err = Open(boardFD, wakes, c.Plan, c.Row); err != nil {
		return err
	}
	if c.Stall != 0 {
		c.board.stall = c.Stall
	}
	c.q = c.board.Queue(1)
	if c.Story == "scribble" {
		return c.scribble()
	}
	call := map[string]func(int, *Waiter, *rand.Rand) error{"hammer": c.hammer, "order": c.inOrder, "crowd": c.crowd}[c.Story]
	c.at(ledgerReady).Add(1)
	var all sync.WaitGroup
	failed := make(chan error, c.Callers)
	for i := range c.Callers {
		all.Go(func() { failed <- c.callLoop(i, call) })
	}
	all.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return c.board.Close()
}

// callLoop ends when the story is over.
func (c *core) callLoop(i int, call func(int, *Waiter, *rand.Rand) error) error {
	c.told(ledgerGo) // when the parent has seen all cores ready
	dice := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(i)))
	var w Waiter
	for c.at(ledgerStop).Load() == 0 {
		if err := call(i, &w, dice); err != nil || c.Story == "crowd" {
			return err
		}
	}
	return nil
}

// told waits until the parent has written into a word.
func (c *core) told(word int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for c.at(word).Load() == 0 {
		<-tick.C
	}
}

// hammer takes a slot and gives it back, in every way there is.
func (c *core) hammer(i int, w *Waiter, dice *rand.Rand) error {
	c.at(ledgerTried + c.Row).Add(1)
	limit, client := in(c.Limit), new(visitor)
	switch dice.IntN(8) {
	case 0:
		limit = in(time.Duration(dice.IntN(2000)) * time.Microsecond)
	case 1:
		time.AfterFunc(time.Duration(dice.IntN(2000))*time.Microsecond, client.leave)
	}
	for try := 0; ; try++ {
		m, err := c.q.Acquire(w, uint64(dice.IntN(4)&dice.IntN(4)), limit, client)
		switch {
		case errors.Is(err, ErrFull):
			<-time.After(time.Duration(dice.IntN(500)) * time.Microsecond) // or refusing is all that the machine does
			return nil
		case errors.Is(err, ErrTime), errors.Is(err, ErrGone):
			return nil
		case err != nil:
			return err
		}
		c.mark(c.Row, i, m+1)
		if c.busy(c.Plan.Rows, m) > c.Plan.Apps[1].InFlightMax {
			c.at(ledgerTooMany).Add(1)
		}
		for range dice.IntN(3) {
			runtime.Gosched()
		}
		c.mark(c.Row, i, 0)
		if try > 1 || dice.IntN(4) > 0 {
			break // else: it was refused, and goes back to its place
		}
	}
	if dice.IntN(2) == 0 {
		c.q.Settle(w)
	}
	c.q.Release(w)
	c.at(ledgerTaken + c.Row).Add(1)
	return nil
}

// inOrder writes down its ticket while it has the only slot.
func (c *core) inOrder(_ int, w *Waiter, _ *rand.Rand) error {
	if _, err := c.q.Acquire(w, 0, in(c.Limit), nil); err != nil {
		return err
	}
	if w.Waited() {
		if n := int(c.at(ledgerLogged).Load()); n < ledgerWords-ledgerLog {
			c.at(ledgerLog + n).Store(w.ticket)
			c.at(ledgerLogged).Add(1)
		} else {
			c.at(ledgerStop).Store(1)
		}
	}
	c.q.Release(w)
	return nil
}

// crowd is one request to an app that answers when it is told to.
func (c *core) crowd(i int, w *Waiter, _ *rand.Rand) error {
	m, err := c.q.Acquire(w, 0, in(c.Limit), nil)
	if errors.Is(err, ErrFull) {
		c.at(ledgerRefused).Add(1)
		return nil
	}
	if err != nil {
		return err
	}
	c.q.Settle(w)
	c.mark(c.Row, i, m+1)
	if c.busy(c.Plan.Rows, m) > c.Plan.Apps[1].InFlightMax {
		c.at(ledgerTooMany).Add(1)
	}
	c.told(ledgerStop) // when the parent has seen what it came for
	c.mark(c.Row, i, 0)
	c.at(ledgerDone).Add(1)
	c.q.Release(w)
	return nil
}

// scribble is a core that was taken over: it ends by being killed.
func (c *core) scribble() error {
	all := c.board.memory.all
	c.at(ledgerReady).Add(1)
	for {
		word := &all[rand.IntN(len(all))]
		switch rand.IntN(3) {
		case 0:
			word.Store(rand.Uint64())
		case 1:
			word.Store(rand.Uint64N(uint64(c.Plan.Rows) + 3))
		case 2:
			word.Store(^uint64(0) - rand.Uint64N(3))
		}
		if rand.IntN(1000) == 0 {
			c.board.memory.wake(rand.IntN(c.Plan.Rows))
		}
	}
}

// A house is a board whose rows are processes; its test is their warden.
type house struct {
	*ledger
	t      *testing.T
	memory *Memory
	files  []*os.File
	order  order
	cores  map[int]*exec.Cmd
}

func build(t *testing.T, o order) *house {
	t.Helper()
	fd, wakes, err := Create(o.Plan)
	if err != nil {
		t.Fatal(err)
	}
	book, err := unix.MemfdCreate("ledger", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(book, ledgerWords*8)
	}
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, order: o, cores: map[int]*exec.Cmd{}}
	if h.memory, err = Map(fd, wakes, o.Plan); err != nil {
		t.Fatal(err)
	}
	if h.ledger, err = readLedger(book, o.Callers); err != nil {
		t.Fatal(err)
	}
	for _, fd := range append([]int{fd, book}, wakes...) {
		h.files = append(h.files, os.NewFile(uintptr(fd), "given"))
	}
	t.Cleanup(h.close)
	return h
}

func (h *house) close() {
	for row := range h.cores {
		h.kill(row)
	}
	for _, file := range h.files {
		file.Close()
	}
	if err := h.memory.Unmap(); err != nil {
		h.t.Error(err)
	}
}

// start starts a core and does not wait for it.
func (h *house) start(row int, story string) {
	h.t.Helper()
	o := h.order
	o.Row, o.Story = row, story
	text, err := json.Marshal(o)
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", string(text))
	cmd.Args[0] = coreName
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = h.files
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.cores[row] = cmd
}

// startAll starts all cores and lets them go once all are ready.
func (h *house) startAll(story string) {
	h.t.Helper()
	for row := range h.order.Plan.Rows {
		h.start(row, story)
	}
	until(h.t, "all ready", func() bool { return h.at(ledgerReady).Load() == uint64(h.order.Plan.Rows) })
	h.at(ledgerGo).Store(1)
}

// kill is what happens to a core that dies, and what the warden does about it.
func (h *house) kill(row int) {
	cmd := h.cores[row]
	delete(h.cores, row)
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()         // that it was killed is known
	for caller := range h.callers {
		h.mark(row, caller, 0)
	}
	if err := h.memory.Clear(row); err != nil {
		h.t.Error(err)
	}
}

// stop lets all cores come to their end, which must be a good one.
func (h *house) stop() {
	h.t.Helper()
	h.at(ledgerStop).Store(1)
	for row, cmd := range h.cores {
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(unix.SIGQUIT) }) // and all stacks are shown
		if err := cmd.Wait(); err != nil {
			h.t.Errorf("core %d: %v", row, err)
		}
		late.Stop()
	}
	clear(h.cores)
}

// goOn waits until every living core has had n more of what this word counts.
func (h *house) goOn(word int, n uint64) {
	h.t.Helper()
	for row := range h.cores {
		before := h.at(word + row).Load()
		until(h.t, fmt.Sprintf("core %d goes on", row), func() bool { return h.at(word+row).Load() >= before+n })
	}
}
