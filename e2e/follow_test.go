package e2e

import (
	"crypto/tls"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This file is sallyport reload with a file that has changed: what comes in without a
// dropped connection, and what goes.

// follows reloads, and returns what was opened, in the order of the file.
func (s *scene) follows(generation int) (opened []string) {
	s.t.Helper()
	out, code := s.shell("sallyport reload -c sallyport.toml")
	if code != 0 || !strings.Contains(out, fmt.Sprintf("reloaded: generation %d, core", generation)) {
		s.t.Fatalf("reload: exit code %d, %s", code, out)
	}
	for line := range strings.Lines(out) {
		if _, address, found := strings.Cut(line, " on "); found && strings.HasPrefix(line, "opened: ") {
			opened = append(opened, strings.TrimSpace(address))
		}
	}
	await(s.t, "the old cores' doors to close", func() bool { // for a moment they accept beside the new ones
		return !slices.ContainsFunc(ours(), func(p process) bool {
			return p.name == "sallyport-core" && !strings.Contains(out, fmt.Sprint(p.pid)) && listens(s.t, p.pid)
		})
	})
	return opened
}

// shown is the serial number of the certificate that a new client is shown for a name; nil
// if there is none.
func (s *scene) shown(address, name string) *big.Int {
	s.t.Helper()
	conn, err := tls.Dial("tcp", address, s.client(name))
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber
}

// without is a text of sallyport.toml with a part less.
func without(t *testing.T, text, part string) string {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatalf("%q is not in %s", part, text)
	}
	return strings.ReplaceAll(text, part, "")
}

// A witness is connections that live through everything a test does.
type witness struct {
	guests []*guest
	idle   []*regular
}

// witnesses are a WebSocket and a connection that was used once, on both listeners.
func (s *scene) witnesses(h *house) (w witness) {
	s.t.Helper()
	for _, scheme := range []string{"http", "https"} {
		r := s.regularOf(h, scheme)
		s.must(r.ask())
		w.guests, w.idle = append(w.guests, s.webSocket(h, scheme)), append(w.idle, r)
	}
	return w
}

// see shows that the WebSockets are open. last: that the idle connections were too.
func (w witness) see(t *testing.T, last bool) {
	t.Helper()
	for _, g := range w.guests {
		g.echo(t)
	}
	for _, r := range w.idle {
		if !last {
			continue
		}
		if err := r.ask(); err != nil || r.dialled != 1 {
			t.Errorf("the idle connection: %v", err)
		}
	}
}

// TestReloadFollows brings in, under load, a new port, a new app in a new folder with a
// new site, and a renewed key that only root may read; then it takes the port, the site and
// its certificate away. No request is lost and no connection dropped.
func TestReloadFollows(t *testing.T) {
	for who, uid := range map[string]int{"root": 0, "user": plainUser()} {
		t.Run(who, func(t *testing.T) {
			if who == "root" {
				needRoot(t)
			}
			s := newSceneFor(t, uid)
			s.certificate("shop", p256(t), "shop.test")
			text := "control = \"control.sock\"\ndrain = { requests = \"1m\" }\n" + six
			s.write("sallyport.toml", text)
			s.app("uvicorn")
			s.followChanges(s.start(), text)
		})
	}
}

func (s *scene) followChanges(h *house, text string) {
	t := s.t
	w, c := s.witnesses(h), s.crowdOn(h)
	c.more(t, 50)

	first := s.shown(h.https, "shop.test")
	s.certificate("shop", p256(t), "shop.test") // files of 0600, which belong to who reloads
	if opened := s.follows(2); opened != nil {
		t.Errorf("opened: %q", opened)
	}
	if s.shown(h.https, "shop.test").Cmp(first) == 0 {
		t.Error("the old certificate is shown")
	}
	w.see(t, true) // a third generation is told to close them
	c.more(t, 50)

	port := strings.Replace(text, `"127.0.0.1:0"]`, `"127.0.0.1:0", "127.0.0.1:0"]`, 1)
	const site = "[[site]]\nhost = \"new.test\"\ntls = { cert = \"new.pem\", key = \"new.key\" }\nredirect = false\napp = \"unix:{dir}/new/app.sock\"\n"
	s.certificate("new", p256(t), "new.test")
	s.must(os.Mkdir(s.path("new"), 0o755))
	if os.Getuid() == 0 {
		s.must(os.Chown(s.path("new"), nobody, nobody))
	}
	s.startAppOn("uvicorn", s.path("new/app.sock"))
	takes(t, s.path("new/app.sock"))
	s.write("sallyport.toml", port+site)
	opened := s.follows(3)
	if len(opened) != 1 {
		t.Fatalf("opened: %q", opened)
	}
	there := &regular{dial: func() (net.Conn, error) { return net.Dial("tcp", opened[0]) }}
	s.must(there.ask())
	s.answered("https://new.test/")
	w.see(t, false)
	c.more(t, 50)

	s.write("sallyport.toml", text)
	s.follows(4)
	await(t, "the port to refuse", func() bool { return refused(opened[0]) })
	await(t, "the site to be unknown", func() bool { return s.shown(h.https, "new.test") == nil })
	if err := there.ask(); err != nil || !there.closing {
		t.Errorf("a connection to a port that is gone: %v, told to close: %v", err, there.closing)
	}
	w.see(t, false)
	c.more(t, 50)
	c.finish(t)

	keeper := named(t, "sallyport-keeper")
	keeper.kill()
	await(t, "another keeper", func() bool { return named(t, "sallyport-keeper") != keeper })
	if got := s.shown(h.https, "shop.test"); got == nil || got.Cmp(first) == 0 {
		t.Error("the next keeper does not know the last table")
	}
	s.follows(5)
	for _, g := range w.guests {
		g.conn.Close()
	}
	named(t, "sallyport-core") // the others are gone
}

