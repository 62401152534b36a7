package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"os"
	"time"

	"sallyport/conf"
	"sallyport/proxy/h3"
	"sallyport/proxy/message"
	"sallyport/sockets"
)

// inheritSlots takes the UDP sockets of this core: one beside each listener with TLS that has
// any. A core that came by more workers than the service was
// started with has none; one that is alone is the first core's of each generation.
func (f *front) inheritSlots(plan *conf.Core, gifts sockets.Gifts, slot int) error {
	config := f.keyring.QUICConfig(*plan)
	reset, token := f.keyring.QUICKeys()
	for _, l := range plan.Listeners {
		prefix := sockets.SlotPrefix(slot)
		fd, err := gifts.FD(sockets.SlotGift(l.Gift))
		if err != nil {
			prefix = nil
			fd, err = gifts.FD(sockets.LoneGift(l.Gift))
		}
		if err != nil {
			continue
		}
		conn, number, err := takeUDP(fd, l.Gift)
		if err != nil {
			return fmt.Errorf("core: slot of %s: %w", l.Address, err)
		}
		f.slotFDs = append(f.slotFDs, number)
		f.slots = append(f.slots, h3.Socket{Conn: conn, TLS: config, Prefix: prefix, Awaited: prefix == nil, Reset: reset, Token: token})
	}
	stdlog.SetFlags(0)
	stdlog.SetOutput(f.log) // where quic-go says that a buffer is small
	return nil
}

// takeUDP puts a socket into Go's poller, under another number.
func takeUDP(fd int, name string) (udp *net.UDPConn, number int, err error) {
	file := os.NewFile(uintptr(fd), name)
	defer file.Close() // conn has a copy
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, 0, err
	}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return nil, 0, errors.Join(fmt.Errorf("%T is no UDP socket", conn), conn.Close())
	}
	raw, err := udp.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { number = int(fd) })
	}
	return udp, number, err
}

// openSlots begins to take connections of QUIC. For a socket that is alone it waits.
func (f *front) openSlots() error {
	for i, slot := range f.slots {
		if slot.Awaited {
			go f.claimLoop(slot, f.slotFDs[i])
			continue
		}
		if _, err := f.engines.h3.Listen(slot); err != nil {
			return fmt.Errorf("core: %w", err)
		}
	}
	return nil
}

// claimEvery is how often a core looks whether a socket is free that others have too.
const claimEvery = time.Second

// claimLoop ends when the socket is this core's, and at the latest when another core has this one's place.
func (f *front) claimLoop(slot h3.Socket, fd int) {
	looks := time.NewTicker(claimEvery)
	defer looks.Stop()
	for {
		free, err := sockets.Claim(fd)
		if free {
			_, err = f.engines.h3.Listen(slot)
		}
		switch {
		case err != nil:
			f.slotLost(err)
			return
		case free:
			f.log.Debug().Stringer("socket", slot.Conn.LocalAddr()).Msg("UDP socket claimed")
			return
		}
		select {
		case <-looks.C:
		case <-f.leaving:
			_ = slot.Conn.Close() // nobody reads it
			return
		}
	}
}

// slotLost says that clients of HTTP/3 are not heard any more, but for those of other cores.
func (f *front) slotLost(err error) {
	f.log.Error().Err(err).Str("hint", "sallyport reload").Msg("slot lost")
}

// greet counts a connection of QUIC, whose handshake is over, as welcome does one of TCP, and
// reports whether it may stay.
func (f *front) greet(peer *message.Peer, state *tls.ConnectionState, local net.Addr) bool {
	if !f.enter(*peer) {
		return false
	}
	f.shaken(peer, state, local)
	f.garbage.stir()
	f.connections.Add(1)
	f.count.Add(1)
	f.quic.Add(1)
	return true
}

// part is left for a connection of QUIC.
func (f *front) part(peer message.Peer) {
	f.quic.Add(^uint64(0))
	f.left(peer)
}
