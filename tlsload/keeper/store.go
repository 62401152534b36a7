package keeper

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// A Store is the certificates and their keys, by handle: a table. The keys do not change.
type Store struct {
	pairs     []pair
	ordered   map[string]int // handles of the names whose certificates come from a CA; since Keep
	authority *authority     // nil when no certificate is internal

	proving map[uint32]*pair // of challenges by TLS, by their numbers; the Keeper's
}

// Files are the descriptors of a certificate and its key. Load leaves their offsets
// where they are, for a successor of this process reads them again, and has no use
// for them afterwards: whoever opened them closes them.
type Files struct {
	Cert, Key int
}

// AuthorityFiles are the descriptors of what is kept of the internal CA, to be
// read and written. After Load they are of no use either.
type AuthorityFiles struct {
	Secret, Root int
}

// Load reads what the plan names from the files, which are in the same order, and
// issues what is internal; kept is not looked at when nothing is. Its error joins
// every conf.Mistake in them. What works but is unwise is a warning in the log.
func Load(plan conf.Keeper, files []Files, kept AuthorityFiles, log zerolog.Logger) (*Store, error) {
	return loader{log: log}.load(plan, files, kept)
}

// LoadBeside is Load for a plan that follows another one of the same service, while the
// cores of both serve: the internal CA of before, if it has one, is that of both.
func LoadBeside(before *Store, plan conf.Keeper, files []Files, kept AuthorityFiles, log zerolog.Logger) (*Store, error) {
	return loader{log: log, before: before}.load(plan, files, kept)
}

// Check is Load for a plan that may never be in force, and more strict: what has expired
// is a mistake where something else serves on. Without the files of the internal CA, a plan
// that has none is to be given.
func Check(plan conf.Keeper, files []Files, kept AuthorityFiles, log zerolog.Logger) error {
	_, err := loader{log: log, strict: true}.load(plan, files, kept)
	return err
}

// Len is the number of certificates.
func (s *Store) Len() int { return len(s.pairs) }

// HasAuthority reports whether it has the internal CA.
func (s *Store) HasAuthority() bool { return s.authority != nil }

// A loader makes a Store.
type loader struct {
	log    zerolog.Logger
	before *Store // what it has is not loaded again; nil: there is none
	strict bool   // expired certificates are mistakes
}

func (l loader) load(plan conf.Keeper, files []Files, kept AuthorityFiles) (*Store, error) {
	store, known := &Store{}, map[[sha256.Size]byte]pair{}
	if l.before != nil {
		store.authority = l.before.authority
		for _, pair := range l.before.pairs {
			known[pair.content] = pair
		}
	}
	var mistakes []error
	wrong := func(where conf.Place, f flaw) {
		mistakes = append(mistakes, conf.Mistake{Place: where, What: f.what, Hint: f.hint})
	}
	now := time.Now()
	if plan.Authority != nil && store.authority == nil {
		a, f := openAuthority(*plan.Authority, kept, now, l.log)
		if f.what != "" {
			wrong(plan.Authority.Where, f)
		}
		store.authority = a
	}
	for i, named := range plan.Certificates {
		if named.ACME {
			store.pairs = append(store.pairs, pair{orderedFor: named.Hosts[0]}) // until it is obtained
			continue
		}
		if named.Internal && store.authority == nil {
			continue // said already
		}
		pair, flaws := store.load(named, files[i], known, now)
		if len(flaws) == 0 && l.strict {
			flaws = pair.expired(named, now)
		}
		for _, f := range flaws {
			where := named.Where
			if f.key != "" {
				where.Key = f.key
			}
			wrong(where, f.flaw)
		}
		if len(flaws) > 0 {
			continue
		}
		for _, warning := range pair.warnings(now) {
			l.log.Warn().Str("file", named.Cert).Strs("hosts", named.Hosts).Str("cause", warning).Msg("certificate doubtful")
		}
		store.pairs = append(store.pairs, pair)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return store, nil
}

// load is one pair, of whichever kind.
func (s *Store) load(named conf.Certificate, files Files, known map[[sha256.Size]byte]pair, now time.Time) (pair, []pairFlaw) {
	if !named.Internal {
		content := contentOf(named, files)
		if p, found := known[content]; found && content != [sha256.Size]byte{} {
			p.file = named.Cert
			return p, nil
		}
		read := load
		if named.Clients {
			read = loadClients
		}
		p, flaws := read(named, files)
		p.content, p.file = content, named.Cert
		return p, flaws
	}
	p, err := s.authority.pair(named.Hosts, now)
	if err != nil {
		return pair{}, []pairFlaw{{flaw: flaw{what: err.Error()}}}
	}
	return p, nil
}

// sign is the only use of a key that has a handle.
func (s *Store) sign(request keywire.Sign) ([]byte, keywire.Reason, error) {
	p := s.pair(request.Handle).of(request.Key)
	if p == nil || p.key == nil {
		return nil, keywire.UnknownHandle, nil
	}
	v, ok := isHandshake(request.Message)
	if !ok {
		return nil, keywire.NotHandshake, nil
	}
	if isDocument(request.Message) {
		return nil, keywire.Document, nil
	}
	opts, ok := optionsFor(request.Scheme, v, p.leaf.PublicKey) // Public of an Ed25519 key is a copy
	if !ok {
		return nil, keywire.WrongScheme, nil
	}
	signature, err := crypto.SignMessage(p.key, rand.Reader, request.Message, opts)
	if err != nil {
		return nil, keywire.Failed, fmt.Errorf("keeper: sign with certificate %d: %w", request.Handle, err)
	}
	return signature, 0, nil
}

// pair is what has a handle; nil if nothing has.
func (s *Store) pair(handle uint32) *pair {
	switch {
	case handle >= keywire.ChallengeHandle:
		return s.proving[handle-keywire.ChallengeHandle]
	case uint64(handle) < uint64(len(s.pairs)):
		return &s.pairs[handle]
	}
	return nil
}

// of is the pair, or the one that it has followed, whose key has a tag. Handshakes that
// began with that one are signed by its key.
func (p *pair) of(tag uint32) *pair {
	if p == nil || p.before == nil || tag == 0 || keywire.KeyTag(p.leaf.RawSubjectPublicKeyInfo) == tag {
		return p
	}
	if keywire.KeyTag(p.before.leaf.RawSubjectPublicKeyInfo) == tag {
		return p.before
	}
	return nil
}

// certificate is the message for one handle.
func (s *Store) certificate(epoch uint64, handle int) keywire.Certificate {
	return keywire.Certificate{
		Epoch:  epoch,
		Handle: uint32(handle),
		Count:  uint32(len(s.pairs)),
		Chain:  s.pairs[handle].chain,
	}
}
