package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/proxy"
	"sallyport/proxy/h1"
	"sallyport/proxy/h2"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
	"sallyport/upstream"
	"sallyport/upstream/board"
	"sallyport/upstream/spool"
)

// A story is what a client and an app say to each other with us between them. It
// is told over every engine. What is in this file: how. The stories are in the
// files beside it.
type story struct {
	name   string
	change func(*conf.Core)  // what differs from plainPlan
	unix   bool              // clients come by a unix socket; such a story is told over plain h1 only
	spare  bool              // the app has a first member that nobody listens on
	live   bool              // the app is to have the request as it comes: such a story is told without buffering only
	h1     bool              // it is about the syntax of HTTP/1, or what only that has
	buffer bool              // bodies wait; run sets it
	app    func(*appSide)    // runs once for every connection to the app; nil: the app wants none
	client func(*clientSide) // runs once
}

// A protocol is what client and engine speak.
type protocol struct {
	name       string
	secure, h2 bool
}

// protocols are all that there are.
func protocols() []protocol {
	return []protocol{{name: "h1"}, {name: "h1+tls", secure: true}, {name: "h2", h2: true}, {name: "h2+tls", secure: true, h2: true}}
}

// run tells s over every engine, with and without buffering.
func run(t *testing.T, s story) {
	t.Helper()
	for _, p := range protocols() {
		if s.unix && p != protocols()[0] || s.h1 && p.h2 {
			continue
		}
		s.buffer = false
		t.Run(s.name+"/"+p.name, func(t *testing.T) { tell(t, s, p) })
		if s.buffer = true; !s.live {
			t.Run(s.name+"/"+p.name+"+buffer", func(t *testing.T) { tell(t, s, p) })
		}
	}
}

// An engine is one of those that serve clients.
type engine interface {
	Start(net.Conn, *loop.Conn, message.Peer)
	StartSecure(net.Conn, *loop.Records, message.Peer)
	Retire()
	Drain()
	CutExchanges() (<-chan struct{}, int)
	CutTunnels() int
}

// patience bounds every wait of a test. It is no limit of anything that is tested.
const patience = 20 * time.Second

// A world is what one telling needs.
type world struct {
	*testing.T
	plan   *conf.Core
	shared *board.Board
	loop   *loop.Loop
	engine engine
	protocol
	front    net.Listener
	behind   net.Listener
	app      func(*appSide)
	accepted atomic.Int64 // connections to the app
	serving  sync.WaitGroup
	log      *logLines
	meter    *proxy.Meter
	arena    *spool.Arena

	mu      sync.Mutex
	clients []net.Conn // all that were dialed; guarded by mu
}

func tell(t *testing.T, s story, p protocol) {
	before := runtime.NumGoroutine()
	w := &world{T: t, protocol: p, app: s.app, log: new(logLines)}
	folder := t.TempDir()
	socket := filepath.Join(folder, "app")
	w.plan = plainPlan(socket)
	w.plan.Sites[0].Routes[0].Buffer = s.buffer
	if s.spare {
		w.plan.Apps[0].Sockets = []string{filepath.Join(folder, "absent"), socket}
	}
	if s.change != nil {
		s.change(w.plan)
	}
	w.behind = w.listen("unix", socket)
	if w.front = nil; s.unix {
		w.front = w.listen("unix", filepath.Join(folder, "front"))
	} else {
		w.front = w.listen("tcp", "127.0.0.1:0")
	}
	buffers := new(h1.Buffers)
	var err error
	if w.loop, err = loop.New(); err != nil {
		t.Fatal(err)
	}
	if w.shared, err = board.Private(w.plan.Apps); err != nil {
		t.Fatal(err)
	}
	apps := upstream.New(w.plan.Apps, w.shared, w.loop, buffers)
	forwarder := proxy.New(w.plan, apps, zerolog.New(w.log))
	w.meter = &forwarder.Meter
	w.arena = openSpool(t, w.plan.Spool)
	forwarder.Buffer(w.arena)
	ended := func(message.Peer) { w.serving.Done() }
	w.engine = &h1.Engine{
		Handler: forwarder, Limits: w.plan.Limits, Buffers: buffers,
		Refused: forwarder.Refused, Ended: ended,
	}
	if p.h2 {
		w.engine = &h2.Engine{Handler: forwarder, Limits: w.plan.Limits, Refused: forwarder.Refused, Ended: ended}
	}
	w.serving.Add(2)
	go w.acceptClients()
	go w.acceptRequests()
	c := w.dial()
	defer w.settle(before)
	defer apps[0].Close()
	defer w.behind.Close()
	defer w.front.Close()
	defer c.Close()
	s.client(c)
}

