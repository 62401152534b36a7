package keeper

import (
	"context"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// A Keeper answers the cores at the other ends of its links, on one thread.
type Keeper struct {
	tables    map[int]*Store // what cores know their certificates by: see table.go
	load      Loader         // of more tables; nil: there are no others than those of New and Keep
	log       zerolog.Logger // must not block
	tickets   ticketKeys
	refusals  refusals
	rest      rest
	showing   showing
	sessions  []session // by row
	adoptions int       // where links come from; -1: there are no others than those of New
	request   []byte    // the packet that is answered
	reply     []byte    // room for the answer
	issuers   keywire.Issuers

	// Of certificates from a CA; nil, or empty, without any.
	changes *changes
	proofs  map[uint32]*proof               // open challenges, by number
	proving map[uint32]*pair                // of those by TLS, likewise; that of every Store
	wanted  chan []string                   // the names that the tables have; see follow
	kept    func(name string) (pair, error) // what the folder has for a name
	served  func()                          // called when the first core serves; nil afterwards
}

// New makes a Keeper of the first table, nil where that is forgotten, for links, one per row
// of a core; -1 where there is none yet. They stay open when it ends: a successor goes on where it stopped.
func New(store *Store, links []int, log zerolog.Logger) *Keeper {
	k := &Keeper{
		tables:    map[int]*Store{},
		log:       log,
		tickets:   newTicketKeys(time.Now()),
		sessions:  make([]session, len(links)),
		adoptions: -1,
		request:   make([]byte, keywire.RequestBytesMax),
		proofs:    map[uint32]*proof{},
		proving:   map[uint32]*pair{},
	}
	if store != nil {
		k.Keep(sockets.FirstTable, store)
	}
	for i, link := range links {
		k.sessions[i] = session{keeper: k, store: store, index: i, link: link}
		if link < 0 {
			k.sessions[i].state = ended
		}
	}
	return k
}

// Serve answers until all links have ended, or ctx is done. Both are a good end. After
// Adopt it is the end of the adoptions that counts, not that of the links.
func (k *Keeper) Serve(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range k.sessions {
		if k.sessions[i].state == ended {
			continue
		}
		if err := keywire.Harden(k.sessions[i].link); err != nil {
			return err
		}
		k.sessions[i].askHello()
	}
	stop, err := newBell(ctx)
	if err != nil {
		return err
	}
	defer stop.close()
	var polled []unix.PollFd
	for {
		polled = append(polled[:0], unix.PollFd{Fd: int32(stop.fd), Events: unix.POLLIN},
			unix.PollFd{Fd: int32(k.adoptions), Events: unix.POLLIN}, // poll(2) ignores -1
			k.changesPoll())
		open := 0
		for i := range k.sessions {
			polled = append(polled, k.sessions[i].interest())
			if k.sessions[i].state != ended {
				open++
			}
		}
		if open == 0 && !k.adopts() {
			return nil
		}
		k.show()
		quiet, err := wait(polled, k.rest.within(time.Until(k.tickets.due), time.Now()))
		if err != nil {
			return fmt.Errorf("keeper: wait for the cores: %w", err)
		}
		if quiet {
			k.rest.take(time.Now())
		}
		if polled[0].Revents != 0 {
			return nil
		}
		k.rotate(time.Now())
		for i := range k.sessions {
			k.sessions[i].react(polled[3+i].Revents)
		}
		if polled[2].Revents != 0 {
			k.changes.make()
		}
		if !k.reactToWarden(polled[1].Revents) {
			return nil
		}
	}
}

// changesPoll is what Serve waits for besides packets.
func (k *Keeper) changesPoll() unix.PollFd {
	if k.changes == nil {
		return unix.PollFd{Fd: -1} // as above
	}
	return unix.PollFd{Fd: int32(k.changes.fd), Events: unix.POLLIN}
}

// askHello asks the core of a link that was there before this keeper for its Hello: it has the
// keys of tickets of the one before. One that does not listen says it within the hour.
func (s *session) askHello() {
	if s.state == waiting && (s.keeper.adopts() || s.keeper.changes != nil) {
		_ = s.send(keywire.Greet{}.Append(s.keeper.reply[:0]))
	}
}

// rotate moves the ticket keys on when it is time, and owes them to every core.
func (k *Keeper) rotate(now time.Time) {
	if !k.tickets.rotate(now) {
		return
	}
	for i := range k.sessions {
		k.sessions[i].untold = true
	}
}

// renew issues the internal certificates anew that are near their end. A core
// decides when it is called, the dates alone whether anything is signed.
func (k *Keeper) renew(now time.Time) {
	for _, store := range k.tables {
		for i := range store.pairs {
			if store.renew(&store.pairs[i], now, k.log) {
				k.showing.stale = true
			}
		}
	}
}

// renew issues one of them, if it is due, and reports whether it has.
func (s *Store) renew(p *pair, now time.Time, log zerolog.Logger) bool {
	if !p.isDue(now) {
		return false
	}
	if err := s.authority.issue(p, now); err != nil {
		log.Error().Err(err).Msg("certificate not renewed")
		return false
	}
	log.Info().Strs("hosts", p.issuedFor).Time("until", p.leaf.NotAfter).Msg("certificate renewed")
	return true
}

// interest is what a session waits for.
func (s *session) interest() unix.PollFd {
	if s.state == ended {
		return unix.PollFd{Fd: -1} // poll(2) ignores it
	}
	p := unix.PollFd{Fd: int32(s.link), Events: unix.POLLIN | unix.POLLRDHUP}
	if s.owes() {
		p.Events |= unix.POLLOUT
	}
	return p
}

// lost are the events of a link of which one direction is shut, or both. It stays
// readable for ever, and nothing comes: whoever went on reading would do so at the
// full speed of the processor.
const lost = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR | unix.POLLNVAL

// react does one thing of each kind, so that no core keeps the others waiting.
func (s *session) react(events int16) {
	if events&lost != 0 {
		s.end(unix.EPIPE)
		return
	}
	if events&unix.POLLOUT != 0 {
		s.pay()
	}
	if events&unix.POLLIN != 0 {
		s.read()
	}
}

// rawWait is how long wait holds on to its processor. Under load the next request
// comes within it, and the Go scheduler never hears of the wait: that is the
// cheaper half of evidence/privileges.md section 11. It is short because nothing
// else, the end of a garbage collection or a signal, gets this processor meanwhile.
const rawWait = 2 * time.Millisecond

// wait returns when one of the descriptors is ready, or, quiet, after limit.
func wait(polled []unix.PollFd, limit time.Duration) (quiet bool, err error) {
	limit = max(limit, 0)
	short := unix.NsecToTimespec(int64(min(limit, rawWait)))
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&polled[0])),
		uintptr(len(polled)), uintptr(unsafe.Pointer(&short)), 0, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return false, errno
	}
	if errno == 0 && n > 0 {
		return false, nil
	}
	long := unix.NsecToTimespec(int64(limit))
	ready, err := unix.Ppoll(polled, &long, nil)
	if err == unix.EINTR {
		return false, nil
	}
	return err == nil && ready == 0, err
}
