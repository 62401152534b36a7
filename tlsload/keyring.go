package tlsload

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/tlsload/keywire"
)

// ErrClosed means that the Keyring was closed, or its link to the keeper is lost:
// the other end is gone, or somebody has shut the link, for everybody who holds it.
// Nothing brings it back but a start of the whole service.
var ErrClosed = errors.New("tlsload: link to the keeper closed")

// slotsMax bounds the signatures that are asked for at the same time. All their
// packets fit the send buffer of a link; more handshakes wait for a slot.
const slotsMax = 256

// limits are the times that a Keyring keeps.
type limits struct {
	resend time.Duration // a request is sent again after this, then after twice this, and so on
	giveUp time.Duration // a signature, or the first certificates, must be there within this
	renew  time.Duration // between two Hellos
}

// A Keyring is a core's end of the link to the keeper: certificates, and the
// right to have handshakes signed with their keys.
type Keyring struct {
	link   *os.File        // in Go's poller; never shut down, for the warden and a next core hold it too
	raw    syscall.RawConn // of link
	limits limits
	log    func(msg string, err error)

	epoch        uint64
	slots        []slot
	free         chan *slot
	certificates []atomic.Pointer[held] // by handle; nil until the keeper sent it
	issuers      keywire.Issuers        // of them; readLoop's
	challenges   challenges
	names        *names        // of the last Config
	first        int           // handle of the first certificate that may be missing; readLoop's
	serving      atomic.Bool   // Serving was called
	complete     chan struct{} // closed when all certificates and the ticket keys are there
	gone         chan struct{} // closed when readLoop has ended
	closing      atomic.Bool   // Close was called

	mu sync.Mutex

	configs []*tls.Config // that have been handed out
	doors   []*door       // of all of them
	tickets [][32]byte    // nil until the keeper sent them
	reset   [32]byte      // likewise
	token   [32]byte      // likewise
}

// Open takes over the descriptor of a link, greets the keeper and waits until
// all certificates are there, for 10 s at most. On a link that is lost it returns
// ErrClosed, at once. log is told what goes wrong later on, and must not block.
func Open(link, certificates int, log func(msg string, err error)) (*Keyring, error) {
	return open(link, certificates, log, limits{
		resend: 400 * time.Millisecond,
		giveUp: 10 * time.Second,
		renew:  time.Hour,
	})
}

func open(link, certificates int, log func(msg string, err error), limits limits) (*Keyring, error) {
	if err := unix.SetNonblock(link, true); err != nil {
		return nil, fmt.Errorf("tlsload: link to the keeper: %w", err)
	}
	if err := keywire.Harden(link); err != nil {
		return nil, err
	}
	k := &Keyring{
		link:         os.NewFile(uintptr(link), "keeper"),
		limits:       limits,
		log:          log,
		slots:        make([]slot, slotsMax),
		free:         make(chan *slot, slotsMax),
		certificates: make([]atomic.Pointer[held], certificates),
		complete:     make(chan struct{}),
		gone:         make(chan struct{}),
	}
	var epoch [8]byte
	rand.Read(epoch[:]) // never fails, says its documentation
	k.epoch = binary.BigEndian.Uint64(epoch[:])
	for i := range k.slots {
		k.slots[i].prepare(uint64(i))
		k.free <- &k.slots[i]
	}
	var err error
	if k.raw, err = k.link.SyscallConn(); err != nil {
		return nil, fmt.Errorf("tlsload: link to the keeper: %w", err)
	}
	go k.readLoop()
	return k, k.await()
}

// await waits for the keeper's first answers; without them the Keyring is closed.
func (k *Keyring) await() error {
	limit := time.NewTimer(k.limits.giveUp)
	defer limit.Stop()
	var err error
	select {
	case <-k.complete:
		return nil
	case <-k.gone:
		err = ErrClosed
	case <-limit.C:
		err = fmt.Errorf("tlsload: no certificates from the keeper within %v", k.limits.giveUp)
	}
	return errors.Join(err, k.Close())
}

// Lost is closed when the link is lost, or the Keyring was closed. Every signature
// is ErrClosed from then on: a core has no reason to go on.
func (k *Keyring) Lost() <-chan struct{} { return k.gone }

// QUICKeys are those of stateless resets and of the tokens by which a client's address is
// known again, as all cores have them at the time: quic.Transport's StatelessResetKey and
// TokenGeneratorKey, which it takes once.
func (k *Keyring) QUICKeys() (reset, token [32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reset, k.token
}

// Close ends the reader and every signature under way. The link stays usable
// for whoever else holds it.
func (k *Keyring) Close() error {
	if k.closing.Swap(true) {
		return nil
	}
	err := k.link.Close()
	<-k.gone
	return err
}

// send writes one packet to the keeper, or none: a full link is a keeper that
// stalls, and whoever sends asks again later. No later packet gets through where
// the error is ErrClosed.
func (k *Keyring) send(packet []byte) (err error) {
	inLink := k.raw.Control(func(fd uintptr) { err = keywire.Send(int(fd), packet) })
	switch {
	case inLink != nil: // Close was called
		return ErrClosed
	case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}
