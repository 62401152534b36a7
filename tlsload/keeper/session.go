package keeper

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/tlsload/keywire"
)

// A state is how far a session has come.
//
//	waiting ── Hello ──► greeted ── Hello of a next core ──► greeted
//	   └─ end of the link, or of one of its directions ──────► ended
type state uint8

const (
	waiting state = iota // no Hello yet: the core may have said it to a keeper before this one
	greeted              // session.epoch is the core's
	ended                // the link has no other end any more, or a core has shut it
	states
)

// A permission is whose packets of one operation are answered.
type permission uint8

const (
	nobody  permission = iota // none: a security event
	anybody                   // of any epoch
	known                     // of the epoch that was greeted
)

// permitted is everything that a core may ask for, and when. An operation that is
// not in it is permitted to nobody.
var permitted = [keywire.OpEnd][states]permission{
	//                     waiting  greeted  ended
	keywire.OpHello:       {anybody, anybody, nobody},
	keywire.OpSign:        {anybody, known, nobody},
	keywire.OpCertificate: {nobody, nobody, nobody},
	keywire.OpTickets:     {nobody, nobody, nobody},
	keywire.OpSigned:      {nobody, nobody, nobody},
	keywire.OpRefused:     {nobody, nobody, nobody},
	keywire.OpServing:     {nobody, known, nobody},
	keywire.OpAnswering:   {nobody, known, nobody},
	// All others go the other way, or to the registrar.
}

// A session is the keeper's end of one link.
type session struct {
	keeper *Keeper
	store  *Store // by which the core knows its certificates
	index  int    // of the link, for the log
	link   int
	state  state
	epoch  uint64 // of the core; since greeted

	// What is owed to the core: the ticket keys, and the certificates from next on.
	untold bool
	next   int
	began  time.Time // when the certificates were last sent from the first
	fresh  []int     // handles of certificates that have changed since
	news   []uint32  // numbers of challenges that were opened, or are over

	serves  bool            // the core accepts clients
	answers map[uint32]bool // the challenges that it has
}

// What a Hello of 9 bytes may cost: a core that is not honest any more would have
// megabytes for it, as often as it likes.
const (
	payMost    = 8           // certificates in a turn, so that other links get theirs
	beginEvery = time.Second // on one link, from the first certificate
)

// permits looks a packet up in the table.
func (s *session) permits(op keywire.Op, epoch uint64) bool {
	if op >= keywire.OpEnd {
		return false
	}
	switch permitted[op][s.state] {
	case anybody:
		return true
	case known:
		return epoch == s.epoch
	default:
		return false
	}
}

// read takes one packet from the link and answers it. An empty one is malformed;
// it is also what the end of a link looks like, until poll tells.
func (s *session) read() {
	n, err := keywire.Receive(s.link, s.keeper.request)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case errors.Is(err, keywire.ErrOversize):
		s.refuse(0, 0, keywire.Malformed)
	case err != nil:
		s.end(err)
	default:
		s.take(s.keeper.request[:n])
	}
}

// take answers one packet, of whatever a core may send.
func (s *session) take(packet []byte) {
	op, epoch, ok := keywire.Head(packet)
	switch {
	case !ok:
		s.refuse(0, 0, keywire.Malformed)
	case !s.permits(op, epoch):
		s.refuse(epoch, 0, keywire.NotPermitted)
	case op == keywire.OpHello:
		s.hello(packet, epoch)
	case op == keywire.OpSign:
		s.sign(packet, epoch)
	case op == keywire.OpServing:
		s.serving(packet, epoch)
	case op == keywire.OpAnswering:
		s.answering(packet, epoch)
	default:
		panic("BUG: permitted, but not known")
	}
}

// hello notes that the core is owed everything. Internal certificates are renewed
// here, when it is time: cores ask every hour, and nobody else would notice. A core
// that repeats it while certificates are on their way, or too soon, gets the rest of
// them, not all from the first; one that misses some repeats it for longer.
//
// Another epoch than before is a second core on one link, which has no second one: what
// the first knew of ticket keys, somebody else may know.
func (s *session) hello(packet []byte, epoch uint64) {
	if _, err := keywire.DecodeHello(packet); err != nil {
		s.refuse(epoch, 0, keywire.Malformed)
		return
	}
	now := time.Now()
	another := s.state == greeted && s.epoch != epoch
	begin := another || s.next == 0 || s.next == len(s.store.pairs)
	if another || s.state == waiting {
		s.serves = false
	}
	s.state, s.epoch, s.untold = greeted, epoch, true
	s.tellAll()
	if begin && now.Sub(s.began) >= beginEvery {
		s.next, s.began, s.fresh = 0, now, s.fresh[:0]
		s.keeper.renew(now)
	}
	if another {
		s.keeper.tickets.spoil(now)
		s.keeper.rotate(now)
	}
}

// owes says whether the core is still to be sent something.
func (s *session) owes() bool {
	return s.state == greeted && (s.untold || s.next < len(s.store.pairs) || len(s.fresh) > 0 || len(s.news) > 0)
}

// pay sends what is owed, while there is room in the link and the turn lasts.
func (s *session) pay() {
	if s.untold {
		err := s.send(s.keeper.tickets.message(s.epoch).Append(s.keeper.reply[:0]))
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		s.untold = false
	}
	if s.payNews() != nil || s.payFresh(payMost) != nil {
		return
	}
	for range payMost {
		if s.state == ended || s.next >= len(s.store.pairs) {
			return
		}
		err := s.send(s.store.certificate(s.epoch, s.next).Append(s.keeper.reply[:0]))
		if errors.Is(err, unix.EAGAIN) || s.state == ended {
			return
		}
		if err != nil { // such as EMSGSIZE, where net.core.wmem_default was made tiny
			s.keeper.log.Error().Err(err).Int("link", s.index).Int("certificate", s.next).Msg("certificate not sent")
		}
		s.next++
	}
}

// sign answers with a signature, or with the reason why there is none.
func (s *session) sign(packet []byte, epoch uint64) {
	request, err := keywire.DecodeSign(packet)
	if err != nil {
		s.refuse(epoch, 0, keywire.Malformed)
		return
	}
	signature, reason, err := s.store.sign(request)
	s.keeper.rest.signed++
	if err != nil {
		s.keeper.log.Error().Err(err).Msg("signature failed")
	}
	if reason != 0 {
		s.refuse(epoch, request.ID, reason)
		return
	}
	// A core that does not read has no right to an answer; it asks again.
	_ = s.send(keywire.Signed{Epoch: epoch, ID: request.ID, Signature: signature}.Append(s.keeper.reply[:0]))
}

// refuse answers a packet that is not obeyed. It is a security event: an honest
// core sends none, but for a Document, which a client of TLS 1.2 can provoke by
// the random it chooses. It harms its own handshake only.
func (s *session) refuse(epoch, id uint64, reason keywire.Reason) {
	s.keeper.refusals.note(s.index, reason, s.keeper.log)
	_ = s.send(keywire.Refused{Epoch: epoch, ID: id, Reason: reason}.Append(s.keeper.reply[:0])) // as in sign
}

// send keeps the grown buffer for the next packet. What is not read any more is a
// link that has ended.
func (s *session) send(packet []byte) error {
	s.keeper.reply = packet
	err := keywire.Send(s.link, packet)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		s.end(err)
	}
	return err
}

// end leaves the link alone from now on.
func (s *session) end(cause error) {
	if s.state != ended {
		s.keeper.parted(s, cause)
	}
	s.state, s.serves = ended, false
	s.keeper.settleAll()
}
