package jail

import (
	"runtime"

	"sallyport/conf"
)

// As runs f as who, on a thread that takes the identity and never gives it back:
// credentials belong to a thread, and this one ends with f. The process stays who
// it is. So check asks the kernel what the core may do, instead of guessing.
//
// Without the privilege to become who, f runs as whoever we are, if that is who;
// else As fails with EPERM.
func As(who conf.ID, f func()) error {
	done := make(chan error)
	go as(who, f, done)
	return <-done
}

// as ends with its thread: a goroutine that returns locked takes it along.
func as(who conf.ID, f func(), done chan<- error) {
	runtime.LockOSThread()
	for _, step := range []func(entrance) error{changeGroups, changeIdentity} {
		if err := step(entrance{who: who}); err != nil {
			done <- err
			return
		}
	}
	f()
	done <- nil
}
