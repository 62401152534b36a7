package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// twoWorkers is a file for an app server with two workers, each of which has one request at
// a time. What a slot is held by is then seen by who has to wait.
const twoWorkers = `workers = 1
listen = { http = ["127.0.0.1:0"], https = [] }
[[site]]
host = "shop.test"
app = "shop"
[app.shop]
socket = "unix:{dir}/app/app.sock"
max_inflight = 2
queue = { len = 1000, time = "10s" }
`

// A slowClient is a connection with a request on it that takes its time.
type slowClient struct {
	net.Conn
	r *bufio.Reader
}

// slowly opens so many connections, and says the same on each.
func (s *scene) slowly(address string, count int, say string) []slowClient {
	s.t.Helper()
	clients := make([]slowClient, count)
	for i := range clients {
		conn, err := net.Dial("tcp", address)
		s.must(err)
		s.t.Cleanup(func() { conn.Close() })
		s.must(conn.SetDeadline(time.Now().Add(6 * patience)))
		_, err = io.WriteString(conn, say)
		s.must(err)
		clients[i] = slowClient{conn, bufio.NewReader(conn)}
	}
	return clients
}

// answer reads a whole answer.
func (c *slowClient) answer() (status int, body string, err error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// atApp is how many connections an app has, by the kernel's table (proc_pid_net(5), unix):
// those that are connected, under the name of the socket that they were accepted from.
func atApp(t *testing.T, socket string) (count int) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		words := strings.Fields(line)
		if len(words) == 8 && words[5] == "03" && words[7] == socket {
			count++
		}
	}
	return count
}

// quick makes requests one after the other, all of which have to succeed.
func quick(t *testing.T, address string, count int) {
	t.Helper()
	for i := range count {
		if status, _ := get(address, ""); status != 200 {
			t.Fatalf("request %d of a client that is not slow: %d", i+1, status)
		}
	}
}

// TestSlowUploads lets 200 clients trickle 10 KiB each, in both framings, to an app server
// with two workers. Another client has all its answers before one of them is done; then
// each of them is answered.
func TestSlowUploads(t *testing.T) {
	const slow, size, piece = 200, 10 << 10, 40
	s := newScene(t)
	s.app("gunicorn-sync")
	s.write("sallyport.toml", twoWorkers)
	h := s.start()
	body := strings.Repeat("0123456789", size/10)
	framings := []string{fmt.Sprintf("Content-Length: %d\r\n\r\n", size), "Transfer-Encoding: chunked\r\n\r\n"}
	var clients []slowClient
	for _, framing := range framings {
		clients = append(clients, s.slowly(h.http, slow/2, "POST /echo HTTP/1.1\r\nHost: shop.test\r\n"+framing)...)
	}
	trickle := func(i, from, to int) {
		text := body[from:to]
		if i >= slow/2 {
			text = fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
		}
		_, err := io.WriteString(clients[i], text)
		s.must(err)
	}
	sent := 0
	for range 20 { // 5 quick requests for each piece of all slow ones
		for i := range clients {
			trickle(i, sent, sent+piece)
		}
		sent += piece
		quick(t, h.http, 5)
		if n := atApp(t, s.path("app/app.sock")); n > 2 {
			t.Errorf("%d requests at the app", n)
		}
	}
	if n := len(h.find("request answered", "method=POST")); n > 0 {
		t.Fatalf("%d slow requests are answered", n)
	}
	before := time.Now()
	for i := range clients {
		trickle(i, sent, size)
		if i >= slow/2 {
			_, err := io.WriteString(clients[i], "0\r\n\r\n")
			s.must(err)
		}
	}
	for i := range clients {
		status, answer, err := clients[i].answer()
		if length, _ := member(answer, "length"); status != 200 || length != strconv.Itoa(size) || err != nil {
			t.Errorf("slow request %d: %d %v %s", i, status, err, answer)
		}
	}
	for _, l := range h.find("request answered", "method=POST", "queue_ms=*") {
		if queued, err := number(l, "queue_ms"); err != nil || queued > float64(time.Since(before).Milliseconds()+1) {
			t.Errorf("queue_ms is %v, and the uploads were not over %v ago: %v", queued, time.Since(before), err)
		}
	}
}

// number is a fact that is one.
func number(l line, fact string) (float64, error) {
	return strconv.ParseFloat(fmt.Sprint(l.facts[fact]), 64)
}

