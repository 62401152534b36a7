package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"
)

// What the tests of many connections share: the benchmark's app, which costs nearly
// nothing, and clients that ask it again and again.

// bare is a file for the benchmark's app.
const bare = `workers = 1
listen = { http = ["127.0.0.1:0"], https = ["127.0.0.1:0"] }
log = { access = false, level = "debug" }
[[site]]
host = "shop.test"
tls = { cert = "shop.pem", key = "shop.key" }
redirect = false
app = "shop"
[app.shop]
socket = "unix:{dir}/bare.sock"
`

// startBare starts the benchmark's app, and a house in front of it.
func (s *scene) startBare() *house {
	s.t.Helper()
	s.startBareApp(false)
	s.write("sallyport.toml", bare)
	return s.start()
}

// startBareApp starts the benchmark's app, which keeps its connections or not, and
// writes the certificate of its site.
func (s *scene) startBareApp(keep bool) {
	s.t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path("bare.sock")})
	s.must(err)
	s.must(os.Chmod(s.path("bare.sock"), 0o666))
	file, err := listener.File()
	s.must(err)
	defer file.Close()
	mode := "closes"
	if keep {
		mode = "keep"
	}
	cmd := exec.Command("/proc/self/exe", "app", mode)
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{file}
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it never ends by itself
		_ = cmd.Wait()
		listener.Close()
	})
	s.certificate("shop", p256(s.t), "shop.test")
}

// A visitor is one connection of a client that asks again and again.
type visitor struct {
	net.Conn
	in *bufio.Reader
}

// visit connects to a house; with a configuration it speaks TLS.
func visit(address string, config *tls.Config) (*visitor, error) {
	dialer := &net.Dialer{Timeout: patience}
	var conn net.Conn
	var err error
	if config == nil {
		conn, err = dialer.Dial("tcp", address)
	} else {
		conn, err = tls.DialWithDialer(dialer, "tcp", address, config)
	}
	if err != nil {
		return nil, err
	}
	return &visitor{conn, bufio.NewReaderSize(conn, 2<<10)}, nil
}

// ask makes a request, and is content with a whole answer of 200.
func (v *visitor) ask() error {
	if err := v.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(v, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(v.in, nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != 200 || n != 1024) {
		err = fmt.Errorf("status %d, %d bytes", resp.StatusCode, n)
	}
	return err
}

// busy lets connections make a number of requests each, all at once.
func busy(address string, config *tls.Config, connections, each int) error {
	ended := make(chan error, connections)
	for range connections {
		go func() { ended <- askMany(address, config, each) }()
	}
	var failed error
	for range connections {
		failed = errors.Join(failed, <-ended)
	}
	return failed
}

func askMany(address string, config *tls.Config, times int) error {
	v, err := visit(address, config)
	if err != nil {
		return err
	}
	defer v.Close()
	for i := range times {
		if err := v.ask(); err != nil {
			return fmt.Errorf("request %d: %w", i+1, err)
		}
	}
	return nil
}

// needProgram skips a test whose tool is not installed.
func needProgram(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: no %s on this machine; `make test` as root installs it", path)
	}
}