// openSpool makes a spool for the routes that are buffered.
func openSpool(t *testing.T, plan conf.Spool) *spool.Arena {
	t.Helper()
	fd, err := spool.Create(plan)
	if err != nil {
		t.Fatal(err)
	}
	arena, err := spool.Open(fd, plan, "app")
	if err != nil {
		t.Fatal(err)
	}
	return arena
}

// settle waits until nothing of a telling is left.
func (w *world) settle(before int) {
	w.Helper()
	for _, client := range w.clients {
		client.Close()
	}
	done := make(chan struct{})
	go func() { w.serving.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		stacks := make([]byte, 1<<20)
		w.Errorf("still serving:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	w.loop.Close()
	if st := w.arena.Stats(); st.Used != 0 || st.Spools != 0 {
		w.Errorf("left in the spool: %+v", st)
	}
	if err := w.arena.Close(); err != nil {
		w.Error(err)
	}
	w.sameCounts()
	w.shared.Close()
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before && !w.Failed() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			w.Errorf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

// sameCounts: what was refused or cut was counted once and logged once, with its cause.
func (w *world) sameCounts() {
	w.Helper()
	counted, logged := map[string]uint64{}, map[string]uint64{}
	for cause, count := range w.meter.Refusals {
		counted[cause] = count
	}
	delete(counted, "bytes behind a reply") // of an app that was fine until then: logged as its failure
	for line := range strings.Lines(w.log.String()) {
		var said struct{ Message, Cause string }
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			w.Errorf("%q: %v", line, err)
		}
		if said.Cause != "" && said.Message != "app failed" {
			logged[said.Cause]++
		}
	}
	if !maps.Equal(counted, logged) {
		w.Errorf("counted: %v, and in the log: %v", counted, logged)
	}
}

func plainPlan(sockets ...string) *conf.Core {
	return &conf.Core{
		Sites: []conf.Site{{Hosts: []string{"app.test"}, Certificate: -1, Routes: []conf.Route{{Path: "/*"}}}},
		Apps: []conf.App{{
			Name: "app", Sockets: sockets, Retries: 1, Connect: time.Second,
			FirstByte: patience, Idle: patience, MaxBody: 64 << 20,
		}},
		AdvertisePort: 443,
		Spool:         conf.Spool{Bytes: 64 << 20, AppBytes: 64 << 20},
		Limits: conf.Limits{
			HeadBytes: 32 << 10, Fields: 100, LineBytes: 8 << 10, HeadTime: patience,
			BodyIdle: patience, WriteIdle: patience, KeepaliveIdle: patience,
			Streams: 100, StreamResets: 400, ControlFrames: 2000,
		},
		Log: conf.Log{Access: true, Level: "info"},
	}
}

func (w *world) listen(network, address string) net.Listener {
	w.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { l.Close() })
	return l
}

func (w *world) acceptClients() {
	defer w.serving.Done()
	for {
		conn, err := w.front.Accept()
		if err != nil {
			return
		}
		w.serving.Add(1)
		go w.serve(conn)
	}
}

// serve begins to serve a client, as the core does. The engine says when it is over.
func (w *world) serve(conn net.Conn) {
	var peer message.Peer
	if addr, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		peer.Addr = addr.AddrPort()
	}
	raw := w.adopt(conn)
	if !w.secure {
		w.engine.Start(raw, raw, peer)
		return
	}
	records := loop.NewRecords(raw, raw)
	session := tls.Server(records, serverTLS())
	if err := session.HandshakeContext(context.Background()); err != nil {
		raw.Close()
		w.serving.Done()
		return
	}
	w.engine.StartSecure(session, records, peer)
}

// adopt moves a connection from Go's poller to the loop.
func (w *world) adopt(conn net.Conn) *loop.Conn {
	defer conn.Close()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		w.Error(err)
	}
	c := new(loop.Conn)
	err = raw.Control(func(fd uintptr) {
		number, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			err = w.loop.Adopt(c, number)
		}
		if err != nil {
			w.Error(err)
		}
	})
	if err != nil {
		w.Error(err)
	}
	return c
}

func (w *world) acceptRequests() {
	defer w.serving.Done()
	for {
		conn, err := w.behind.Accept()
		if err != nil {
			return
		}
		w.accepted.Add(1)
		w.serving.Add(1)
		go w.answer(conn)
	}
}

func (w *world) answer(conn net.Conn) {
	defer w.serving.Done()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if w.app == nil {
		b, _ := io.ReadAll(conn)
		w.Errorf("the app was asked: %.200q", b)
		return
	}
	w.app(&appSide{side{world: w, Conn: conn, r: bufio.NewReader(conn)}})
}

var throwAway = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"app.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{throwAway()}, MinVersion: tls.VersionTLS12}
}

