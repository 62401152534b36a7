package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"sallyport/proxy/message"
	"sallyport/upstream"
)

// tunnelIdle is how long both ends of a tunnel may be silent. A WebSocket that is
// in use pings far more often; a client that vanished never will.
const tunnelIdle = time.Hour

// A tunnel carries bytes both ways after 101. It is over when the app ends it, or
// when either side breaks; a client that only stopped talking still listens.
type tunnel struct {
	stream message.Stream
	lease  *upstream.Lease
	begun  time.Time
	moved  atomic.Int64 // nanoseconds from then to the last byte
}

// tunnel passes on a 101 and then whatever the two ends say to each other.
func (f *Forwarder) tunnel(p *passage, lease *upstream.Lease, resp *message.Response) {
	t := &tunnel{stream: p.exchange.Stream, lease: lease, begun: time.Now()}
	t.touch()
	lease.SetIdle(tunnelIdle)
	if err := t.stream.Reply(resp); err != nil {
		f.cut(p, err)
		return
	}
	toApp := make(chan error, 1)
	go t.carryToApp(toApp)
	sent, err := t.carryToClient()
	lease.Cut()
	if finishErr := t.stream.Finish(nil); err == nil { // which ends the reads of carryToApp
		err = finishErr
	}
	if clientErr := <-toApp; errors.Is(err, net.ErrClosed) {
		err = clientErr // it was carryToApp that cut
	}
	p.sent = sent
	if err != nil {
		p.cause = causeOf(err)
	}
}

func (t *tunnel) touch() { t.moved.Store(int64(time.Since(t.begun))) }

// silence is how long nobody has said anything.
func (t *tunnel) silence() time.Duration { return time.Since(t.begun) - time.Duration(t.moved.Load()) }

// carryToClient carries what the app says, until it ends.
func (t *tunnel) carryToClient() (sent int64, err error) {
	for {
		if err := t.stream.Flush(); err != nil {
			return sent, err
		}
		piece, err := t.lease.Next()
		switch {
		case err == io.EOF:
			return sent, nil
		case errors.Is(err, os.ErrDeadlineExceeded) && t.silence() < tunnelIdle:
			continue // the client was not silent
		case err != nil:
			return sent, err
		}
		t.touch()
		n, err := t.stream.Write(piece)
		sent += int64(n)
		if err != nil {
			return sent, err
		}
	}
}

// carryToApp carries what the client says, until it ends or carryToClient has.
func (t *tunnel) carryToApp(ended chan<- error) {
	for {
		piece, err := t.stream.Next()
		switch {
		case err == io.EOF:
			ended <- t.lease.CloseWrite()
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			ended <- nil // by Finish
			return
		case err != nil:
			t.lease.Cut()
			ended <- err
			return
		}
		t.touch()
		if _, err := t.lease.Write(piece); err != nil {
			ended <- err // and no cut: what the app said before it closed is on its way
			return
		}
	}
}
