package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/proxy"
	"sallyport/proxy/h1"
	"sallyport/proxy/message"
	"sallyport/sockets"
	"sallyport/tlsload"
	"sallyport/upstream"
)

// A front is where clients arrive: it accepts connections, does their TLS
// handshake and gives them to the engine that speaks their protocol.
type front struct {
	engine    *h1.Engine
	tls       *tls.Config // nil without certificates
	handshake time.Duration
	log       zerolog.Logger
	doors     []door

	connections sync.WaitGroup
	count       atomic.Int64 // of connections
}

// A door is one listener.
type door struct {
	listener net.Listener
	secure   bool
}

// newFront wires a core: the keeper's certificates, the forwarder with its apps,
// the engine, and the listeners.
func newFront(plan *conf.Core, gifts sockets.Gifts, log zerolog.Logger) (*front, error) {
	buffers := new(h1.Buffers)
	forwarder := proxy.New(plan, upstream.New(plan.Apps, buffers), log)
	f := &front{
		engine:    &h1.Engine{Handler: forwarder, Limits: plan.Limits, Buffers: buffers, Refused: forwarder.Refused},
		handshake: plan.Limits.HeadTime,
		log:       log,
	}
	if plan.Certificates > 0 {
		link, err := gifts.FD("link")
		if err != nil {
			return nil, err
		}
		keyring, err := tlsload.Open(link, plan.Certificates, func(message string, err error) {
			log.Warn().Err(err).Msg(message)
		})
		if err != nil {
			return nil, err
		}
		f.tls = keyring.Config(*plan)
	}
	for _, l := range plan.Listeners {
		fd, err := gifts.FD(l.Gift)
		if err != nil {
			return nil, err
		}
		listener, err := adopt(fd, l.Gift)
		if err != nil {
			return nil, fmt.Errorf("core: listener %s: %w", l.Address, err)
		}
		f.doors = append(f.doors, door{listener, l.Secure})
	}
	return f, nil
}

// adopt makes a net.Listener of a descriptor, which it takes over.
func adopt(fd int, name string) (net.Listener, error) {
	file := os.NewFile(uintptr(fd), name)
	defer file.Close() // FileListener has its own copy
	return net.FileListener(file)
}

// open begins to accept.
func (f *front) open() {
	for _, d := range f.doors {
		f.connections.Add(1) // the loop counts as one, so that Wait cannot overtake an Accept
		go f.acceptLoop(d)
	}
}

// acceptLoop accepts until drained closes its listener. Out of descriptors or
// memory, it lets those who are served end first.
func (f *front) acceptLoop(d door) {
	defer f.connections.Done()
	const pauseMax = time.Second
	pause := time.Duration(0)
	for {
		conn, err := d.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if pause == 0 {
				f.log.Error().Err(err).Stringer("listener", d.listener.Addr()).
					Str("hint", "raise the limit of open files (LimitNOFILE=), or lower the number of connections").
					Msg("connection not accepted")
			}
			pause = min(max(2*pause, 5*time.Millisecond), pauseMax)
			time.Sleep(pause)
			continue
		}
		pause = 0
		f.connections.Add(1)
		f.count.Add(1)
		go f.serve(conn, d.secure)
	}
}

// serve serves one connection until it ends.
func (f *front) serve(conn net.Conn, secure bool) {
	defer f.connections.Done()
	defer f.count.Add(-1)
	peer := peerOf(conn)
	if secure {
		session := tls.Server(conn, f.tls)
		if err := f.shakeHands(session); err != nil {
			f.log.Debug().Err(err).Stringer("peer", peer.Addr).Msg("handshake failed")
			conn.Close()
			return
		}
		conn = session
	}
	f.engine.Serve(conn, peer, secure)
}

func (f *front) shakeHands(session *tls.Conn) error {
	deadline := time.Time{}
	if f.handshake > 0 {
		deadline = time.Now().Add(f.handshake)
	}
	if err := session.SetDeadline(deadline); err != nil {
		return err
	}
	if err := session.Handshake(); err != nil {
		return err
	}
	return session.SetDeadline(time.Time{})
}

// peerOf is who is at the other end of conn.
func peerOf(conn net.Conn) message.Peer {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return message.Peer{}
	}
	addr := remote.AddrPort()
	return message.Peer{Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())}
}

// drained closes the doors and the idle connections, and returns a channel that is
// closed when the last exchange is over.
func (f *front) drained() <-chan struct{} {
	for _, d := range f.doors {
		d.listener.Close()
	}
	f.engine.Drain()
	over := make(chan struct{})
	go f.awaitLast(over)
	return over
}

// awaitLast ends with the last connection, or with the process.
func (f *front) awaitLast(over chan<- struct{}) {
	f.connections.Wait()
	close(over)
}
