package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An appServer is an app server of Debian with one of the apps in apps, and what it
// can do. That not all of them can do everything is what a proxy has to live with.
type appServer struct {
	kind     string
	packages string   // of Debian
	command  []string // listens on {socket}
	serve    []string // for `sallyport serve --`, which says where to listen; nil: it cannot be given a socket
	can      traits
}

// traits are what an app server does with a connection.
type traits uint

const (
	keeps      traits = 1 << iota // its connection after an answer
	streams                       // an answer while the app makes it
	webSockets                    // speaks them
)

// servers lists every app server that the end-to-end tests know. The kinds
// without a framework in their name run the plain app of their language.
func servers() []appServer {
	return []appServer{
		{
			"gunicorn-sync", "gunicorn",
			[]string{"gunicorn", "-k", "sync", "-w", "2", "-b", "unix:{socket}", "wsgi:app"},
			[]string{"gunicorn", "-k", "sync", "-w", "2", "wsgi:app"},
			streams,
		},
		{
			"gunicorn-gthread", "gunicorn",
			[]string{"gunicorn", "-k", "gthread", "--threads", "4", "-b", "unix:{socket}", "wsgi:app"},
			[]string{"gunicorn", "-k", "gthread", "--threads", "4", "wsgi:app"},
			keeps | streams,
		},
		{
			"gunicorn-flask", "gunicorn python3-flask",
			[]string{"gunicorn", "-b", "unix:{socket}", "flaskapp:app"},
			[]string{"gunicorn", "flaskapp:app"},
			streams,
		},
		{
			"gunicorn-django", "gunicorn python3-django",
			[]string{"gunicorn", "--threads", "4", "-b", "unix:{socket}", "djangoapp:app"},
			[]string{"gunicorn", "--threads", "4", "djangoapp:app"},
			keeps | streams,
		},
		{
			"gunicorn-uvicorn", "gunicorn uvicorn python3-websockets",
			[]string{"gunicorn", "-k", "uvicorn.workers.UvicornWorker", "-b", "unix:{socket}", "asgi:app"},
			[]string{"gunicorn", "-k", "uvicorn.workers.UvicornWorker", "asgi:app"},
			keeps | streams | webSockets,
		},
		{
			"uvicorn", "uvicorn python3-websockets",
			[]string{"uvicorn", "--no-access-log", "--uds", "{socket}", "asgi:app"},
			[]string{"uvicorn", "--no-access-log", "asgi:app"},
			keeps | streams | webSockets,
		},
		{
			"hypercorn", "python3-hypercorn",
			[]string{"hypercorn", "-b", "unix:{socket}", "asgi:app"},
			[]string{"hypercorn", "asgi:app"},
			keeps | streams | webSockets,
		},
		{
			"daphne", "python3-daphne",
			[]string{"python3", "-m", "daphne", "-u", "{socket}", "asgi:app"},
			[]string{"python3", "-m", "daphne", "-e", "systemd:domain=UNIX:index=0", "asgi:app"},
			keeps | streams | webSockets,
		},
		{
			"unicorn", "unicorn",
			[]string{"unicorn", "-E", "production", "-c", "unicorn.rb", "-l", "{socket}", "config.ru"},
			[]string{"unicorn", "-E", "production", "config.ru"},
			streams,
		},
		{
			"puma", "puma",
			[]string{"puma", "-q", "-e", "production", "-t", "1:4", "-b", "unix://{socket}", "config.ru"},
			[]string{"puma", "-q", "-e", "production", "-t", "1:4", "config.ru"},
			keeps | streams,
		},
		{
			"puma-cluster", "puma ruby-sinatra",
			[]string{"puma", "-q", "-e", "production", "-w", "2", "-b", "unix://{socket}", "sinatra.ru"},
			[]string{"puma", "-q", "-e", "production", "-w", "2", "sinatra.ru"},
			keeps | streams,
		},
		{
			"thin", "thin",
			[]string{"thin", "-e", "production", "-S", "{socket}", "-R", "config.ru", "start"},
			nil,
			keeps,
		},
		{
			"passenger", "passenger",
			[]string{
				"passenger", "start", "--socket", "{socket}", "--engine", "builtin", "--app-type", "rack",
				"--startup-file", "config.ru", "--no-install-runtime",
			},
			nil,
			keeps | streams,
		},
		{
			"node", "nodejs",
			[]string{"node", "server.js", "{socket}"},
			[]string{"node", "server.js", "{fd}"},
			keeps | streams | webSockets,
		},
	}
}

// grpcServer is no web server, and so in no list.
func grpcServer() appServer {
	return appServer{kind: "grpc", packages: "python3-grpcio", command: []string{"python3", "grpcapp.py", "{socket}"}}
}

// serverOf finds a server by its kind.
func serverOf(t *testing.T, kind string) appServer {
	t.Helper()
	for _, v := range append(servers(), grpcServer()) {
		if v.kind == kind {
			return v
		}
	}
	t.Fatalf("no app server is called %q", kind)
	return appServer{}
}

// A way is how somebody comes to have sallyport in front of an app. It skips
// the test of a server that cannot be started so.
type way struct {
	name  string
	start func(*scene, appServer) *house
}