// dial is a new client.
func (w *world) dial() *clientSide {
	w.Helper()
	conn, err := net.Dial(w.front.Addr().Network(), w.front.Addr().String())
	if err == nil && w.secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"})
	}
	if err == nil && w.h2 {
		conn, err = newH2Client(conn)
	}
	if err != nil {
		w.Fatal(err)
	}
	w.mu.Lock()
	w.clients = append(w.clients, conn)
	w.mu.Unlock()
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &clientSide{side{world: w, Conn: conn, r: bufio.NewReader(conn), client: true}}
}

// A side is one end of a story.
type side struct {
	*world
	net.Conn
	r      *bufio.Reader
	client bool // runs on the goroutine of the test
}

// fail ends the side that it is called on.
func (s *side) fail(format string, args ...any) {
	s.Helper()
	s.Errorf(format, args...)
	s.Close()
	if s.client {
		s.FailNow()
	}
	runtime.Goexit()
}

func (s *side) say(parts ...string) {
	s.Helper()
	if _, err := io.WriteString(s.Conn, strings.Join(parts, "")); err != nil {
		s.fail("%T: say %.60q: %v", s.Conn, parts, err)
	}
}

// head reads as far as an empty line.
func (s *side) head() string {
	s.Helper()
	var b strings.Builder
	for !strings.HasSuffix(b.String(), "\r\n\r\n") {
		line, err := s.r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			s.fail("head: %v after %q", err, b.String())
		}
	}
	return b.String()
}

// hear reads as much as text has, and wants it to be text.
func (s *side) hear(text string) {
	s.Helper()
	b := make([]byte, len(text))
	if n, err := io.ReadFull(s.r, b); err != nil || string(b) != text {
		s.fail("heard %.200q (%v), want %.200q", b[:n], err, text)
	}
}

// rest reads as far as the end, and wants an orderly one.
func (s *side) rest() string {
	s.Helper()
	b, err := io.ReadAll(s.r)
	if err != nil {
		s.fail("rest: %v after %.200q", err, b)
	}
	return string(b)
}

// ended wants the connection to be over without a further byte.
func (s *side) ended() {
	s.Helper()
	if rest := s.rest(); rest != "" {
		s.fail("the connection goes on with %.200q", rest)
	}
}

// An appSide is one connection to the scripted app.
type appSide struct{ side }

// request reads a whole request: its head as it came, and its body.
func (a *appSide) request() (head, body string, req *http.Request) {
	a.Helper()
	head = a.head()
	req, err := http.ReadRequest(newReader(head, a.r))
	if err != nil {
		a.fail("request: %v in %q", err, head)
	}
	b, err := io.ReadAll(req.Body)
	if err != nil {
		a.fail("request body: %v after %d bytes", err, len(b))
	}
	return head, string(b), req
}

func newReader(head string, rest io.Reader) *bufio.Reader {
	return bufio.NewReader(io.MultiReader(strings.NewReader(head), rest))
}

// A clientSide is one connection of the scripted client.
type clientSide struct{ side }

// reply reads a whole reply to method, whose body is complete.
func (c *clientSide) reply(method string) (*http.Response, string) {
	c.Helper()
	resp, body, err := c.tryReply(method)
	if err != nil {
		c.fail("reply: %v after %.200q", err, body)
	}
	return resp, body
}

func (c *clientSide) tryReply(method string) (*http.Response, string, error) {
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// want reads a reply and compares status and body.
func (c *clientSide) want(method string, status int, body string) *http.Response {
	c.Helper()
	resp, got := c.reply(method)
	if resp.StatusCode != status || got != body {
		c.fail("got %d %.200q (%d bytes), want %d %.200q (%d bytes)", resp.StatusCode, got, len(got), status, body, len(body))
	}
	return resp
}

// broken wants a reply that cannot be taken for a whole one.
func (c *clientSide) broken(method string) {
	c.Helper()
	resp, body, err := c.tryReply(method)
	if err == nil {
		c.fail("a reply that was cut looks whole: %v %.200q", resp, body)
	}
}

// get is a request for / without a body, and with more fields.
func get(fields ...string) string { return request("GET / HTTP/1.1", fields...) }

func request(line string, fields ...string) string {
	return strings.Join(append([]string{line, "Host: app.test"}, fields...), "\r\n") + "\r\n\r\n"
}

// logLines are the lines of a log, for whoever waits for one.
type logLines struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(line)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// logged waits for a line that has all the parts.
func (w *world) logged(parts ...string) {
	w.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
	lines:
		for line := range strings.Lines(w.log.String()) {
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue lines
				}
			}
			return
		}
	}
	w.Errorf("no line of the log has %q:\n%s", parts, w.log)
}

// yield lets others run, for whoever waits for a count.
func (s *side) yield() { runtime.Gosched() }
