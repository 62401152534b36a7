package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/upstream/board"
)

// patience bounds every wait. It is no limit of anything that is tested.
const patience = 20 * time.Second

// TestIdleGoroutines: connections that made one request each and wait since have no
// goroutine, plain or over TLS, in a front that is wired as a core's is.
func TestIdleGoroutines(t *testing.T) {
	const plain, secure = 2000, 500
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur < 2*(plain+secure)+200 {
		t.Skipf("SKIPPED, NOT TESTED: %d open files are allowed, and this needs %d", files.Cur, 2*(plain+secure)+200)
	}
	f, addresses := openFront(t)
	var held []net.Conn
	defer func() {
		for _, conn := range held {
			conn.Close()
		}
	}()
	visit := func(count int, dial func() (net.Conn, error)) {
		t.Helper()
		for range count {
			conn, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, conn)
			if err := ask(conn); err != nil {
				t.Fatalf("connection %d: %v", len(held), err)
			}
		}
	}
	dialPlain := func() (net.Conn, error) { return net.Dial("tcp", addresses[0]) }
	dialSecure := func() (net.Conn, error) {
		return tls.Dial("tcp", addresses[1], &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"})
	}
	visit(1, dialPlain) // what is made once is there
	visit(1, dialSecure)
	before := runtime.NumGoroutine()
	for name, one := range map[string]struct {
		count int
		dial  func() (net.Conn, error)
	}{"plain": {plain, dialPlain}, "TLS": {secure, dialSecure}} {
		visit(one.count, one.dial)
		// Whoever answered last may still be on its way to bed; a few workers stay up.
		const few = 10
		deadline := time.Now().Add(patience)
		for runtime.NumGoroutine() > before+few && time.Now().Before(deadline) {
			runtime.Gosched()
		}
		now := runtime.NumGoroutine()
		t.Logf("%s: %d goroutines, with %d idle connections; %d with 2", name, now, len(held), before)
		if now > before+few {
			t.Errorf("%s: %d goroutines more than before", name, now-before)
		}
	}
	if n := f.count.Load(); n != int64(len(held)) {
		t.Errorf("%d connections, and the front has %d", len(held), n)
	}
	for i, conn := range held { // they were idle, and not forgotten
		if err := ask(conn); err != nil {
			t.Fatalf("connection %d, second request: %v", i+1, err)
		}
	}
}

// TestSilentClients: who has connected and not said a word does not hold the end up.
func TestSilentClients(t *testing.T) {
	f, addresses := openFront(t)
	for _, address := range addresses {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	deadline := time.Now().Add(patience)
	for f.count.Load() < int64(len(addresses)) && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	select {
	case <-f.drained(f.drain):
	case <-time.After(patience):
		t.Errorf("%d connections are waited for", f.count.Load())
	}
}

// openFront opens a front with a plain listener and one with TLS, in front of an app that
// takes one connection after the other. At the end of the test it is drained.
func openFront(t *testing.T) (f *front, addresses [2]string) {
	t.Helper()
	return openFrontAs(t, io.Discard, func(*conf.Core) {})
}

// openFrontAs is openFront with a log and another plan.
func openFrontAs(t *testing.T, log io.Writer, change func(*conf.Core)) (f *front, addresses [2]string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "app")
	app, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go serveOne(app)
	plan := &conf.Core{
		Sites: []conf.Site{{Hosts: []string{"app.test"}, Certificate: -1, Routes: []conf.Route{{Path: "/*"}}}},
		Apps: []conf.App{{
			Name: "app", Sockets: []string{socket}, Connect: patience, FirstByte: patience, Idle: patience,
		}},
		Limits: conf.Limits{
			HeadBytes: 32 << 10, Fields: 100, LineBytes: 8 << 10, HeadTime: time.Hour, BodyIdle: time.Hour,
			WriteIdle: time.Hour, KeepaliveIdle: time.Hour,
		},
	}
	var gifts sockets.Gifts
	for i, kind := range []string{"http0", "https0"} {
		var fd int
		fd, addresses[i] = listen(t)
		gifts = append(gifts, sockets.Gift{Name: kind, FD: fd})
		plan.Listeners = append(plan.Listeners, conf.Listener{Gift: kind, Address: addresses[i], Secure: kind == "https0"})
	}
	change(plan)
	shared, err := board.Private(plan.Apps)
	if err != nil {
		t.Fatal(err)
	}
	if f, err = newFront(plan, shared, nil, gifts, 0, zerolog.New(log)); err != nil {
		t.Fatal(err)
	}
	f.garbage.watched.Store(true)                                      // by nobody: the percent is the process's, and other tests look at it
	f.tls = &tls.Config{Certificates: []tls.Certificate{throwAway(t)}} // instead of a keeper's
	if err := f.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-f.drained(f.drain):
		case <-time.After(patience):
			t.Error("the front does not drain")
		}
		f.loop.Close()
		app.Close()
		if err := shared.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, addresses
}

// listen is a listener as boot hands it over: a descriptor.
func listen(t *testing.T) (fd int, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if fd, err = unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		err = unix.SetNonblock(fd, true) // File made it block
	}
	if err != nil {
		t.Fatal(os.NewSyscallError("fcntl", err))
	}
	return fd, listener.Addr().String()
}

// serveOne answers one request of each connection, and says for whom it came, until the
// listener is closed.
func serveOne(app net.Listener) {
	for {
		conn, err := app.Accept()
		if err != nil {
			return
		}
		if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nX-Chain: %s\r\nX-Client: %s\r\nContent-Length: 2\r\n\r\nok",
				req.Header.Get("X-Forwarded-For"), req.Header.Get("X-Real-IP"))
		}
		conn.Close()
	}
}

// ask makes one request, and leaves nothing of its answer behind.
func ask(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(body) != "ok" || in.Buffered() > 0) {
		err = fmt.Errorf("%s %q, and %d bytes behind", resp.Status, body, in.Buffered())
	}
	return err
}

func throwAway(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"app.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A tap keeps what a connection has read.
type tap struct {
	net.Conn
	heard bytes.Buffer
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.heard.Write(p[:n])
	return n, err
}

// TestClosingAlert: "Servers MUST attempt to initiate an exchange of closure alerts with
// the client prior to closing the connection" RFC 9112, section 9.8.
func TestClosingAlert(t *testing.T) {
	_, addresses := openFront(t)
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: app.test\r\n\r\nGET / HTTP/9.9\r\n\r\n",
	} {
		plain, err := net.Dial("tcp", addresses[1])
		if err != nil {
			t.Fatal(err)
		}
		wire := &tap{Conn: plain}
		// In TLS 1.2 the type of a record can be seen from outside.
		session := tls.Client(wire, &tls.Config{InsecureSkipVerify: true, ServerName: "app.test", MaxVersion: tls.VersionTLS12})
		if err := session.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(session, request)
		if err == nil {
			_, err = io.ReadAll(session)
		}
		session.Close()
		const alert = 21
		last := byte(0)
		for heard := wire.heard.Bytes(); len(heard) >= 5; heard = heard[min(len(heard), 5+int(heard[3])<<8+int(heard[4])):] {
			last = heard[0]
		}
		if err != nil || last != alert {
			t.Errorf("%q: the last record is of type %d, want %d; %v", request, last, alert, err)
		}
	}
}