func ways() []way {
	return []way{
		{"run", behindRun},
		{"serve", behindServe},
		{"serve command", startedByServe},
	}
}

// behindRun is for an app that somebody else has started.
func behindRun(s *scene, v appServer) *house {
	s.app(v.kind)
	s.write("sallyport.toml", fmt.Sprintf(plain, "127.0.0.1:0"))
	return s.start()
}

// behindServe is the same without a file.
func behindServe(s *scene, v appServer) *house {
	s.app(v.kind)
	return s.begin(exec.Command(bin("sallyport"), "serve", "--listen", "127.0.0.1:0", "unix:"+s.path("app/app.sock")))
}

// startedByServe leaves the start to sallyport too.
func startedByServe(s *scene, v appServer) *house {
	if v.serve == nil {
		s.t.Skipf("%s cannot be given a socket", v.kind)
	}
	v.installed(s.t)
	s.folder()
	here := []string{"-c", `cd app; exec sallyport serve --listen 127.0.0.1:0 -- "$@"`, "sh"}
	h := s.begin(exec.Command("/bin/sh", append(here, v.serve...)...))
	if i := slices.Index(v.serve, "-w"); v.serve[0] == "gunicorn" && i > 0 {
		// A worker that boots while gunicorn (20.1) is told to end hears nothing of it, and is
		// waited for 30 s.
		workers, err := strconv.Atoi(v.serve[i+1])
		s.must(err)
		await(s.t, "all workers", func() bool { return h.mentions("Worker ready") >= workers })
	}
	return h
}

// TestServers asks of every app server what people ask of one, in every way of
// starting it.
func TestServers(t *testing.T) {
	for _, v := range servers() {
		t.Run(v.kind, func(t *testing.T) {
			for _, w := range ways() {
				t.Run(w.name, func(t *testing.T) {
					s := newScene(t)
					h := w.start(s, v)
					s.asks(t, h, v.can)
				})
			}
		})
	}
}

func (s *scene) asks(t *testing.T, h *house, can traits) {
	for _, path := range []string{"/", "/?name=value"} {
		body := s.answered("http://shop.test" + path)
		_, query, _ := strings.Cut(path, "?")
		if got, _ := member(body, "query"); got != query {
			t.Errorf("GET %s: %s", path, body)
		}
	}
	s.posts(t)
	// An app's habits are not the client's business: its connection is kept.
	const get = "http://shop.test/"
	if out := s.answered("-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", get, get); out != "1 0 " {
		t.Errorf("connections made for the first and the second request: %s", out)
	}
	if can&streams != 0 {
		s.streams(t, "http")
	} else {
		s.release("late")
		if got := s.answered("http://shop.test/stream?name=late"); got != "one\ntwo\nthree\n" {
			t.Errorf("GET /stream: %q", got)
		}
	}
	if can&webSockets != 0 {
		conn, err := net.Dial("tcp", h.http)
		s.must(err)
		defer conn.Close()
		s.must(conn.SetDeadline(time.Now().Add(patience)))
		echoFrames(t, conn, "shop.test")
	}
	if _, err := os.Stat(s.path("app/app.sock")); err == nil {
		if kept := s.kept(); kept != (can&keeps != 0) {
			t.Errorf("the app server keeps its connections: %v", kept)
		}
	}
}

// posts sends 1 MiB with its length and in chunks. Not every app server can read chunks
// (Django loses them, thin and passenger hand on the framing): they have a length by then.
func (s *scene) posts(t *testing.T) {
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = byte(i ^ i>>8)
	}
	s.must(os.WriteFile(s.path("1MiB"), body, 0o644))
	sum := sha256.Sum256(body)
	want := fmt.Sprint(1<<20, " ", hex.EncodeToString(sum[:]))
	echo := func(framing ...string) string {
		answer := s.answered(append(framing, "-H", "Content-Type: application/octet-stream", "--data-binary", "@1MiB", "http://shop.test/echo")...)
		length, _ := member(answer, "length")
		sum, _ := member(answer, "sha256")
		return length + " " + sum
	}
	if got := echo(); got != want {
		t.Errorf("POST: the app got %s, want %s", got, want)
	}
	if got := echo("-H", "Transfer-Encoding: chunked", "-H", "Expect:"); got != want {
		t.Errorf("POST in chunks: the app got %s, want %s", got, want)
	}
}

// kept says whether the app server, asked directly, answers twice on one
// connection. The app reads the request to its end: hypercorn closes otherwise.
func (s *scene) kept() bool {
	s.t.Helper()
	conn, err := net.Dial("unix", s.path("app/app.sock"))
	s.must(err)
	defer conn.Close()
	s.must(conn.SetDeadline(time.Now().Add(patience)))
	answers := bufio.NewReader(conn)
	for i := range 2 {
		// It may be closed already, which the answer tells.
		_, _ = fmt.Fprint(conn, "POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello")
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			if i == 0 {
				s.t.Fatal(err)
			}
			return false
		}
		_, err = io.Copy(io.Discard, answer.Body)
		s.must(err)
	}
	return true
}
