package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A regular is a client of one listener that keeps its connection as long
// as it may: it connects anew only when it was told Connection: close. Whatever else
// happens to a request is a loss.
type regular struct {
	dial    func() (net.Conn, error)
	conn    net.Conn // nil: none
	answers *bufio.Reader
	dialled int
	closing bool // the last answer said so
}

// regularOf makes a client that has not connected yet.
func (s *scene) regularOf(h *house, scheme string) *regular {
	if scheme == "http" {
		return &regular{dial: func() (net.Conn, error) { return net.Dial("tcp", h.http) }}
	}
	client := s.client("shop.test")
	return &regular{dial: func() (net.Conn, error) { return tls.Dial("tcp", h.https, client) }}
}

// ask makes one request. It fails when the answer is not whole.
func (r *regular) ask() (err error) {
	if r.conn == nil {
		if r.conn, err = r.dial(); err != nil {
			r.conn = nil // and no *tls.Conn that is nil
			return fmt.Errorf("connect: %w", err)
		}
		r.answers = bufio.NewReader(r.conn)
		r.dialled++
	}
	if err := r.conn.SetDeadline(time.Now().Add(clientMax)); err != nil {
		return err
	}
	if _, err := io.WriteString(r.conn, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	answer, err := http.ReadResponse(r.answers, nil)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answer: %s, %w", answer.Status, err)
	}
	if r.closing = answer.Close; r.closing {
		if rest, err := io.ReadAll(r.answers); err != nil || len(rest) > 0 {
			return fmt.Errorf("after Connection: close: %q, %w", rest, err)
		}
		r.leave()
	}
	return nil
}

func (r *regular) leave() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// A crowd is regulars who ask without a pause.
type crowd struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	asked atomic.Int64

	mu   sync.Mutex
	lost []error
}

// crowdOn puts regulars to work on both listeners of a house.
func (s *scene) crowdOn(h *house) *crowd {
	ctx, stop := context.WithTimeout(s.t.Context(), loadMax)
	c := &crowd{stop: stop}
	for _, scheme := range []string{"http", "https", "http", "https"} {
		c.done.Add(1)
		go c.askLoop(ctx, s.regularOf(h, scheme))
	}
	return c
}

// askLoop ends with its context.
func (c *crowd) askLoop(ctx context.Context, r *regular) {
	defer c.done.Done()
	defer r.leave()
	for ctx.Err() == nil {
		if err := r.ask(); err != nil {
			c.mu.Lock()
			c.lost = append(c.lost, err)
			c.mu.Unlock()
			r.leave()
		}
		c.asked.Add(1)
	}
}

// more waits until the crowd has asked n times more.
func (c *crowd) more(t *testing.T, n int64) {
	t.Helper()
	enough := c.asked.Load() + n
	await(t, "more requests", func() bool { return c.asked.Load() >= enough })
}

// reload asks for new cores, in one of the two ways.
func (s *scene) reload(h *house, generation int) {
	s.t.Helper()
	if generation%2 == 0 {
		out, code := s.shell("sallyport reload -c sallyport.toml")
		if code != 0 || !strings.HasPrefix(out, fmt.Sprintf("reloaded: generation %d, core", generation)) {
			s.t.Fatalf("reload: exit code %d, %s", code, out)
		}
		return
	}
	h.signal(syscall.SIGHUP)
	h.wait(s.t, "reloaded", fmt.Sprintf("generation=%d", generation))
}

// TestReloadUnderLoad shows that 20 reloads lose no request, plain or TLS, and cut no
// connection that was not told so: not even one that was idle all the time.
func TestReloadUnderLoad(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) { reloadUnderLoad(t, workers) })
	}
}

// reloadable is a house before an app, with more in its file: a control socket
// that whoever runs the test can have, and the keys of the caller.
func reloadable(t *testing.T, more, app string) (*scene, *house) {
	t.Helper()
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test")
	s.write("sallyport.toml", "control = \"control.sock\"\n"+more+"\n"+six)
	s.app(app)
	return s, s.start()
}

