package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A watch is a house whose site has its certificate by links, as certbot makes them.
type watch struct {
	*scene
	h       *house
	version int
	name    string // of the files that the links lead to
	serial  string // of the certificate that is to be served
}

func newWatch(t *testing.T) *watch {
	needRoot(t)
	w := &watch{scene: newScene(t)}
	w.must(os.Mkdir(w.path("live"), 0o755))
	w.next()
	w.write("sallyport.toml", strings.NewReplacer("shop.pem", "live/shop.pem", "shop.key", "live/shop.key").Replace(six))
	w.app("gunicorn-sync")
	w.h = w.start()
	return w
}

// next makes another certificate, and has the links lead to it.
func (w *watch) next() {
	w.t.Helper()
	w.version++
	w.name = fmt.Sprintf("archive%d", w.version)
	var cert, key string
	cert, key, w.serial = w.pair(-time.Hour, time.Hour)
	w.put(w.name, cert, key, 0, keeperGroup, 0o640)
	w.link("../"+w.name+".pem", "live/shop.pem")
	w.link("../"+w.name+".key", "live/shop.key")
}

func (w *watch) link(target, name string) {
	w.t.Helper()
	w.must(os.Symlink(target, w.path(name+".new")))
	w.must(os.Rename(w.path(name+".new"), w.path(name)))
}

// served is whether the site has the certificate that it is to have.
func (w *watch) served() bool {
	leaf := served(w.h, "shop.test")
	return leaf != nil && leaf.SerialNumber.String() == w.serial
}

// renewed holds that the next certificate is taken.
func (w *watch) renewed(after string) {
	w.t.Helper()
	w.next()
	await(w.t, "the certificate after "+after, w.served)
}

// refused holds that what is put is refused, if it says so, and the old one is served on.
func (w *watch) refused(what, says string, put func()) {
	w.t.Helper()
	before := len(w.h.find("certificate not renewed"))
	put()
	if says != "" {
		await(w.t, "a refusal of "+what, func() bool {
			return len(w.h.find("certificate not renewed")) > before && w.h.says(says)
		})
	}
	if !w.served() {
		w.t.Errorf("%s: another certificate is served", what)
	}
}

// Whatever takes the place of a file that is watched, no process stalls or dies of it, the
// old certificate is served on, and the next good one is taken.
func TestWatchedFilesOddly(t *testing.T) {
	w := newWatch(t)
	keeper := named(t, "sallyport-keeper").pid
	w.renewed("links that were swapped")
	for _, c := range []struct {
		what, says string
		put        func(path string)
	}{
		{"a fifo", "is no regular file", func(path string) { w.must(syscall.Mkfifo(path, 0o640)) }},
		{"a folder", "is no regular file", func(path string) { w.must(os.Mkdir(path, 0o750)) }},
		{"a device", "is no regular file", func(path string) { w.must(syscall.Mknod(path, syscall.S_IFCHR|0o640, 1<<8|5)) }}, // /dev/zero
		{"a terabyte", "at most 1048576 are read", func(path string) {
			w.must(os.WriteFile(path, nil, 0o640))
			w.must(os.Truncate(path, 1<<40))
		}},
		{"a link to itself", "", func(path string) { w.must(os.Symlink(path, path)) }},
	} {
		odd := w.path("odd")
		w.must(os.RemoveAll(odd))
		c.put(odd)
		w.must(os.Lchown(odd, 0, keeperGroup))
		w.refused(c.what, c.says, func() { w.link("../odd", "live/shop.key") })
		w.renewed(c.what)
	}
	// Rights that are loosened, and mended, without a byte written.
	w.refused("a loose mode", "open to everybody (mode 0666)", func() { w.must(os.Chmod(w.path(w.name+".key"), 0o666)) })
	w.must(os.Chmod(w.path(w.name+".key"), 0o640))
	w.renewed("a loose mode")
	if got := named(t, "sallyport-keeper").pid; got != keeper {
		t.Errorf("the keeper was started again: %d, then %d", keeper, got)
	}
}

// The keeper dies again and again while files change and the service reloads.
func TestWatchedFilesAndDeaths(t *testing.T) {
	w := newWatch(t)
	for generation := 2; generation < 4; generation++ {
		w.next()
		w.must(syscall.Kill(named(t, "sallyport-keeper").pid, syscall.SIGKILL))
		w.reread(generation)
		w.must(syscall.Kill(named(t, "sallyport-keeper").pid, syscall.SIGKILL))
		await(t, "the certificate after deaths of the keeper", w.served)
		w.renewed("deaths of the keeper")
	}
}
