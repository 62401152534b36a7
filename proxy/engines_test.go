package proxy_test

import (
	"bufio"
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
	"sallyport/proxy/h3"
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
	half   bool              // the client closes its half of the connection, which QUIC has not
	h1     bool              // it is about the syntax of HTTP/1, or what only that has
	buffer bool              // bodies wait; run sets it
	app    func(*appSide)    // runs once for every connection to the app; nil: the app wants none
	client func(*clientSide) // runs once
}

// A protocol is what client and engine speak.
type protocol struct {
	name       string
	secure, h2 bool
	h3         bool // what h2 says goes for it, too: both have frames and streams
}

// protocols are all that there are.
func protocols() []protocol {
	return []protocol{
		{name: "h1"},
		{name: "h1+tls", secure: true},
		{name: "h2", h2: true},
		{name: "h2+tls", secure: true, h2: true},
		{name: "h3", secure: true, h2: true, h3: true},
	}
}

// run tells s over every engine, with and without buffering.
func run(t *testing.T, s story) {
	t.Helper()
	for _, p := range protocols() {
		if s.unix && p != protocols()[0] || s.h1 && p.h2 || s.half && p.h3 {
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
	Retire()
	Drain()
	CutExchanges() (<-chan struct{}, int)
	CutTunnels() int
}

// A starter is an engine for connections of TCP.
type starter interface {
	Start(net.Conn, *loop.Conn, message.Peer)
	StartSecure(net.Conn, *loop.Records, message.Peer)
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
	udp      *net.UDPConn // of h3
	quic     *h3.Listener // likewise
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
	switch {
	case p.h3:
		w.listenQUIC(forwarder, ended)
	case p.h2:
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

// listenQUIC has an engine of HTTP/3 take connections, which are counted as those of TCP are.
func (w *world) listenQUIC(forwarder *proxy.Forwarder, ended func(message.Peer)) {
	var err error
	if w.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		w.Fatal(err)
	}
	engine := &h3.Engine{
		Handler: forwarder, Limits: w.plan.Limits, Run: w.loop.Run, Refused: forwarder.Refused, Ended: ended,
		Begun: func(*message.Peer, *tls.ConnectionState, net.Addr) bool { w.serving.Add(1); return true },
	}
	w.engine = engine
	secure := serverTLS()
	secure.NextProtos = []string{"h3"}
	if w.quic, err = engine.Listen(h3.Socket{Conn: w.udp, TLS: secure}); err != nil {
		w.Fatal(err)
	}
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
	if w.quic != nil {
		w.engine.Drain()
		if err := w.quic.Close(); err != nil {
			w.Error(err)
		}
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
		w.engine.(starter).Start(raw, raw, peer)
		return
	}
	records := loop.NewRecords(raw, raw)
	config := serverTLS()
	if w.h2 {
		config.NextProtos = []string{"h2"}
	}
	session := tls.Server(records, config)
	if err := session.HandshakeContext(context.Background()); err != nil {
		raw.Close()
		w.serving.Done()
		return
	}
	w.engine.(starter).StartSecure(session, records, peer)
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
	var conn net.Conn
	var err error
	if w.h3 {
		conn, err = newH3Client(w.udp.LocalAddr())
	} else {
		conn, err = w.dialTCP()
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

func (w *world) dialTCP() (net.Conn, error) {
	conn, err := net.Dial(w.front.Addr().Network(), w.front.Addr().String())
	if err == nil && w.secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"})
	}
	if err == nil && w.h2 {
		return newH2Client(conn)
	}
	return conn, err
}