// TestSlowReaders lets clients not read an answer of 10 MiB, of an app server with two
// workers. Others are answered; then each has all of it.
func TestSlowReaders(t *testing.T) {
	const slow, mib = 60, 10
	s := newScene(t)
	s.app("gunicorn-sync")
	s.write("sallyport.toml", control+"spool = { memory = \"1GiB\", per_app = \"100%\" }\n"+twoWorkers)
	h := s.start()
	clients := s.slowly(h.http, slow, fmt.Sprintf("GET /large?mib=%d HTTP/1.1\r\nHost: shop.test\r\n\r\n", mib))
	quick(t, h.http, 100) // behind 60 answers that nobody reads
	await(t, "the app to be rid of all", func() bool { return atApp(t, s.path("app/app.sock")) == 0 })
	if n := len(h.find("request answered", "target=/large*")); n > 0 {
		t.Fatalf("%d of the answers were read", n)
	}
	if r := s.shopStatus(); r.Drained != slow || r.Clogged != 0 {
		t.Errorf("%+v", r)
	}
	for i := range clients {
		status, body, err := clients[i].answer()
		if status != 200 || len(body) != mib<<20 || err != nil {
			t.Fatalf("slow client %d: %d, %d bytes, %v", i, status, len(body), err)
		}
		for at := range mib {
			if line := fmt.Sprintf("%015d\n", at); body[at<<20:at<<20+16] != line || body[(at+1)<<20-16:(at+1)<<20] != line {
				t.Fatalf("slow client %d: not what the app sent, at %d MiB", i, at)
			}
		}
	}
}

// TestQueueClockOfUploads: an app without anything to do reports no queue, however long the
// body took.
func TestQueueClockOfUploads(t *testing.T) {
	s := newScene(t)
	s.app("gunicorn-sync")
	s.write("sallyport.toml", twoWorkers)
	h := s.start()
	body := bytes.Repeat([]byte("x"), 1_000_000)
	c := s.slowly(h.http, 1, fmt.Sprintf("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n", len(body)))[0]
	beat := time.NewTicker(10 * time.Millisecond)
	defer beat.Stop()
	for from := 0; from < len(body)-10000; from += 10000 {
		_, err := c.Write(body[:10000])
		s.must(err)
		<-beat.C
	}
	last := time.Now()
	_, err := c.Write(body[:10000])
	s.must(err)
	_, answer, err := c.answer()
	s.must(err)
	start, _ := member(answer, "fields.x-request-start")
	if at, err := strconv.ParseInt(strings.TrimPrefix(start, "t="), 10, 64); err != nil || at < last.UnixMilli() {
		t.Errorf("X-Request-Start: %s, and the last piece was sent after %d", start, last.UnixMilli())
	}
	l := h.wait(t, "request answered", "method=POST", "status=200")
	if body, err := number(l, "body_ms"); err != nil || body < 900 || l.facts["queue_ms"] != nil {
		t.Errorf("%v", l.facts)
	}
}

// TestEvents: a stream of events comes event by event, whatever it is called, and also if
// the app writes to its connection itself.
func TestEvents(t *testing.T) {
	for _, c := range [][2]string{
		{"uvicorn", "/events"}, {"uvicorn", "/stream"}, {"puma", "/events"}, {"puma", "/hijack"}, {"puma", "/seized"},
	} {
		t.Run(c[0]+c[1], func(t *testing.T) {
			s := newScene(t)
			s.shop(c[0])
			curl := s.curl("--no-buffer", "http://shop.test"+c[1]+"?name=events")
			stdout, err := curl.StdoutPipe()
			s.must(err)
			s.must(curl.Start())
			lines := bufio.NewReader(stdout)
			if line, err := lines.ReadString('\n'); line != "one\n" {
				t.Fatalf("first event: %q, %v", line, err)
			}
			s.release("events")
			if rest, err := io.ReadAll(lines); string(rest) != "two\nthree\n" {
				t.Errorf("the rest: %q, %v", rest, err)
			}
			s.must(curl.Wait())
		})
	}
}

