package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// TestOpenOrMake shows which files in the state folder are the keeper's.
func TestOpenOrMake(t *testing.T) {
	keeper := conf.ID{UID: os.Geteuid(), GID: os.Getegid()}
	for _, c := range []struct {
		name    string
		prepare func(path string) error
		wrong   string
	}{
		{"absent", func(string) error { return nil }, ""},
		{"there", func(path string) error { return os.WriteFile(path, nil, 0o600) }, ""},
		{"folder", func(path string) error { return os.Mkdir(path, 0o700) }, "is no regular file"},
		{"pipe", func(path string) error { return unix.Mkfifo(path, 0o600) }, "is no regular file"},
		{"link", func(path string) error { return os.Symlink("/etc/passwd", path) }, "is no regular file"},
		{"two names", func(path string) error {
			return errors.Join(os.WriteFile(path+"2", nil, 0o600), os.Link(path+"2", path))
		}, "has another name too"},
		{"of another", func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 65534, 65534))
		}, "belongs to uid 65534"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "secret")
			if err := c.prepare(path); errors.Is(err, unix.EPERM) {
				t.Skip("SKIPPED, NOT TESTED: this needs root")
			} else if err != nil {
				t.Fatal(err)
			}
			folder, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(folder)
			fd, err := openOrMake(folder, path, 0o600, keeper)
			var wrong *fileError
			switch {
			case c.wrong == "":
				if err != nil {
					t.Fatal(err)
				}
				unix.Close(fd)
			case !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.wrong) || strings.Contains(wrong.hint, "chown"):
				t.Errorf("%v", err)
			}
		})
	}
}

// TestStateHint shows that the hint about a state folder lasts where a supervisor
// takes what it has given back.
func TestStateHint(t *testing.T) {
	dir := t.TempDir()
	folder, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(folder)
	for given, hint := range map[string]string{
		"/other":        "chown 1:1 " + dir,
		dir + ":/other": `write state = "` + dir + `/keeper": a folder of StateDirectory= is taken back at every start`,
	} {
		t.Setenv("STATE_DIRECTORY", given)
		var wrong *fileError
		if err := checkState(folder, dir, conf.ID{UID: 1, GID: 1}); !errors.As(err, &wrong) || wrong.hint != hint {
			t.Errorf("%v, want %s", err, hint)
		}
	}
}

// TestCheckDescriptors shows how many certificates are too many.
func TestCheckDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		certificates int
		internal     bool
		wrong        string
	}{
		{1, false, ""},
		{100_000, true, ""},
		{7_000, false, "open files"},
		{100_000, false, "certificates"},
	} {
		plan := &conf.Plan{Workers: 2, Keeper: conf.Keeper{Certificates: make([]conf.Certificate, c.certificates)}}
		for i := range plan.Keeper.Certificates {
			plan.Keeper.Certificates[i].Internal = c.internal
		}
		if c.wrong == "open files" && limit.Max > 28_000 {
			c.wrong = ""
		}
		mistakes := checkDescriptors(plan)
		if len(mistakes) > 1 || (len(mistakes) == 0) != (c.wrong == "") || c.wrong != "" && (!strings.Contains(mistakes[0].What, c.wrong) || mistakes[0].Hint == "") {
			t.Errorf("%d: %v, want %q", c.certificates, mistakes, c.wrong)
		}
	}
}
