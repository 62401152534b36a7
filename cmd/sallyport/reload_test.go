package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCheckOwner shows that of what a service names as its file nothing is opened that waits for a writer, or
// that has effects when it is opened, whoever owns it.
func TestCheckOwner(t *testing.T) {
	folder := t.TempDir()
	file, fifo, link := filepath.Join(folder, "file"), filepath.Join(folder, "fifo"), filepath.Join(folder, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fifo, link); err != nil {
		t.Fatal(err)
	}
	if err := checkOwner(file); err != nil {
		t.Error(err)
	}
	for _, path := range []string{fifo, link, folder, os.DevNull} {
		if err := checkOwner(path); err == nil || !strings.Contains(err.Error(), "is no regular file: name the file by -c") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