// finish ends the crowd, and fails the test for each request that was lost.
func (c *crowd) finish(t *testing.T) {
	t.Helper()
	c.stop()
	c.done.Wait()
	t.Logf("%d requests: %d lost", c.asked.Load(), len(c.lost))
	for _, err := range c.lost {
		t.Error(err)
	}
}

// losses is how many requests were lost so far.
func (c *crowd) losses() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lost)
}

// TestReloadAndKills: 20 reloads, each to another plan, and five deaths of cores between
// them. What a death may cost is what was in flight in that core; reloads cost nothing.
func TestReloadAndKills(t *testing.T) {
	s, h := reloadable(t, "workers = 2\ndrain = { requests = \"20s\" }", "gunicorn-gthread")
	text, err := os.ReadFile(s.path("sallyport.toml"))
	s.must(err)
	c := s.crowdOn(h)
	costs := 0
	for generation := 2; generation < 22; generation++ {
		more := ""
		if generation%2 == 0 { // other apps: another board
			more = fmt.Sprintf("[[site]]\nhost = \"s%d.test\"\ntls = \"off\"\napp = \"unix:{dir}/app/app.sock\"\n[app.more]\nsocket = \"unix:{dir}/none.sock\"\n", generation)
		}
		if generation%3 == 0 {
			s.certificate("shop", p256(t), "shop.test")
		}
		s.write("sallyport.toml", string(text)+more)
		before := c.losses()
		s.follows(generation)
		c.more(t, 30)
		if lost := c.losses() - before; lost > 0 {
			t.Errorf("reload to generation %d lost %d requests: %v", generation, lost, c.lost)
		}
		if generation%4 != 0 {
			continue
		}
		cores := slices.DeleteFunc(ours(), func(p process) bool { return p.name != "sallyport-core" })
		slices.SortFunc(cores, func(a, b process) int { return b.pid - a.pid }) // those in force are the youngest
		before = c.losses()
		cores[0].kill()
		h.wait(t, "process died", fmt.Sprintf("pid=%d", cores[0].pid))
		c.more(t, 30)
		costs += c.losses() - before
	}
	c.stop()
	c.done.Wait()
	t.Logf("20 reloads and 5 kills under %d requests: %d lost by kills", c.asked.Load(), costs)
	if most := 5 * 4; costs > most || len(c.lost) != costs {
		t.Errorf("%d lost, %d of them by kills, which may cost %d: %v", len(c.lost), costs, most, c.lost)
	}
}

