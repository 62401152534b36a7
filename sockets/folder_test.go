package sockets

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func keptFolder(t *testing.T) (*Folder, string) {
	t.Helper()
	path := t.TempDir()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	f, err := OpenFolder(fd, path)
	if err != nil {
		t.Fatal(err)
	}
	return f, path
}

func TestFolder(t *testing.T) {
	f, path := keptFolder(t)
	if _, err := f.Read("a"); !errors.Is(err, fs.ErrNotExist) || f.Has("a") {
		t.Errorf("nothing there: got %v, %v", err, f.Has("a"))
	}
	for _, content := range []string{"one", "", strings.Repeat("x", fileBytesMost)} {
		if err := f.Write("a", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Read("a"); err != nil || string(got) != content || !f.Has("a") {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	stat, err := os.Stat(filepath.Join(path, "a"))
	if err != nil || stat.Mode() != 0o600 {
		t.Errorf("mode %v, %v", stat.Mode(), err)
	}
	if err := f.Write("b", nil); err != nil {
		t.Fatal(err)
	}
	names, err := f.Names()
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("got %q, %v", names, err)
	}
	for range 2 {
		if err := f.Remove("a"); err != nil || f.Has("a") {
			t.Errorf("removed: %v", err)
		}
	}
}

func TestFolderRefusesWhatIsNotOurs(t *testing.T) {
	f, path := keptFolder(t)
	at := func(name string) string { return filepath.Join(path, name) }
	for _, err := range []error{
		os.WriteFile(at("loose"), nil, 0o640),
		os.Mkdir(at("folder"), 0o700),
		os.Symlink("/etc/passwd", at("link")),
		unix.Mkfifo(at("pipe"), 0o600),
		os.WriteFile(at("twice"), nil, 0o600),
		os.Link(at("twice"), at("again")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(at("loose"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"loose", "folder", "link", "pipe", "twice", "again"} {
		if _, err := f.Read(name); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), at(name)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "../x", ".hidden", "a.new", strings.Repeat("x", 251)} {
		_, err := f.Read(name)
		if !errors.Is(err, unix.EINVAL) || f.Write(name, nil) == nil || f.Remove(name) == nil || f.Has(name) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

// What a predecessor was writing when it was killed is nobody's.
func TestFolderForgetsDrafts(t *testing.T) {
	f, path := keptFolder(t)
	if err := f.Write("a", []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "1.new"), []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := OpenFolder(f.fd, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Write("b", nil); err != nil {
		t.Errorf("the draft is in the way: %v", err)
	}
	found, err := os.ReadDir(path)
	if err != nil || len(found) != 2 {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestFileName(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		"", ".", "..", "a", "A", "a/b", "a,b", "a%2cb", "a%b", "x.new", "acme/ca.test-dir/users/a@b.c/private.key", "\x00", "ä",
		strings.Repeat("x", 250), strings.Repeat("x", 251), strings.Repeat("y", 251), "*.a", "[::1]",
	} {
		name := FileName(text)
		if err := checkName(name); err != nil {
			t.Errorf("%q: %q is no name", text, name)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("%q and %q are both %q", text, other, name)
		}
		seen[name] = text
	}
}
