package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// TestStream shows that the first piece of an answer reaches the client before
// the app has made the last one: the app waits for the client's word.
func TestStream(t *testing.T) {
	for _, kind := range []string{"gunicorn-sync", "gunicorn-gthread", "node", "uvicorn", "unicorn", "puma"} {
		t.Run(kind, func(t *testing.T) {
			s := newScene(t)
			s.shop(kind)
			for _, scheme := range []string{"http", "https"} {
				t.Run(scheme, func(t *testing.T) { s.streams(t, scheme) })
			}
		})
	}
}

func (s *scene) streams(t *testing.T, scheme string) {
	curl := s.curl("--no-buffer", fmt.Sprintf("%s://shop.test/stream?name=%s", scheme, scheme))
	stdout, err := curl.StdoutPipe()
	s.must(err)
	s.must(curl.Start())
	body := bufio.NewReader(stdout)
	if first, err := body.ReadString('\n'); first != "one\n" {
		t.Fatalf("first piece: %q, %v", first, err)
	}
	s.release(scheme)
	rest, err := io.ReadAll(body)
	if string(rest) != "two\nthree\n" {
		t.Errorf("the rest: %q, %v", rest, err)
	}
	if err := curl.Wait(); err != nil {
		t.Error("curl:", err)
	}
}

// TestUpgrade sends bytes through a tunnel that node opened with a 101, both
// ways, and sees each end's close at the other.
func TestUpgrade(t *testing.T) {
	s := newScene(t)
	h := s.shop("node")
	for scheme, dial := range map[string]func() (net.Conn, error){
		"http":  func() (net.Conn, error) { return net.Dial("tcp", h.http) },
		"https": func() (net.Conn, error) { return tls.Dial("tcp", h.https, s.client("shop.test")) },
	} {
		t.Run(scheme, func(t *testing.T) {
			conn, err := dial()
			s.must(err)
			defer conn.Close()
			s.must(conn.SetDeadline(time.Now().Add(patience)))
			tunnel(t, conn)
		})
	}
	h.wait(t, "request answered", "status=101", "target=/live")
}

func tunnel(t *testing.T, conn net.Conn) {
	// The first bytes of the tunnel travel with the head.
	_, err := fmt.Fprint(conn, "GET /live HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly\n")
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); line != "HTTP/1.1 101 Switching Protocols\r\n" {
		t.Fatalf("answer: %q, %v", line, err)
	}
	for line := ""; line != "\r\n"; {
		if line, err = answers.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := answers.ReadString('\n'); line != "early\n" {
		t.Fatalf("bytes that came with the head: %q, %v", line, err)
	}
	for i := range 100 {
		want := fmt.Sprintf("ping %d\x00\r\n", i)
		fmt.Fprint(conn, want)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(answers, got); err != nil || string(got) != want {
			t.Fatalf("echo of %q: %q, %v", want, got, err)
		}
	}
	half, is := conn.(interface{ CloseWrite() error })
	if !is {
		t.Fatalf("%T cannot be half closed", conn)
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(answers); len(rest) != 0 || err != nil {
		t.Errorf("after the end of the tunnel: %q, %v", rest, err)
	}
}
