package keeper

import (
	"slices"

	"sallyport/tlsload/keywire"
)

// This file is what cores are told besides certificates: the challenges of a CA that they
// are to answer. All of it happens on the thread of Serve.

// challengesMax bounds the challenges that are open at the same time: more than orders are
// under way, and fewer than a core takes.
const challengesMax = 64

// newsMax bounds what a core is owed of them.
const newsMax = 4 * challengesMax

// A proof is an open challenge.
type proof struct {
	message  keywire.Challenge // without an epoch
	pair     *pair             // what it is signed with; nil by HTTP
	answered func()            // called once, when every core that serves has it; nil afterwards
}

// open has cores answer a challenge; answered is called when all of them do. It reports
// whether there was room for it.
func (k *Keeper) open(p *proof) bool {
	if len(k.proofs) >= challengesMax {
		return false
	}
	k.proofs[p.message.Number] = p
	if p.pair != nil {
		k.proving[p.message.Number] = p.pair
	}
	for i := range k.sessions {
		k.sessions[i].tell(p.message.Number)
	}
	k.settle(p)
	return true
}

// withdraw ends a challenge.
func (k *Keeper) withdraw(number uint32) {
	if _, known := k.proofs[number]; !known {
		return
	}
	delete(k.proofs, number)
	delete(k.proving, number)
	for i := range k.sessions {
		k.sessions[i].tell(number)
	}
}

// withdrawAll ends all challenges: nobody knows any more what they were for.
func (k *Keeper) withdrawAll() {
	for number := range k.proofs {
		k.withdraw(number)
	}
}

// settle calls who waits for a challenge, if all cores that serve have it, and one does.
func (k *Keeper) settle(p *proof) {
	if p.answered == nil {
		return
	}
	serving := 0
	for i := range k.sessions {
		s := &k.sessions[i]
		if !s.serves {
			continue
		}
		serving++
		if !s.answers[p.message.Number] {
			return
		}
	}
	if serving > 0 {
		p.answered()
		p.answered = nil
	}
}

// settleAll is settle for all: a core has come, or gone.
func (k *Keeper) settleAll() {
	for _, p := range k.proofs {
		k.settle(p)
	}
}

// tell owes a core the news of a challenge: that it is open, or over.
func (s *session) tell(number uint32) {
	if s.state != greeted || slices.Contains(s.news, number) {
		return
	}
	if len(s.news) >= newsMax {
		s.news = s.news[1:] // of a core that has read nothing for long
	}
	s.news = append(s.news, number)
}

// tellAll owes a core the news of all challenges: it has none of them.
func (s *session) tellAll() {
	s.news, s.answers = s.news[:0], map[uint32]bool{}
	for number := range s.keeper.proofs {
		s.tell(number)
	}
}

// payNews sends what the core is owed of challenges. Its error is that of the first packet
// that could not be sent.
func (s *session) payNews() error {
	for len(s.news) > 0 {
		number := s.news[0]
		packet := keywire.Withdrawn{Epoch: s.epoch, Number: number}.Append(s.keeper.reply[:0])
		if p, open := s.keeper.proofs[number]; open {
			message := p.message
			message.Epoch = s.epoch
			packet = message.Append(s.keeper.reply[:0])
		} else {
			delete(s.answers, number)
		}
		if err := s.send(packet); err != nil {
			return err
		}
		s.news = s.news[1:]
	}
	return nil
}

// serving notes that the core accepts clients.
func (s *session) serving(packet []byte, epoch uint64) {
	if _, err := keywire.DecodeServing(packet); err != nil {
		s.refuse(epoch, 0, keywire.Malformed)
		return
	}
	s.serves = true
	if s.keeper.served != nil {
		s.keeper.served()
		s.keeper.served = nil
	}
	s.keeper.settleAll()
}

// answering notes that the core has a challenge. One that it names and that is not open
// was open a moment ago, or never.
func (s *session) answering(packet []byte, epoch uint64) {
	m, err := keywire.DecodeAnswering(packet)
	if err != nil {
		s.refuse(epoch, 0, keywire.Malformed)
		return
	}
	if p, open := s.keeper.proofs[m.Number]; open {
		s.answers[m.Number] = true
		s.keeper.settle(p)
	}
}

// freshMax bounds the list of certificates that a core is owed; from then on it is sent all.
const freshMax = 256

// publish gives a name another certificate, in every table that has the name, and tells
// every core.
func (k *Keeper) publish(name string, p pair) {
	p.orderedFor = name
	p.chain = slices.Concat(p.chain[:1], k.issuers.Share(p.chain[1:]))
	for _, store := range k.tables {
		handle, found := store.ordered[name]
		if !found || p.leaf.Equal(store.pairs[handle].leaf) { // fill has been faster
			continue
		}
		store.pairs[handle] = p.following(store.pairs[handle])
		k.freshen(store, handle)
	}
}

// following is p as it follows another pair, if that is one.
func (p pair) following(old pair) pair {
	if old.key != nil {
		old.before = nil
		p.before = &old
	}
	return p
}

// freshen owes a certificate to every core that knows its table.
func (k *Keeper) freshen(store *Store, handle int) {
	for i := range k.sessions {
		s := &k.sessions[i]
		switch {
		case s.store != store || s.state != greeted || slices.Contains(s.fresh, handle):
		case len(s.fresh) >= freshMax:
			s.fresh, s.next = s.fresh[:0], 0
		default:
			s.fresh = append(s.fresh, handle)
		}
	}
}

// payFresh sends certificates that have changed since the core was sent all of them.
func (s *session) payFresh(most int) error {
	for range min(most, len(s.fresh)) {
		err := s.send(s.store.certificate(s.epoch, s.fresh[0]).Append(s.keeper.reply[:0]))
		if err != nil {
			return err
		}
		s.fresh = s.fresh[1:]
	}
	return nil
}