// spooled is how many bytes are in the files in which bodies wait, and how many files there
// are: descriptors of the main process (memfd_create(2) and open(2) with O_TMPFILE give
// them names that say so).
func (h *house) spooled() (bytes int64, files int) {
	h.t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd/", h.cmd.Process.Pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, entry := range entries {
		name, err := os.Readlink(folder + entry.Name())
		if err != nil || !strings.HasSuffix(name, " (deleted)") || !strings.Contains(name, "spool") {
			continue
		}
		info, err := os.Stat(folder + entry.Name())
		if err != nil {
			h.t.Fatal(err)
		}
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		files++
	}
	return bytes, files
}

// TestSpoolOfDeadCore kills a core in the middle of 50 uploads: nothing of them is left,
// in memory or in a folder, no slot is lost, and others are served.
func TestSpoolOfDeadCore(t *testing.T) {
	needRoot(t)
	for name, spool := range map[string]string{
		"memory": "spool = { memory = \"64MiB\", per_app = \"100%\" }\n",
		"folder": "spool = { folder = \"{dir}/spool\", disk = \"64MiB\", per_app = \"100%\" }\n",
	} {
		t.Run(name, func(t *testing.T) {
			const uploads, size = 50, 300_000
			s := newScene(t)
			s.must(os.Mkdir(s.path("spool"), 0o700))
			s.app("gunicorn-sync")
			s.write("sallyport.toml", spool+twoWorkers)
			h := s.start()
			nothing := func() {
				t.Helper()
				if entries, err := os.ReadDir(s.path("spool")); len(entries) > 0 || err != nil {
					t.Errorf("in the folder: %v, %v", entries, err)
				}
			}
			upload := fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n", size) + strings.Repeat("x", size-1)
			clients := s.slowly(h.http, uploads, upload)
			await(t, "the bodies in the spool", func() bool {
				bytes, _ := h.spooled()
				return bytes >= uploads*(size-64<<10)
			})
			nothing()
			victim := named(t, "sallyport-core")
			victim.kill()
			for i := range clients {
				if status, _, err := clients[i].answer(); err == nil {
					t.Fatalf("upload %d: %d", i, status)
				}
			}
			await(t, "a successor", func() bool { return named(t, "sallyport-core") != victim })
			await(t, "an empty spool", func() bool { bytes, files := h.spooled(); return bytes == 0 && files > 0 })
			nothing()
			quick(t, h.http, 20)
			if n := atApp(t, s.path("app/app.sock")); n > 1 {
				t.Errorf("%d requests at the app", n)
			}
		})
	}
}

// TestSpoolRefused: a folder that cannot be used is a mistake, with a fix.
func TestSpoolRefused(t *testing.T) {
	s := newScene(t)
	s.write("sallyport.toml", "spool = { folder = \"{dir}/absent\" }\n"+twoWorkers)
	out, code := s.shell("sallyport run -c sallyport.toml")
	for _, want := range []string{"sallyport.toml:1: spool.folder: ", "no such file or directory", "hint: make the folder: mkdir -m 0700 " + s.path("absent")} {
		if !strings.Contains(out, want) || code != 1 {
			t.Errorf("exit code %d without %q:\n%s", code, want, out)
		}
	}
}

// TestReadOnly: bodies wait where nothing can be written, and no file appears.
func TestReadOnly(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.app("gunicorn-sync")
	s.write("sallyport.toml", twoWorkers)
	const house = `mount -o remount,bind,ro / && ! touch sallyport.toml && exec sallyport run -c sallyport.toml`
	h := s.begin(exec.Command("/usr/bin/unshare", "--mount", "/bin/sh", "-c", house))
	const size = 20 << 20
	reader := s.slowly(h.http, 2, "GET /large?mib=20 HTTP/1.1\r\nHost: shop.test\r\n\r\n")
	upload := s.slowly(h.http, 1, fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n", size)+strings.Repeat("x", size-1))[0]
	quick(t, h.http, 20)
	_, err := io.WriteString(upload, "x")
	s.must(err)
	status, answer, err := upload.answer()
	if length, _ := member(answer, "length"); status != 200 || length != strconv.Itoa(size) || err != nil {
		t.Errorf("%d %v %s", status, err, answer)
	}
	var reading sync.WaitGroup
	for i := range reader {
		reading.Go(func() {
			if status, body, err := reader[i].answer(); status != 200 || len(body) != size || err != nil {
				t.Errorf("%d, %d bytes, %v", status, len(body), err)
			}
		})
	}
	reading.Wait()
}
