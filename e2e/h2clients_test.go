package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// h2Shop is a shop that takes HTTP/2 in clear text too.
func (s *scene) h2Shop(kind string) *house {
	s.t.Helper()
	s.certificate("shop", p256(s.t), "shop.test", "127.0.0.1")
	s.write("sallyport.toml", strings.NewReplacer("listen = {", "listen = { h2c = true,", `"shop.test"`, `["shop.test", "*"]`).Replace(six))
	s.app(kind)
	return s.start()
}

// tool is a program that a test cannot do without, from Debian or from the place where Go
// installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	folder, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(strings.TrimSpace(string(folder)), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: there is no %s; run e2e/prepare", name)
	}
	return path
}

// TestH2spec has h2spec ask what it knows to ask. In clear text, the one that begins with
// something else than the preface is HTTP/1 to an address that speaks both, and gets its 400.
func TestH2spec(t *testing.T) {
	h2spec := tool(t, "h2spec")
	s := newScene(t)
	h := s.h2Shop("node")
	for name, run := range map[string]struct {
		args []string
		want string
	}{
		"tls":   {[]string{"-t", "-k", "-h", host(h.https), "-p", port(h.https)}, "145 tests, 145 passed, 0 skipped, 0 failed"},
		"clear": {[]string{"-h", host(h.http), "-p", port(h.http)}, "145 tests, 144 passed, 0 skipped, 1 failed"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.Command(h2spec, append(run.args, "-o", "5")...).CombinedOutput()
			if !strings.Contains(string(out), run.want) {
				t.Errorf("%v: want %q in\n%s", err, run.want, out)
			}
			if failed := strings.Count(string(out), "×") / 2; name == "clear" && (failed != 1 || !strings.Contains(string(out), "× 2: Sends invalid connection preface")) {
				t.Errorf("other failures than that one:\n%s", out)
			}
		})
	}
}

func host(address string) string { h, _, _ := net.SplitHostPort(address); return h }
func port(address string) string { _, p, _ := net.SplitHostPort(address); return p }

// TestH2Clients lets curl, nghttp and h2load ask.
func TestH2Clients(t *testing.T) {
	s := newScene(t)
	h := s.h2Shop("node")
	s.big()
	sum, err := os.ReadFile(s.path("10MiB.sha256"))
	s.must(err)
	said := fmt.Sprintf(`{"length":%d,"sha256":"%s"}`, 10<<20, sum)
	for _, ask := range []struct{ name, tool, line, want string }{
		{"curl", "curl", `curl --http2 -w '%{http_version} %{http_code}' https://shop.test/a`, `"path":"/a".*2 200$`},
		{"curl, in clear text", "curl", `curl --http2-prior-knowledge -w '%{http_version} %{http_code}' http://shop.test/a`, `"path":"/a".*2 200$`},
		{"curl, HTTP/1.1 beside it", "curl", `curl --http1.1 -w '%{http_version} %{http_code}' http://shop.test/a`, `"path":"/a".*1.1 200$`},
		{"curl, an upload", "curl", `curl --http2 --data-binary @10MiB https://shop.test/echo`, regexp.QuoteMeta(said)},
		{"curl, an upload of no length", "curl", `curl --http2 -H 'Content-Length:' -T - https://shop.test/echo < 10MiB`, regexp.QuoteMeta(said)},
		{"curl, an expectation", "curl", `curl --http2 -H 'Expect: 100-continue' --data-binary @10MiB https://shop.test/echo`, regexp.QuoteMeta(said)},
		{"curl, HEAD", "curl", `curl --http2 -I https://shop.test/a`, `(?s)HTTP/2 200.*content-length: `},
		{"nghttp", "nghttp", `nghttp -nv http://` + h.http + `/a`, `(?s):status: 200.*END_STREAM`},
		{"nghttp, 50 at once", "nghttp", `nghttp -ns -m 50 https://` + h.https + `/a --no-verify-peer`, `(?m)^ +\d+ .* 200 .*/a`},
		{"h2load", "h2load", `h2load -n 2000 -c 8 -m 32 https://` + h.https + `/a`, `2000 succeeded, 0 failed, 0 errored`},
		{"h2load, in clear text", "h2load", `h2load -n 2000 -c 8 -m 32 http://` + h.http + `/a`, `2000 succeeded, 0 failed, 0 errored`},
		{"h2load, uploads", "h2load", `h2load -n 40 -c 4 -m 5 -d 10MiB https://` + h.https + `/echo`, `40 succeeded, 0 failed, 0 errored`},
	} {
		t.Run(ask.name, func(t *testing.T) {
			tool(t, ask.tool)
			if out, code := s.shell(ask.line); code != 0 || !regexp.MustCompile(ask.want).MatchString(out) {
				t.Errorf("%s\nexit %d, want %s in\n%s", ask.line, code, ask.want, out)
			}
		})
	}
}

