package spool

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// A model is what a spool has to be, in memory.
type model struct {
	spool       *Spool
	app         int
	body        []byte // what was written
	read        int
	kept, ended bool
	gone        bool
	lent        []byte // what Next returned
	copied      []byte // and what was in it then
}

var errGone = errors.New("gone")

// FuzzSpool runs a script of operations on a few spools of a small arena, and
// beside it on models: three bytes are one operation.
func FuzzSpool(f *testing.F) {
	f.Add([]byte{0, 1, 200, 0, 1, 255, 16, 1, 0, 32, 1, 0, 48, 1, 0})
	f.Fuzz(runScript)
}

// TestScripts runs random ones.
func TestScripts(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		script := make([]byte, 600)
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		runScript(t, script)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func runScript(t *testing.T, script []byte) {
	a := open(t, 2*mib, mib+300*kib)
	models := make([]*model, 6)
	for ; len(script) >= 3 && !t.Failed(); script = script[3:] {
		i := int(script[1]) % len(models)
		if models[i] == nil {
			m := &model{app: i % 2, kept: script[2]%2 == 0}
			if m.spool = a.App(m.app).Reply(); m.kept {
				m.spool.Close()
				m.spool = a.App(m.app).Request()
			}
			models[i] = m
		}
		if models[i].step(t, script[0]%16, int(script[2])*int(script[2])*3) {
			models[i] = nil
		}
		checkCounts(t, a, models)
	}
	for _, m := range models {
		if m != nil {
			m.spool.Close()
		}
	}
}

// step runs one operation; true when the spool was closed.
func (m *model) step(t *testing.T, op byte, n int) (closed bool) {
	s := m.spool
	switch {
	case op < 6:
		m.write(t, n)
	case op < 10:
		m.next(t)
	case op < 12:
		m.offered(t, int64(n))
	case op == 12:
		if s.Rewind() != (m.kept && !m.gone) {
			t.Error("rewind")
		}
		if m.kept && !m.gone {
			m.read, m.lent = 0, nil
		}
	case op == 13:
		s.Forget()
		m.kept = false
	case op == 14 && n%3 == 0:
		s.CloseWrite(nil)
		m.ended = true
	case op == 14 && n%3 == 1:
		if s.Overflow() {
			m.ended, m.kept = true, false
		}
	case op == 14:
		s.CloseRead(errGone)
		m.gone, m.lent = true, nil
	case op == 15:
		s.Close()
		return true
	}
	if s.Len() != int64(len(m.body)) || s.Ready() != (m.read < len(m.body) || m.ended || m.gone) {
		t.Errorf("Len %d of %d, Ready %v", s.Len(), len(m.body), s.Ready())
	}
	if !bytes.Equal(m.lent, m.copied) && m.lent != nil {
		t.Error("a piece has changed")
	}
	return false
}

func (m *model) write(t *testing.T, n int) {
	p := body(n, uint64(len(m.body)))
	got, err := m.spool.Write(p)
	switch {
	case n > 0 && m.gone:
		if err != errGone || got != 0 {
			t.Errorf("wrote %d: %v", got, err)
		}
	case n > 0 && m.ended:
		if err != errClosed || got != 0 {
			t.Errorf("wrote %d: %v", got, err)
		}
	case err != nil && !errors.Is(err, ErrFull) || err == nil && got != n:
		t.Errorf("wrote %d of %d: %v", got, n, err)
	}
	m.body = append(m.body, p[:got]...)
}

func (m *model) next(t *testing.T) {
	if !m.spool.Ready() {
		return // it would wait
	}
	piece, err := m.spool.Next()
	switch {
	case m.gone:
		if err != errGone {
			t.Errorf("read: %v", err)
		}
		return
	case m.read == len(m.body):
		if err != io.EOF {
			t.Errorf("read %d bytes behind the end: %v", len(piece), err)
		}
		m.lent = nil
		return
	case err != nil || len(piece) == 0 || len(piece) > len(m.body)-m.read || !bytes.Equal(piece, m.body[m.read:m.read+len(piece)]):
		t.Fatalf("read %d bytes at %d of %d: %v", len(piece), m.read, len(m.body), err)
	}
	m.read += len(piece)
	m.lent, m.copied = piece, bytes.Clone(piece)
}

// offered takes a part of what Range offers.
func (m *model) offered(t *testing.T, most int64) {
	_, offset, n, ok := m.spool.Range()
	m.lent = nil
	if !ok {
		return
	}
	n = min(n, most)
	p := make([]byte, n)
	if got, err := m.spool.arena.pread(p, offset); got != n || err != nil || !bytes.Equal(p, m.body[m.read:m.read+int(n)]) {
		t.Errorf("range of %d bytes at %d: %d, %v", n, offset, got, err)
	}
	m.spool.Skip(n)
	m.read += int(n)
}

// checkCounts adds up what the spools have.
func checkCounts(t *testing.T, a *Arena, models []*model) {
	var memory, stored [2]int64
	used := map[int64]bool{}
	for _, m := range models {
		if m == nil {
			continue
		}
		s := m.spool
		memory[m.app] += int64(len(s.piece)+len(s.outgrown)) + s.credit
		if s.reserved {
			memory[m.app] += largeBytes
		}
		for _, e := range s.extents {
			stored[m.app] += e.n << blockShift
			for i := range e.n {
				if used[e.first+i] || !a.blocks.isUsed(e.first+i) {
					t.Error("a block has two owners, or none")
				}
				used[e.first+i] = true
			}
		}
	}
	st := a.Stats()
	sum := int64(0)
	for i, p := range st.Apps {
		if p.Memory != memory[i] || p.Stored != stored[i] || p.Memory+p.Stored > a.apps[i].bytes {
			t.Errorf("app %d: %+v, want %d and %d", i, p, memory[i], stored[i])
		}
		sum += p.Memory + p.Stored
	}
	if sum != st.Used || st.Used+st.Warm > st.Bytes || resident(t, a.fd) > st.Bytes {
		t.Errorf("%+v", st)
	}
}
