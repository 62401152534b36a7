package main

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"sallyport/conf"
	"sallyport/sockets"
)

// TestTargets shows how the dialer finds sockets: by the folder where root has opened it.
func TestTargets(t *testing.T) {
	plan := &conf.Plan{Users: conf.Users{Switch: true}, Core: conf.Core{Apps: []conf.App{
		{Sockets: []string{"/home/a/1.sock", "/run/b/2.sock"}}, {Sockets: []string{"/home/a/3.sock"}},
	}}}
	a := &answer{Plan: plan}
	a.findTargets()
	if !slices.Equal(a.Folders, []string{"/home/a", "/run/b"}) {
		t.Errorf("folders %q", a.Folders)
	}
	list, err := sealJSON("sockets", a.Targets)
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.CloseAll([]int{list})
	folder, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	gifts := sockets.Gifts{{Name: "folder0", FD: int(folder.Fd())}, {Name: "sockets", FD: list}}
	targets, err := readTargets(gifts)
	if err != nil {
		t.Fatal(err)
	}
	opened := fmt.Sprintf("/proc/self/fd/%d/", folder.Fd())
	var paths []string
	for _, target := range targets {
		paths = append(paths, target.Path)
	}
	if want := []string{opened + "1.sock", "/run/b/2.sock", opened + "3.sock"}; !slices.Equal(paths, want) {
		t.Errorf("%q, want %q", paths, want)
	}
	plan.Users.Switch = false
	a = &answer{Plan: plan}
	if a.findTargets(); a.Folders != nil || len(a.Targets) != 3 {
		t.Errorf("without privilege: %+v", a)
	}
}
