package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLiar: a core that was taken over gives every slot and place of the board to a row
// that nobody has, and dies. Its successor serves as ever.
func TestLiar(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	g := s.gate()
	g.answer()
	s.write("sallyport.toml", fmt.Sprintf(limited, 1))
	h := s.start()
	const nobodys = 3 // of four generations of one core, the first has a process
	memory := s.board(h)
	defer memory.Close()
	facts, err := memory.Stat()
	s.must(err)
	lie := make([]byte, 0, facts.Size())
	for range facts.Size() / 8 {
		lie = binary.NativeEndian.AppendUint64(lie, nobodys)
	}
	_, err = memory.WriteAt(lie, 0)
	s.must(err)
	if status, _ := get(h.http, ""); status != 503 {
		t.Errorf("no slot and no place is free: status %d", status)
	}
	core := named(t, "sallyport-core")
	core.kill()
	await(t, "a successor", func() bool { return named(t, "sallyport-core").pid != core.pid })
	if status, _ := get(h.http, ""); status != 200 {
		t.Errorf("then: status %d", status)
	}
}

// board opens the memory that the cores of a house share.
func (s *scene) board(h *house) *os.File {
	s.t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", h.cmd.Process.Pid))
	s.must(err)
	for _, link := range links {
		if name, err := os.Readlink(link); err == nil && strings.HasPrefix(name, "/memfd:board") {
			memory, err := os.OpenFile(link, os.O_RDWR, 0)
			s.must(err)
			return memory
		}
	}
	s.t.Fatal("the main process has no board")
	return nil
}