// goClient is Go's own client, which has to speak HTTP/2.
func (s *scene) goClient(h *house) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		TLSClientConfig: s.client("shop.test"), Protocols: protocols,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, h.https)
		},
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * patience}
}

// TestH2Go has Go's client ask a hundred things at once, on one connection.
func TestH2Go(t *testing.T) {
	s := newScene(t)
	h := s.h2Shop("node")
	client := s.goClient(h)
	body := strings.Repeat("0123456789", 10000)
	sum := sha256.Sum256([]byte(body))
	want := fmt.Sprintf(`{"length":%d,"sha256":"%s"}`, len(body), hex.EncodeToString(sum[:]))
	var asking sync.WaitGroup
	for range 100 {
		asking.Go(func() {
			resp, err := client.Post("https://shop.test/echo", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want || resp.ProtoMajor != 2 {
				t.Errorf("%s %q: %v", resp.Proto, got, err)
			}
		})
	}
	asking.Wait()
	if !until(patience, func() bool { return len(h.find("request answered", "protocol=HTTP/2")) == 100 }) {
		t.Errorf("%d lines in the log", len(h.find("request answered", "protocol=HTTP/2")))
	}
}

// TestH2Reload: reloads lose no stream. The clients send bodies, which nobody would send a
// second time, and go on as GOAWAY tells them (RFC 9113, section 6.8).
func TestH2Reload(t *testing.T) {
	s := newScene(t)
	h := s.h2Shop("gunicorn-gthread")
	ctx, stop := context.WithTimeout(t.Context(), loadMax)
	defer stop()
	var asking sync.WaitGroup
	var asked, lost atomic.Int64
	for range 2 {
		client := s.goClient(h)
		for range 4 { // streams of one connection
			asking.Go(func() {
				for ctx.Err() == nil {
					if err := postOnceOnly(client, "https://shop.test/echo"); err != nil {
						t.Error(err)
						lost.Add(1)
					}
					asked.Add(1)
				}
			})
		}
	}
	const reloads = 8
	for generation := 2; generation < 2+reloads; generation++ {
		enough := asked.Load() + 50
		await(t, "more requests", func() bool { return asked.Load() >= enough })
		s.reload(h, generation)
	}
	stop()
	asking.Wait()
	t.Logf("%d requests, %d lost by %d reloads", asked.Load(), lost.Load(), reloads)
	if n := len(h.find("request answered", "protocol=HTTP/1.1")); n != 0 {
		t.Errorf("%d requests came by HTTP/1.1", n)
	}
}

// A onceBody is a body that its client may not send again.
type onceBody struct {
	io.Reader
	sent bool
}

func (b *onceBody) Read(p []byte) (int, error) {
	b.sent = true
	return b.Reader.Read(p)
}

// postOnceOnly fails when the client had to say again what it had said: a stream was lost,
// and Go's client hides that if it can.
func postOnceOnly(client *http.Client, target string) error {
	body := &onceBody{Reader: strings.NewReader("a body")}
	req, err := http.NewRequest("POST", target, body)
	if err != nil {
		return err
	}
	req.GetBody = func() (io.ReadCloser, error) {
		if body.sent {
			return nil, errors.New("a stream was lost")
		}
		return io.NopCloser(body), nil
	}
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 {
		return fmt.Errorf("%s %s: %w", answer.Status, text, err)
	}
	return nil
}

// TestH2WebSocket opens a WebSocket by an extended CONNECT (RFC 8441), to an app that speaks
// HTTP/1.1 and knows nothing of it.
func TestH2WebSocket(t *testing.T) {
	s := newScene(t)
	h := s.h2Shop("node")
	conn, err := tls.Dial("tcp", h.https, &tls.Config{RootCAs: s.client("shop.test").RootCAs, ServerName: "shop.test", NextProtos: []string{"h2"}})
	s.must(err)
	defer conn.Close()
	s.must(conn.SetDeadline(time.Now().Add(patience)))
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Fatalf("ALPN chose %q", got)
	}
	tunnel := openH2Tunnel(t, conn, "/ws")
	for _, text := range []string{"hello", strings.Repeat("a longer one, ", 2000)} {
		writeFrame(t, tunnel, textFrame, text)
		if opcode, got := readFrame(t, tunnel); opcode != textFrame || got != text {
			t.Fatalf("echo of %.20q: opcode %d, %.20q", text, opcode, got)
		}
	}
}

