package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
)

// TestRenewals: a change is ready when it is the same at two looks, in each table that has the
// file, and once.
func TestRenewals(t *testing.T) {
	folder := t.TempDir()
	c := conf.Certificate{Cert: filepath.Join(folder, "a.pem"), Key: filepath.Join(folder, "a.key"), Hosts: []string{"a.test"}}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".next", path); err != nil {
			t.Fatal(err)
		}
	}
	write(c.Cert, "1")
	write(c.Key, "1")
	var r renewals
	for _, table := range []int{1, 2} {
		text, err := json.Marshal(conf.Keeper{Certificates: []conf.Certificate{{Internal: true}, c}})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := sockets.Seal("plan", text)
		if err != nil {
			t.Fatal(err)
		}
		gifts := sockets.Gifts{{Name: "plan", FD: plan}}
		for name, path := range map[string]string{"cert1": c.Cert, "key1": c.Key} {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			gifts = append(gifts, sockets.Gift{Name: name, FD: fd})
		}
		t.Cleanup(gifts.Close)
		if err := r.follow(table, gifts); err != nil {
			t.Fatal(err)
		}
	}
	ready := func(want ...watched) {
		t.Helper()
		got := r.look()
		for _, file := range want {
			if !got[file] {
				t.Errorf("%v is not ready: %v", file, got)
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	ready()
	ready()
	write(c.Cert, "2")
	ready()
	write(c.Cert, "3") // before it was still
	ready()
	ready(watched{1, c.Cert}, watched{2, c.Cert})
	r.settle(watched{1, c.Cert})
	ready(watched{2, c.Cert})
	r.settle(watched{2, c.Cert})
	ready()
	if err := os.Remove(c.Key); err != nil {
		t.Fatal(err)
	}
	ready()
	write(c.Key, "2")
	r.forget(1)
	ready()
	ready(watched{2, c.Key})
	r.forget(2)
	if ready(); len(r.marks)+len(r.news) > 0 {
		t.Errorf("forgotten, but not %v, %v", r.marks, r.news)
	}
}

// A check that does not end is killed when its time is over, not before.
func TestCheckTakesTooLong(t *testing.T) {
	stalled := exec.Command("/bin/sleep", "60")
	if err := stalled.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stalled.Process.Kill() }()
	w := &warden{log: newLog(io.Discard)}
	now := time.Now()
	w.renewals = renewals{pid: stalled.Process.Pid, until: now.Add(checkTime)}
	w.tendRenewals(now)
	if err := stalled.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("it is gone at once: %v", err)
	}
	w.tendRenewals(now.Add(checkTime))
	_ = stalled.Wait()
	if status, _ := stalled.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended by %v", status.Signal())
	}
	if next := w.renewals.next(); !next.After(now.Add(checkTime)) {
		t.Error("it is killed again at once")
	}
}
