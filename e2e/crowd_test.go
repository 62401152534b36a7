package e2e

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCrowd holds ten thousand idle connections, asks on others meanwhile, and then
// once more on each idle one: nobody was lost, nobody got a wrong answer. How fast the
// busy ones are beside the idle ones is for the benchmark to say.
func TestCrowd(t *testing.T) {
	const idle, openers, connections, each = 10000, 16, 64, 100
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Max < idle+1000 {
		t.Skipf("SKIPPED, NOT TESTED: %d open files are allowed, and this needs %d; raise the hard limit (ulimit -Hn)", files.Max, idle+1000)
	}
	s := newScene(t)
	h := s.startBare()
	crowd := make([]*visitor, idle)
	defer func() {
		for _, v := range crowd {
			if v != nil {
				v.Close()
			}
		}
	}()
	all := func(what string, one func(i int) error) {
		t.Helper()
		ended := make(chan error, openers)
		for opener := range openers {
			go func() {
				var err error
				for i := opener; i < idle && err == nil; i += openers {
					err = one(i)
				}
				ended <- err
			}()
		}
		var failed error
		for range openers {
			failed = errors.Join(failed, <-ended)
		}
		if failed != nil {
			t.Fatalf("%s: %v", what, failed)
		}
	}
	all("first request", func(i int) (err error) {
		if crowd[i], err = visit(h.http, nil); err == nil {
			err = crowd[i].ask()
		}
		return err
	})
	if err := busy(h.http, nil, connections, each); err != nil {
		t.Errorf("beside the idle ones: %v", err)
	}
	all("second request", func(i int) error { return crowd[i].ask() })
}