func reloadUnderLoad(t *testing.T, workers int) {
	s, h := reloadable(t, fmt.Sprintf("workers = %d", workers), "gunicorn-gthread")
	var idle []*regular
	for _, scheme := range []string{"http", "https", "http", "https"} {
		r := s.regularOf(h, scheme)
		s.must(r.ask())
		idle = append(idle, r)
	}
	c := s.crowdOn(h)
	const reloads = 20
	for generation := 2; generation < 2+reloads; generation++ {
		c.more(t, 50)
		s.reload(h, generation)
		if generation != 4 { // with three that drain, the next would cost the first its patience
			continue
		}
		for _, r := range idle {
			if err := r.ask(); err != nil || !r.closing || r.dialled != 1 {
				t.Errorf("an idle connection after three reloads: %v, told to close: %v", err, r.closing)
			}
		}
	}
	c.more(t, 50)
	c.stop()
	c.done.Wait()
	t.Logf("%d reloads under %d requests: %d lost", reloads, c.asked.Load(), len(c.lost))
	for _, err := range c.lost {
		t.Error(err)
	}
	await(t, "the end of the old cores", func() bool {
		cores := slices.DeleteFunc(ours(), func(p process) bool { return p.name != "sallyport-core" })
		return len(cores) == workers
	})
}

// downloadTime is how long the download of TestReloadKeeps takes; SALLYPORT_DOWNLOAD
// says otherwise, as "60s".
const downloadTime = 10 * time.Second

// downloadOf is how long it is to take.
func downloadOf(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SALLYPORT_DOWNLOAD")
	if text == "" {
		return downloadTime
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return long
}

// TestReloadKeeps shows that WebSockets and a long download survive three reloads.
func TestReloadKeeps(t *testing.T) {
	long := downloadOf(t)
	s, h := reloadable(t, `drain = { requests = "3m" }`, "uvicorn")
	drops := int(long / (100 * time.Millisecond))
	var guests []*guest
	var downloads []chan error
	for _, scheme := range []string{"http", "https"} {
		guests = append(guests, s.webSocket(h, scheme))
		body := s.download(h, scheme, drops)
		done := make(chan error, 1)
		go func() { done <- body.takes(drops) }()
		downloads = append(downloads, done)
	}
	for generation := 2; generation < 5; generation++ {
		s.reload(h, generation)
		for _, g := range guests {
			g.echo(t)
		}
	}
	chat := time.NewTicker(time.Second)
	defer chat.Stop()
	for len(downloads) > 0 {
		select {
		case err := <-downloads[0]:
			if downloads = downloads[1:]; err != nil {
				t.Error(err)
			}
		case <-chat.C:
			for _, g := range guests {
				g.echo(t)
			}
		}
	}
	for _, g := range guests {
		g.echo(t)
		g.conn.Close()
	}
	named(t, "sallyport-core") // the others are gone
}

// A body is an answer that has begun.
type body struct {
	conn net.Conn
	io.Reader
}

// download asks for an answer that takes a tenth of a second for each drop, and reads
// its head.
func (s *scene) download(h *house, scheme string, drops int) body {
	s.t.Helper()
	conn, err := s.regularOf(h, scheme).dial()
	s.must(err)
	s.t.Cleanup(func() { conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /drip?drops=%d HTTP/1.1\r\nHost: shop.test\r\n\r\n", drops)
	s.must(err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	s.must(err)
	return body{conn, answer.Body}
}

// takes reads all drops, each a line, and leaves.
func (b body) takes(drops int) error {
	defer b.conn.Close()
	lines := bufio.NewScanner(b)
	n := 0
	for ; lines.Scan(); n++ {
		if lines.Text() != fmt.Sprint(n) {
			return fmt.Errorf("drop %d is %q", n, lines.Text())
		}
	}
	if lines.Err() != nil || n != drops {
		return fmt.Errorf("%d drops of %d, %w", n, drops, lines.Err())
	}
	return nil
}

// A guest is an open WebSocket.
type guest struct {
	conn   net.Conn
	frames *bufio.Reader
}

// webSocket opens one at a listener of a house.
func (s *scene) webSocket(h *house, scheme string) *guest {
	s.t.Helper()
	conn, err := s.regularOf(h, scheme).dial()
	s.must(err)
	s.t.Cleanup(func() { conn.Close() })
	return &guest{conn, handshake(s.t, conn, "shop.test")}
}

// echo says something and hears it.
func (g *guest) echo(t *testing.T) {
	t.Helper()
	if err := g.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	writeFrame(t, g.conn, textFrame, "hello")
	opcode, got := readFrame(t, g.frames)
	for ; opcode == pingFrame; opcode, got = readFrame(t, g.frames) {
		writeFrame(t, g.conn, pongFrame, got) // or uvicorn gives us up after 20 s
	}
	if opcode != textFrame || got != "hello" {
		t.Fatalf("echo: opcode %d, %q", opcode, got)
	}
}

// ended waits for the end of the connection.
func (g *guest) ended(t *testing.T) {
	t.Helper()
	if err := g.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, g.frames); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a WebSocket lives on")
	}
}

// TestDrainLimits shows the two limits of a core that was replaced: WebSockets outlive
// drain.requests, and drain.upgrades ends them; idle connections end with the first, at
// the boundary of a request.
func TestDrainLimits(t *testing.T) {
	t.Run("requests", func(t *testing.T) {
		s, h := reloadable(t, `drain = { requests = "200ms", upgrades = "1m" }`, "uvicorn")
		g, r := s.webSocket(h, "https"), s.regularOf(h, "https")
		s.must(r.ask())
		long := s.download(h, "http", 100)
		s.reload(h, 2)
		if n, err := r.conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("the idle connection reads %d bytes, %v", n, err)
		}
		if err := long.takes(100); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the download was not cut: %v", err)
		}
		h.wait(t, "exchanges cut")
		g.echo(t)
		g.conn.Close()
		named(t, "sallyport-core")
	})
	t.Run("upgrades", func(t *testing.T) {
		s, h := reloadable(t, `drain = { requests = "1m", upgrades = "200ms" }`, "uvicorn")
		g, r := s.webSocket(h, "https"), s.regularOf(h, "https")
		s.must(r.ask())
		s.reload(h, 2)
		h.wait(t, "upgraded connections cut")
		g.ended(t)
		if err := r.ask(); err != nil || !r.closing {
			t.Errorf("the idle connection: %v, told to close: %v", err, r.closing)
		}
		named(t, "sallyport-core")
	})
}

