package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestZombieHasNoID: one that nobody has waited for keeps nothing from us.
func TestZombieHasNoID(t *testing.T) {
	dead := exec.Command("/bin/true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dead.Wait() }() // it ends with 0
	status := fmt.Sprintf("/proc/%d/status", dead.Process.Pid)
	for text := ""; !strings.Contains(text, "State:\tZ"); {
		read, err := os.ReadFile(status)
		if err != nil {
			t.Fatal(err)
		}
		text = string(read)
	}
	if hasID(status, strconv.Itoa(os.Getuid())) {
		t.Error("the dead have ids")
	}
	if !hasID("/proc/self/status", strconv.Itoa(os.Getuid())) {
		t.Error("the living have none")
	}
}