// An h2Tunnel is the stream of an extended CONNECT.
type h2Tunnel struct {
	talk *h2Talk
}

func openH2Tunnel(t *testing.T, conn net.Conn, path string) *h2Tunnel {
	t.Helper()
	talk, err := talkH2(conn, patience)
	if err != nil {
		t.Fatal(err)
	}
	head := h2Step{isHead: true, kind: 1, flags: 4, stream: 1, padding: -1, priority: -1, fields: []string{
		":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: shop.test", ":path: " + path, "sec-websocket-version: 13",
	}}
	if _, err := talk.Write(newH2Coder().bytes(&head, strings.Clone)); err != nil {
		t.Fatal(err)
	}
	err = talk.await(patience, func() bool { return talk.streams[1] != nil && talk.streams[1].status != "" })
	if err != nil || talk.streams[1].status != "200" {
		t.Fatalf("%+v: %v", talk.streams[1], err)
	}
	return &h2Tunnel{talk: talk}
}

// Write is io.Writer.
func (c *h2Tunnel) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 16384)
		if _, err := c.talk.Write(h2Frame(0, 0, 1, rest[:n])); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// Read is io.Reader.
func (c *h2Tunnel) Read(p []byte) (int, error) {
	said := c.talk.streams[1]
	if err := c.talk.await(patience, func() bool { return said.body != "" || said.over || said.reset }); err != nil {
		return 0, err
	}
	if said.body == "" {
		return 0, io.EOF
	}
	n := copy(p, said.body)
	said.body = said.body[n:]
	return n, nil
}

// browse has Chromium load a page of a house until that reports, by a request, what came of it. end has the
// browser end before its test.
func (s *scene) browse(h *house, page string, more ...string) (end func()) {
	s.t.Helper()
	browser := exec.CommandContext(s.t.Context(), tool(s.t, "chromium"), slices.Concat([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
		"--user-data-dir=" + s.path("browser"), "--host-resolver-rules=MAP shop.test 127.0.0.1",
	}, more, []string{page})...)
	browser.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	browser.Cancel = func() error { return syscall.Kill(-browser.Process.Pid, syscall.SIGKILL) }
	browser.WaitDelay = patience
	said := new(strings.Builder)
	browser.Stdout, browser.Stderr = said, said
	s.must(browser.Start())
	end = func() { _ = browser.Cancel() }
	s.t.Cleanup(func() {
		end()
		_ = browser.Wait() // it was killed
		if s.t.Failed() {
			s.t.Log(said)
		}
	})
	if !until(6*patience, func() bool { return len(h.find("request answered", "target=/report*")) > 0 }) {
		s.t.Fatal("the browser reports nothing")
	}
	return end
}

// TestH2Browser has Chromium load a page of 200 things, send 10 MiB, read a streamed answer and open a WebSocket, all on one
// connection of HTTP/2.
func TestH2Browser(t *testing.T) {
	s := newScene(t)
	h := s.h2Shop("node")
	end := s.browse(h, "https://shop.test:"+port(h.https)+"/page")
	const want = "/report?ok=200&h2=200&ws=hello&sent=10485760&came=one-two-three"
	if len(h.find("request answered", "target="+want)) != 1 {
		t.Errorf("the browser reports %v, want %s", h.find("request answered", "target=/report*"), want)
	}
	end()
	if !until(patience, func() bool {
		return len(h.find("request answered", "target=/ws", "protocol=HTTP/2", "status=101")) == 1
	}) {
		t.Error("no WebSocket over HTTP/2 in the log")
	}
}
