package jail

import (
	"os"
	"testing"

	"sallyport/conf"
)

// TestLeaveNotAlike shows that privilege is not given away while one thread is somebody else:
// the kernel would refuse that one, and the runtime would end the program.
func TestLeaveNotAlike(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: this needs root")
	}
	there, over := make(chan struct{}), make(chan error)
	leave := make(chan struct{})
	go func() {
		over <- As(conf.ID{UID: bystander - 1, GID: bystander - 1}, func() { close(there); <-leave })
	}()
	<-there
	if err := Leave(); err == nil || os.Getuid() != 0 {
		t.Errorf("%v, uid %d", err, os.Getuid())
	}
	close(leave)
	if err := <-over; err != nil {
		t.Error(err)
	}
}
