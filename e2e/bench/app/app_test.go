package app

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestTake(t *testing.T) {
	for _, test := range []struct {
		name     string
		reads    []string
		complete bool
		path     string
		last     bool
		err      bool
	}{
		{"at once", []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n"}, true, "/", false, false},
		{"in two", []string{"GET /large HTTP/1.1\r\nHo", "st: a\r\n\r\n"}, true, "/large", false, false},
		{"half", []string{"GET / HTTP/1.1\r\nHost: a\r\n"}, false, "", false, false},
		{"closing", []string{"GET / HTTP/1.1\r\nconnection: Close\r\n\r\n"}, true, "/", true, false},
		{"body", []string{"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab", "cde"}, true, "/", false, false},
		{"half a body", []string{"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"}, false, "/", false, false},
		{"chunked", []string{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"}, false, "/", false, true},
		{"no request", []string{"hello\r\n\r\n"}, false, "", false, true},
		{"no end", []string{strings.Repeat("a", headMax+1)}, false, "", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, complete, err := &conn{}, false, error(nil)
			for _, read := range test.reads {
				complete, err = c.take([]byte(read))
			}
			if complete != test.complete || c.path != test.path || c.last != test.last || (err != nil) != test.err {
				t.Errorf("complete %v, path %q, last %v, %v", complete, c.path, c.last, err)
			}
		})
	}
}

// TestServe asks both kinds of app for a small and a large body on real sockets.
func TestServe(t *testing.T) {
	for _, keep := range []bool{true, false} {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "app.sock")})
		if err != nil {
			t.Fatal(err)
		}
		file, err := listener.File()
		if err != nil {
			t.Fatal(err)
		}
		go func() { t.Error(Serve(file, keep)) }() // until the end of the test process
		path := listener.Addr().String()
		for _, one := range []struct {
			path string
			size int64
		}{{"/", 1024}, {"/large", LargeSize}, {"/counters", 4}} {
			head, size := ask(t, path, one.path)
			if size != one.size {
				t.Errorf("keep %v, %s: %d bytes, want %d", keep, one.path, size, one.size)
			}
			if closes := strings.Contains(head, "Connection: close"); closes == keep {
				t.Errorf("keep %v, %s: %s", keep, one.path, head)
			}
		}
	}
}

// ask returns the head of an answer and how long its body is, by its length.
func ask(t *testing.T, socket, path string) (head string, size int64) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
		head += line
		_, _ = fmt.Sscanf(line, "Content-Length: %d", &size) // other lines do not match
	}
	if _, err := io.CopyN(io.Discard, in, size); err != nil {
		t.Fatal(err)
	}
	return head, size
}
