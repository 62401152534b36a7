package tlsload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/tlsload/keywire"
)

// readLoop takes every packet of the keeper, and greets it when it is time. It
// belongs to the Keyring and ends when Close closes the link, or the link breaks.
func (k *Keyring) readLoop() {
	defer close(k.gone)
	packet := make([]byte, keywire.ReplyBytesMax)
	err := k.greet()
	for err == nil {
		err = k.next(packet)
	}
	if !k.closing.Load() {
		k.log("keeper link lost", err)
	}
}

// next takes one packet, or greets the keeper. Its error is the end of the link.
func (k *Keyring) next(packet []byte) error {
	n, err := k.receive(packet)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return k.greet()
	case err == nil:
		err = k.take(packet[:n])
	case !errors.Is(err, keywire.ErrOversize):
		return err
	}
	if err != nil {
		k.log("keeper packet dropped", err)
	}
	return nil
}

// greet says Hello and sets the time of the next one: soon, while anything is
// missing. Its error is ErrClosed.
func (k *Keyring) greet() error {
	next := k.limits.renew
	err := k.send(keywire.Hello{Epoch: k.epoch}.Append(nil))
	if k.serving.Load() && err == nil {
		err = k.send(keywire.Serving{Epoch: k.epoch}.Append(nil))
	}
	if errors.Is(err, ErrClosed) {
		return err
	}
	if err != nil || !k.isComplete() {
		next = k.limits.resend
	}
	k.greetIn(next)
	return nil
}

func (k *Keyring) greetIn(d time.Duration) {
	// Fails on a closed link only, and then so does the next receive.
	_ = k.link.SetReadDeadline(time.Now().Add(d))
}

// receive waits for one packet, in Go's poller.
func (k *Keyring) receive(packet []byte) (n int, err error) {
	inLink := k.raw.Read(func(fd uintptr) bool {
		n, err = keywire.Receive(int(fd), packet)
		return err != unix.EAGAIN
	})
	if inLink != nil {
		return 0, inLink
	}
	if n == 0 && err == nil {
		return 0, io.EOF // the keeper sends no empty packets
	}
	return n, err
}

// take gives one packet to whom it belongs. What is meant for another epoch is
// dropped without a word: a core before this one has asked for it.
func (k *Keyring) take(packet []byte) error {
	op, epoch, ok := keywire.Head(packet)
	if !ok {
		return keywire.ErrMalformed
	}
	if op == keywire.OpGreet { // of a keeper that knows no epoch yet
		return k.greet()
	}
	if epoch != k.epoch {
		return nil
	}
	switch op {
	case keywire.OpSigned:
		return k.signed(packet)
	case keywire.OpRefused:
		return k.refused(packet)
	case keywire.OpCertificate:
		return k.certificate(packet)
	case keywire.OpTickets:
		return k.ticketKeys(packet)
	case keywire.OpChallenge:
		return k.challenge(packet)
	case keywire.OpWithdrawn:
		return k.withdrawn(packet)
	default:
		return fmt.Errorf("tlsload: operation %d is not for a core", op)
	}
}

func (k *Keyring) signed(packet []byte) error {
	m, err := keywire.DecodeSigned(packet)
	if err == nil {
		k.slot(m.ID).deliver(m.ID, m.Signature, 0)
	}
	return err
}

func (k *Keyring) refused(packet []byte) error {
	m, err := keywire.DecodeRefused(packet)
	if err == nil && m.ID == 0 {
		return fmt.Errorf("tlsload: keeper refused: %v", m.Reason)
	}
	if err == nil {
		k.slot(m.ID).deliver(m.ID, nil, m.Reason)
	}
	return err
}

func (k *Keyring) certificate(packet []byte) error {
	m, err := keywire.DecodeCertificate(packet)
	if err != nil {
		return err
	}
	if int(m.Count) != len(k.certificates) {
		return fmt.Errorf("tlsload: keeper holds %d certificates, the plan names %d", m.Count, len(k.certificates))
	}
	place := &k.certificates[m.Handle]
	old := place.Load()
	if len(m.Chain) == 0 {
		if old == nil { // one that was there is better than none
			place.Store(&held{keys: k, handle: m.Handle})
			k.checkComplete()
		}
		return nil
	}
	if old != nil && old.holds(m.Chain) {
		return nil
	}
	place.Store(&held{keys: k, handle: m.Handle, leaf: bytes.Clone(m.Chain[0]), issuers: k.issuers.Share(m.Chain[1:])})
	k.rehang(int(m.Handle))
	k.checkComplete()
	return nil
}

func (k *Keyring) ticketKeys(packet []byte) error {
	m, err := keywire.DecodeTickets(packet)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.tickets, k.reset, k.token = m.Keys, m.Reset, m.Token
	for _, config := range k.configs {
		config.SetSessionTicketKeys(m.Keys)
	}
	for _, d := range k.doors {
		d.hang(k)
	}
	k.mu.Unlock()
	k.checkComplete()
	return nil
}

func (k *Keyring) isComplete() bool {
	select {
	case <-k.complete:
		return true
	default:
		return false
	}
}

// checkComplete tells Open once nothing is missing any more. Only readLoop calls it.
func (k *Keyring) checkComplete() {
	if k.isComplete() || k.tickets == nil {
		return
	}
	for ; k.first < len(k.certificates); k.first++ {
		if k.certificates[k.first].Load() == nil {
			return
		}
	}
	k.greetIn(k.limits.renew)
	close(k.complete)
}