// TestReloadKilled kills the reload command at any point of its life: the service is
// whole, with the old plan or the new one, and the next reload is as good as any.
func TestReloadKilled(t *testing.T) {
	s, h := reloadable(t, `drain = { requests = "20s" }`, "gunicorn-gthread")
	content, err := os.ReadFile(s.path("sallyport.toml"))
	s.must(err)
	text := strings.Replace(string(content), `http = ["127.0.0.1:0"]`, `http = ["127.0.0.1:0", "unix:{dir}/doors/more.sock"]`, 1)
	s.must(os.Mkdir(s.path("doors"), 0o777)) // its names are for the core's user to remove
	s.must(os.Chmod(s.path("doors"), 0o777))
	before := descriptors(t)
	c := s.crowdOn(h)
	for i := range 30 {
		s.write("sallyport.toml", []string{text, string(content)}[i%2])
		reload := s.as(exec.Command(bin("sallyport"), "reload", "-c", "sallyport.toml"))
		s.must(reload.Start())
		end := time.AfterFunc(time.Duration(i)*4*time.Millisecond, func() { _ = reload.Process.Kill() })
		_ = reload.Wait() // killed, or done
		end.Stop()
		c.more(t, 5)
	}
	s.write("sallyport.toml", text)
	await(t, "a reload", func() bool {
		_, code := s.shell("sallyport reload -c sallyport.toml")
		return code == 0
	})
	c.more(t, 30)
	c.finish(t)
	more := &regular{dial: func() (net.Conn, error) { return net.Dial("unix", s.path("doors/more.sock")) }}
	s.must(more.ask())
	more.leave()
	s.write("sallyport.toml", string(content))
	if out, code := s.shell("sallyport reload -c sallyport.toml"); code != 0 {
		t.Fatal(out)
	}
	if _, err := os.Lstat(s.path("doors/more.sock")); err == nil {
		t.Error("the socket of a listener that is gone is left")
	}
	named(t, "sallyport-core") // one generation is left
	await(t, "as many descriptors as before", func() bool { return descriptors(t) == before })
}

// descriptors is how many those have who outlive reloads: the wardens, and the keeper.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	for _, p := range ours() {
		if p.name == "sallyport-core" {
			continue
		}
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
		if err != nil && !os.IsPermission(err) { // what is not dumpable only root sees
			t.Fatal(err)
		}
		n += len(entries)
	}
	return n
}

// TestReloadLimits: what is with an app when its limits change, and what waits, is answered
// by the old cores; the new ones go by the new limits, and both are in the status.
func TestReloadLimits(t *testing.T) {
	s := newScene(t)
	g := s.gate()
	text := control + fmt.Sprintf(limited, 1)
	s.write("sallyport.toml", text)
	h := s.start()
	total := turnout{counts: map[int]int{}}
	total.send(h.http, 2+7)
	await(t, "2 at the app", func() bool { return g.in() == 2 })
	await(t, "7 in the queue", func() bool { return s.shopStatus().Queued == 7 })
	s.write("sallyport.toml", strings.Replace(text, "max_inflight = 2", "max_inflight = 3", 1))
	s.follows(2)
	total.send(h.http, 3+5)
	await(t, "2 and 3 at the app", func() bool { return g.in() == 2+3 })
	await(t, "12 in the queues", func() bool { return s.shopStatus().Queued == 7+5 })
	if a := s.shopStatus(); a.MaxInFlight != 3 || a.InFlight != 5 || a.Members[0].InFlight != 5 {
		t.Errorf("with 5 at the app: %+v", a)
	}
	g.answer()
	total.all.Wait()
	await(t, "the end of the old core", func() bool { return coresOf() == 1 })
	if a := s.shopStatus(); total.of(200) != 17 || a.Served != 17 || a.Members[0].Served != 17 || a.InFlight+a.Queued != 0 {
		t.Errorf("%v, %+v", total.counts, a)
	}
	s.follows(3)
	if a := s.shopStatus(); a.Served != 17 {
		t.Errorf("after one more: %+v", a)
	}
}

// TestReloadFirstCertificate: where no keeper was started, none can be had; and where there
// is one, it stays without a certificate.
func TestReloadFirstCertificate(t *testing.T) {
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test")
	s.app("gunicorn-gthread")
	plain := control + strings.NewReplacer(`https = ["127.0.0.1:0"]`, "https = []", `tls = { cert = "shop.pem", key = "shop.key" }`, `tls = "off"`).Replace(six)
	s.write("sallyport.toml", plain)
	h := s.start()
	s.write("sallyport.toml", control+six)
	out, code := s.shell("sallyport reload -c sallyport.toml")
	if code != 1 || !strings.Contains(out, "sallyport.toml:5: site.tls: is the first certificate") || !strings.Contains(out, "needs a restart") {
		t.Errorf("%d, %s", code, out)
	}
	if code := h.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	h = s.start()
	s.write("sallyport.toml", plain)
	s.follows(2)
	await(t, "the port to refuse", func() bool { return refused(h.https) })
	s.answered("http://shop.test/")
	s.write("sallyport.toml", control+six)
	h.https = s.follows(3)[0]
	s.curlrc(h)
	s.answered("https://shop.test/")
}

