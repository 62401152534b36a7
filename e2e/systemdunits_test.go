package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// This file is what can be said of the units of conf/systemd without a systemd that runs;
// they are started in systemd_test.go.

// exposures are the most that systemd-analyze may find in a unit, of 10.
func exposures() map[string]float64 {
	return map[string]float64{"sallyport.service": 2.4, "sallyport-ambient.service": 1.4, "sallyport-activated.service": 1.1}
}

// analyze runs systemd-analyze on the units.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("SKIPPED, NOT TESTED: no systemd-analyze on this machine; `make test` installs it as root")
	}
	cmd := exec.Command("systemd-analyze", args...)
	cmd.Dir = "../conf/systemd"
	out, err := cmd.CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	return string(out)
}

// TestUnitExposure holds the units to the exposure that the README states.
func TestUnitExposure(t *testing.T) {
	overall := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	for unit, most := range exposures() {
		out := analyze(t, "security", "--offline=true", "--no-pager", "./"+unit)
		found := overall.FindStringSubmatch(out)
		if found == nil {
			t.Errorf("%s: %s", unit, out)
			continue
		}
		level, err := strconv.ParseFloat(found[1], 64)
		if err != nil || level > most {
			t.Errorf("%s: %s, at most %.1f\n%s", unit, found[1], most, out)
		}
		t.Logf("%s: %s", unit, found[1])
	}
}

// TestUnitsVerified has systemd read every unit: it says what it does not know. That the
// program is not installed is no fault of a unit.
func TestUnitsVerified(t *testing.T) {
	files, err := filepath.Glob("../conf/systemd/*.s[eo]*[et]")
	if err != nil || len(files) != 5 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		unit := filepath.Base(file)
		args := []string{"verify", "./" + unit}
		if strings.Contains(unit, "user") {
			args = append(args, "--user")
		}
		for line := range strings.Lines(analyze(t, args...)) {
			if strings.Contains(line, "sallyport") && !strings.Contains(line, "is not executable: No such file") {
				t.Errorf("%s: %s", unit, line)
			}
		}
	}
}

// TestUnitsAgree shows that what units say in words of this program is so: exit codes that
// another start does not mend, a time to stop that is longer than that to drain, and the
// command and file that ExecStart and ExecReload share.
func TestUnitsAgree(t *testing.T) {
	files, err := filepath.Glob("../conf/systemd/*.service")
	if err != nil || len(files) != 4 {
		t.Fatalf("%q, %v", files, err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(\S+) run -c (\S+)$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := start.FindStringSubmatch(string(text))
		if found == nil {
			t.Errorf("%s starts nothing", file)
			continue
		}
		for _, line := range []string{
			"Type=notify", fmt.Sprintf("ExecReload=%s reload -c %s", found[1], found[2]), "Restart=on-failure",
			"RestartPreventExitStatus=1 2", "TimeoutStopSec=45s", "RuntimeDirectory=sallyport", "StateDirectory=sallyport",
		} {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s: %s is missing", file, line)
			}
		}
	}
}
