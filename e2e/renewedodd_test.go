package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whatever takes the place of a file that is watched, no process stalls or dies of it, the
// old certificate is served on, and the next good one is taken. Links are followed, as those of certbot are
// swapped.
func TestWatchedFilesOddly(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.must(os.Mkdir(s.path("live"), 0o755))
	version := 0
	// next makes the files of another certificate, without having anything lead to them.
	next := func() (name, serial string) {
		version++
		name = "archive" + string(rune('a'+version))
		cert, key, serial := s.pair(-time.Hour, time.Hour)
		s.put(name, cert, key, 0, keeperGroup, 0o640)
		return name, serial
	}
	link := func(target, name string) {
		s.must(os.Symlink(target, s.path(name+".new")))
		s.must(os.Rename(s.path(name+".new"), s.path(name)))
	}
	swap := func(name string) {
		link("../"+name+".pem", "live/shop.pem")
		link("../"+name+".key", "live/shop.key")
	}
	name, serial := next()
	swap(name)
	s.write("sallyport.toml", strings.NewReplacer("shop.pem", "live/shop.pem", "shop.key", "live/shop.key").Replace(six))
	s.app("gunicorn-sync")
	h := s.start()
	keeper := named(t, "sallyport-keeper").pid
	serves := func() string {
		if leaf := served(h, "shop.test"); leaf != nil {
			return leaf.SerialNumber.String()
		}
		return "nothing"
	}
	renewed := func(how string) {
		t.Helper()
		name, serial = next()
		swap(name)
		await(t, "the certificate after "+how, func() bool { return serves() == serial })
	}
	renewed("links that were swapped")
	for _, c := range []struct {
		what, says string
		put        func(path string)
	}{
		{"a fifo", "is no regular file", func(path string) { s.must(syscall.Mkfifo(path, 0o640)) }},
		{"a folder", "is no regular file", func(path string) { s.must(os.Mkdir(path, 0o750)) }},
		{"a socket's neighbour: a device", "is no regular file", func(path string) { s.must(syscall.Mknod(path, syscall.S_IFCHR|0o640, 1<<8|5)) }}, // /dev/zero
		{"a terabyte", "at most 1048576 are read", func(path string) {
			s.must(os.WriteFile(path, nil, 0o640))
			s.must(os.Truncate(path, 1<<40))
		}},
		{"a link to itself", "", func(path string) { s.must(os.Symlink(path, path)) }},
	} {
		odd := s.path("odd")
		s.must(os.RemoveAll(odd))
		c.put(odd)
		_ = os.Lchown(odd, 0, keeperGroup)
		before := len(h.find("certificate not renewed"))
		link("../odd", "live/shop.key")
		if c.says != "" {
			await(t, c.what+" is refused", func() bool {
				return len(h.find("certificate not renewed")) > before && h.says(c.says)
			})
		}
		if got := serves(); got != serial {
			t.Errorf("%s: serves %s, want %s", c.what, got, serial)
		}
		renewed(c.what)
	}
	// Rights that are loosened, and mended, without a byte written.
	before := len(h.find("certificate not renewed"))
	s.must(os.Chmod(s.path(name+".key"), 0o666))
	await(t, "a refusal of a loose mode", func() bool {
		return len(h.find("certificate not renewed")) > before && h.says("open to everybody (mode 0666)")
	})
	s.must(os.Chmod(s.path(name+".key"), 0o640))
	renewed("a loose mode")
	if got := named(t, "sallyport-keeper").pid; got != keeper {
		t.Errorf("the keeper was started again: %d, then %d", keeper, got)
	}
	// The keeper dies again and again while files change and the service reloads.
	for generation := 2; generation < 4; generation++ {
		name, serial = next()
		swap(name)
		s.must(syscall.Kill(named(t, "sallyport-keeper").pid, syscall.SIGKILL))
		s.reread(generation)
		s.must(syscall.Kill(named(t, "sallyport-keeper").pid, syscall.SIGKILL))
		await(t, "the certificate after deaths of the keeper", func() bool { return serves() == serial })
		renewed("deaths of the keeper")
	}
}
