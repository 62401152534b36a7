package keeper

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// A shelf is what boot gives for the internal CA, to one keeper after the other.
type shelf struct {
	secretPath, rootPath string // "" in memory
	secret, root         int
}

// shelved is the shelf of a first start.
func shelved(t *testing.T) *shelf {
	t.Helper()
	return shelvedWith(t, nil, nil)
}

// shelvedWith is a shelf in a folder, with something on it.
func shelvedWith(t *testing.T, secret, root []byte) *shelf {
	t.Helper()
	folder := t.TempDir()
	s := &shelf{secretPath: filepath.Join(folder, "internal-ca.secret"), rootPath: filepath.Join(folder, "root.pem")}
	s.secret = written(t, s.secretPath, secret, 0o600)
	s.root = written(t, s.rootPath, root, 0o644)
	return s
}

// inMemory is a shelf without a folder. Whatever its owner and rights are, nobody
// can open it.
func inMemory(t *testing.T) *shelf {
	t.Helper()
	memory := func(name string) int {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	return &shelf{secret: memory("secret"), root: memory("root")}
}

// written makes a file and opens it as boot does.
func written(t *testing.T, path string, text []byte, mode os.FileMode) int {
	t.Helper()
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// rootText is what the root file holds.
func (s *shelf) rootText(t *testing.T) []byte {
	t.Helper()
	text, err := readFile(s.root)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// putRoot puts something else into the root file.
func (s *shelf) putRoot(t *testing.T, text []byte) {
	t.Helper()
	if err := os.WriteFile(s.rootPath, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// digest is the beginning of a hash, as text.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:4])
}

func TestSecretIsMadeOnce(t *testing.T) {
	for name, s := range map[string]*shelf{"folder": shelved(t), "memory": inMemory(t)} {
		s.mustLoad(t)
		first, err := readFile(s.secret)
		if err != nil || len(first) != secretBytes || bytes.Equal(first, make([]byte, secretBytes)) {
			t.Fatalf("%s: got %x, %v", name, first, err)
		}
		s.mustLoad(t)
		if second, err := readFile(s.secret); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: then got %x, %v", name, second, err)
		}
	}
}

func TestWrongShelves(t *testing.T) {
	const another = "that makes another CA, which clients have to trust anew"
	good := bytes.Repeat([]byte{7}, secretBytes)
	chmod := func(path func(*shelf) string, mode os.FileMode) func(*testing.T, *shelf) {
		return func(t *testing.T, s *shelf) {
			if err := os.Chmod(path(s), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	secretOf, rootOf := func(s *shelf) string { return s.secretPath }, func(s *shelf) string { return s.rootPath }
	readOnly := func(t *testing.T, s *shelf) {
		fd, err := unix.Open(s.rootPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		s.root = fd
	}
	for name, c := range map[string]struct {
		secret     []byte
		spoil      func(*testing.T, *shelf)
		what, hint string // parts of the message
	}{
		"31 bytes":              {good[1:], nil, "internal-ca.secret: holds 31 bytes, and the secret of the internal CA has 32", another},
		"33 bytes":              {append(good[:32:32], 7), nil, "holds 33 bytes", another},
		"a key":                 {pkcs8(t, keys()["P-256"]), nil, " bytes, and the secret", "take it from a backup, or: rm /"},
		"zeros":                 {make([]byte, secretBytes), nil, "holds zeros instead of the secret", another},
		"readable":              {good, chmod(secretOf, 0o640), "internal-ca.secret: is open to others (mode 0640)", "chmod 600 /"},
		"readable by everybody": {nil, chmod(secretOf, 0o604), "is open to others (mode 0604)", "chmod 600 /"},
		"writable root":         {good, chmod(rootOf, 0o664), "root.pem: is open to others (mode 0664)", "chmod 644 /"},
		"root not to be written": {
			good, readOnly, "root.pem: cannot be written: ", "",
		},
		"no descriptor": {good, func(_ *testing.T, s *shelf) { s.secret = -1 }, "cannot be read: ", ""},
		"a socket": {good, func(t *testing.T, s *shelf) {
			s.secretPath = ""
			s.secret, _ = linked(t)
		}, "in memory: is not a regular file", ""},
	} {
		s := shelvedWith(t, c.secret, nil)
		if c.spoil != nil {
			c.spoil(t, s)
		}
		store, _, err := s.load(t)
		var mistake conf.Mistake
		if store != nil || !errors.As(err, &mistake) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if mistake.Key != "state" || mistake.Line != 1 || !strings.Contains(mistake.What, c.what) || !strings.Contains(mistake.Hint, c.hint) {
			t.Errorf("%s: got %v", name, mistake)
		}
		if strings.Count(err.Error(), "sallyport.toml") != 1 {
			t.Errorf("%s: said more than once:\n%v", name, err)
		}
		if kept, err := os.ReadFile(filepath.Join(filepath.Dir(s.rootPath), "internal-ca.secret")); err != nil || !bytes.Equal(kept, c.secret) {
			t.Errorf("%s: the secret was changed", name)
		}
	}
}

// What is no file of the keeper's alone is not touched, and no command is named that
// would change its owner or rights: it may be a link to a file of root's.
func TestFilesThatAreNotTheKeepers(t *testing.T) {
	good := bytes.Repeat([]byte{7}, secretBytes)
	linkedTwice := shelvedWith(t, good, nil)
	if err := os.Link(linkedTwice.secretPath, linkedTwice.secretPath+".too"); err != nil {
		t.Fatal(err)
	}
	folder := shelvedWith(t, good, nil)
	fd, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	folder.secret = fd
	for what, s := range map[string]*shelf{"is a file with 2 names": linkedTwice, "is not a regular file": folder} {
		_, _, err := s.load(t)
		var mistake conf.Mistake
		if !errors.As(err, &mistake) || !strings.Contains(mistake.What, what) ||
			!strings.Contains(mistake.Hint, "remove it or move it elsewhere") || strings.Contains(mistake.Hint, "chown") || strings.Contains(mistake.Hint, "chmod") {
			t.Errorf("%s: got %v", what, err)
		}
		if kept, err := os.ReadFile(s.secretPath); err != nil || !bytes.Equal(kept, good) {
			t.Errorf("%s: the secret was changed", what)
		}
	}
}

func TestSecretOfAnotherUser(t *testing.T) {
	s := shelved(t)
	f := keptSecret(s.secret, s.secretPath)
	f.owner++
	_, flaw := f.secret()
	// root must not be told to give away what may be a link to a file of his own.
	if strings.Contains(flaw.hint, "chown") || !strings.Contains(flaw.hint, "remove it or move it") || !strings.Contains(flaw.what, "belongs to uid ") {
		t.Errorf("got %+v", flaw)
	}
}

// A full disk leaves the file as it was before the first start.
func TestSecretThatCannotBeWritten(t *testing.T) {
	s := shelved(t)
	fd, err := unix.Open("/dev/full", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	defer unix.Close(fd)
	if err := writeFile(fd, []byte("secret")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: got %v", err)
	}
	readOnly, err := unix.Open(s.secretPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(readOnly)
	if secret, flaw := keptSecret(readOnly, s.secretPath).secret(); flaw.what == "" {
		t.Errorf("a secret that is not kept is used: %x", secret)
	}
}
