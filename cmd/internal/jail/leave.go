package jail

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// bystander is whom Leave makes of root: an id that every user namespace of more than one
// has. Nobody can do more to such a process than end it, for it is not dumpable.
const bystander = 65534

// Leave gives root's privilege away, for good and in all threads, in a process that goes on:
// a command that has asked, and only waits for the answer, or only has something to say. It fails,
// and changes nothing, where a thread is left of As: what one thread may do and another may not
// is the end of a program in Go.
func Leave() error {
	if os.Getuid() != 0 {
		return nil
	}
	threads, _ := filepath.Glob("/proc/self/task/*/status")
	for _, thread := range threads {
		if status, err := os.ReadFile(thread); err == nil && !bytes.Contains(status, []byte("\nUid:\t0\t0\t0\t0\n")) {
			return errors.New("jail: leave: a thread has another identity")
		}
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setresgid(bystander, bystander, bystander), syscall.Setresuid(bystander, bystander, bystander))
}
