package main

import (
	"sync"

	"sallyport/sockets/loop"
)

// silents are the connections that have not sent a byte yet and are on no engine's books:
// those whose handshake or PROXY header is due. Browsers and health checks open such
// connections, and the end of a service does not wait for them.
type silents struct {
	mu    sync.Mutex
	conns map[*loop.Conn]struct{}
	ended bool
}

// await has next run when there are bytes of raw, or its deadline is over.
func (s *silents) await(raw *loop.Conn, next func()) {
	s.add(raw)
	raw.Idle(func() {
		s.remove(raw)
		next()
	})
}

func (s *silents) add(raw *loop.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		raw.LimitRead(-1)
		return
	}
	if s.conns == nil {
		s.conns = make(map[*loop.Conn]struct{})
	}
	s.conns[raw] = struct{}{}
}

func (s *silents) remove(raw *loop.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, raw)
}

// end has the deadline of all be over, and of those that come later. What crosses it on
// its way, the client has to send again.
func (s *silents) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for raw := range s.conns {
		raw.LimitRead(-1)
	}
}