// TestReloadInternal: the first site that has a certificate of the internal CA brings that
// CA along, which stays the same from then on, also for a next keeper.
func TestReloadInternal(t *testing.T) {
	s, h := reloadable(t, `state = "state"`, "gunicorn-gthread")
	content, err := os.ReadFile(s.path("sallyport.toml"))
	s.must(err)
	text := string(content) + `[[site]]
host = "shop.internal"
redirect = false
app = "unix:{dir}/app/app.sock"
`
	s.write("sallyport.toml", text)
	s.follows(2)
	for generation := 3; ; generation++ {
		s.answered("--cacert", "state/root.pem", "https://shop.internal/")
		if generation == 5 {
			return
		}
		s.follows(generation)
		keeper := named(t, "sallyport-keeper")
		keeper.kill()
		await(t, "another keeper", func() bool { return named(t, "sallyport-keeper") != keeper })
		h.wait(t, "process ready", "process=keeper")
	}
}

// TestReloadsAtOnce: of two reloads at once, neither fails, and the listener that both
// find new is opened once.
func TestReloadsAtOnce(t *testing.T) {
	s, h := reloadable(t, "", "gunicorn-gthread")
	content, err := os.ReadFile(s.path("sallyport.toml"))
	s.must(err)
	c := s.crowdOn(h)
	s.write("sallyport.toml", strings.Replace(string(content), `http = ["127.0.0.1:0"]`, `http = ["127.0.0.1:0", "127.0.0.1:0"]`, 1))
	out, code := s.shell(`sallyport reload -c sallyport.toml >one 2>&1 & one=$!
sallyport reload -c sallyport.toml >two 2>&1; two=$?
wait $one; one=$?; cat one two; exit $((one + two))`)
	if code != 0 || strings.Count(out, "reloaded: generation ") != 2 || strings.Count(out, "opened: ") != 1 {
		t.Errorf("%d, %s", code, out)
	}
	c.more(t, 20)
	c.finish(t)
}

// TestHangUp shows what HUP does without privilege: a pair that was written in place is
// new, one that is a new file is not; and a pair that does not match changes nothing.
func TestHangUp(t *testing.T) {
	s, h := reloadable(t, "", "gunicorn-gthread")
	first, core := s.shown(h.https, "shop.test"), named(t, "sallyport-core")
	s.certificate("shop", p256(t), "shop.test") // the same file, truncated and written
	h.signal(syscall.SIGHUP)
	h.wait(t, "reloaded", "generation=2")
	await(t, "the end of the old core", func() bool { return named(t, "sallyport-core") != core })
	second := s.shown(h.https, "shop.test")
	if second.Cmp(first) == 0 {
		t.Error("the old certificate is shown")
	}
	s.must(os.Rename(s.path("shop.pem"), s.path("old.pem")))
	s.must(os.Rename(s.path("shop.key"), s.path("old.key")))
	s.certificate("shop", p256(t), "shop.test")
	h.signal(syscall.SIGHUP)
	h.wait(t, "reloaded", "generation=3")
	if s.shown(h.https, "shop.test").Cmp(second) != 0 {
		t.Error("a signal has opened a file")
	}
	cert, err := os.ReadFile(s.path("shop.pem"))
	s.must(err)
	s.write("old.pem", string(cert)) // whose key is another
	h.signal(syscall.SIGHUP)
	h.wait(t, "link not adopted")
	until(2*patience, func() bool { return len(h.find("not reloaded", "generation=3")) > 0 })
	h.wait(t, "not reloaded", "generation=3")
	if s.shown(h.https, "shop.test").Cmp(second) != 0 {
		t.Error("another certificate is shown")
	}
	s.follows(5)
	if got := s.shown(h.https, "shop.test"); got.Cmp(first) == 0 || got.Cmp(second) == 0 {
		t.Error("an old certificate is shown")
	}
}

// TestReloadWorkers: there may be more cores, and fewer.
func TestReloadWorkers(t *testing.T) {
	s, h := reloadable(t, "workers = 4\ndrain = { requests = \"20s\" }", "gunicorn-gthread")
	content, err := os.ReadFile(s.path("sallyport.toml"))
	s.must(err)
	c := s.crowdOn(h)
	for i, workers := range []int{3, 2, 4, 1} {
		s.write("sallyport.toml", strings.Replace(string(content), "workers = 4", fmt.Sprint("workers = ", workers), 1))
		s.follows(2 + i)
		c.more(t, 30)
	}
	c.finish(t)
	named(t, "sallyport-core")
	most := max(4, runtime.NumCPU())
	s.write("sallyport.toml", strings.Replace(string(content), "workers = 4", fmt.Sprint("workers = ", most+1), 1))
	out, code := s.shell("sallyport reload -c sallyport.toml")
	if code != 1 || !strings.Contains(out, fmt.Sprintf("workers: is %d, and the service has UDP sockets for %d", most+1, most)) {
		t.Errorf("%d, %s", code, out)
	}
}