// TestReloadInVain shows that the old core serves on where no new one can be had.
func TestReloadInVain(t *testing.T) {
	s, h := reloadable(t, "", "gunicorn-gthread")
	core, program := named(t, "sallyport-core"), filepath.Join(os.Getenv(binEnv), "sallyport-core")
	c := s.crowdOn(h)
	s.must(os.Chmod(program, 0o644))
	defer os.Chmod(program, 0o755)
	c.more(t, 20)
	out, code := s.shell("sallyport reload -c sallyport.toml")
	if code != 1 || !strings.Contains(out, "not reloaded: a new core, pid ") || !strings.Contains(out, "generation 1 serves on") {
		t.Errorf("exit code %d, %s", code, out)
	}
	c.more(t, 20)
	if still := named(t, "sallyport-core"); still != core {
		t.Errorf("%v serves, want %v", still, core)
	}
	s.must(os.Chmod(program, 0o755))
	s.reload(h, 3)
	c.more(t, 20)
	c.stop()
	c.done.Wait()
	for _, err := range c.lost {
		t.Error(err)
	}
}

// TestKillGenerations shows what a death in each generation costs: what was in flight
// in that core. The death of the main process leaves nothing of any of them.
func TestKillGenerations(t *testing.T) {
	s, h := reloadable(t, `drain = { requests = "1m" }`, "uvicorn")
	guests := []*guest{s.webSocket(h, "https")}
	cores := []process{named(t, "sallyport-core")}
	for generation := 2; generation < 4; generation++ {
		s.reload(h, generation)
		await(t, "another core", func() bool {
			for _, p := range ours() {
				if p.name == "sallyport-core" && !slices.Contains(cores, p) {
					cores = append(cores, p)
					return true
				}
			}
			return false
		})
		old := cores[len(cores)-2] // else it may welcome one more guest
		await(t, "the old core's doors to close", func() bool { return !listens(t, old.pid) })
		if !listens(t, cores[len(cores)-1].pid) {
			t.Error("the new core has no door")
		}
		guests = append(guests, s.webSocket(h, "https"))
	}
	for i := range cores[:2] { // the one in force is the last
		cores[i].kill()
		guests[i].ended(t)
		for _, g := range guests[i+1:] {
			g.echo(t)
		}
	}
	cores[2].kill()
	guests[2].ended(t)
	s.answered("https://shop.test/") // by its successor, who has a link of its own
	s.reload(h, 4)
	keeper := named(t, "sallyport-keeper")
	keeper.kill()
	await(t, "another keeper", func() bool { return named(t, "sallyport-keeper") != keeper })
	s.answered("https://shop.test/") // the successor has the links of all
	s.webSocket(h, "https")
	s.reload(h, 5)
	h.signal(syscall.SIGKILL)
	await(t, "the end of all processes", func() bool { return len(ours()) == 0 })
	await(t, "the port to refuse", func() bool { return refused(h.https) }) // what has no program any more may still have descriptors
}

// listens says whether a process has a socket that listens to TCP over IPv4.
func listens(t *testing.T, pid int) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	const state, inode, listening = 3, 9, "0A" // proc_pid_net(5)
	doors := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		if words := strings.Fields(line); words[state] == listening {
			doors["socket:["+words[inode]+"]"] = true
		}
	}
	folder := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) { // it has ended
		t.Fatal(err)
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		to, _ := os.Readlink(folder + e.Name())
		return doors[to]
	})
}
