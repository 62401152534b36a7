package keeper

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/tlsload/keywire"
)

// A Store is the certificates and their keys, by handle. The keys do not change.
type Store struct {
	pairs     []pair
	authority *authority // nil when no certificate is internal
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
	store := &Store{}
	var mistakes []error
	wrong := func(where conf.Place, f flaw) {
		mistakes = append(mistakes, conf.Mistake{Place: where, What: f.what, Hint: f.hint})
	}
	now := time.Now()
	if plan.Authority != nil {
		a, f := openAuthority(*plan.Authority, kept, now, log)
		if f.what != "" {
			wrong(plan.Authority.Where, f)
		}
		store.authority = a
	}
	for i, named := range plan.Certificates {
		if named.Internal && store.authority == nil {
			continue // said already
		}
		pair, flaws := store.load(named, files[i], now)
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
			log.Warn().Str("file", named.Cert).Strs("hosts", named.Hosts).Str("cause", warning).Msg("certificate doubtful")
		}
		store.pairs = append(store.pairs, pair)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return store, nil
}

// load is one pair, of whichever kind.
func (s *Store) load(named conf.Certificate, files Files, now time.Time) (pair, []pairFlaw) {
	if !named.Internal {
		return load(named, files)
	}
	p, err := s.authority.pair(named.Hosts, now)
	if err != nil {
		return pair{}, []pairFlaw{{flaw: flaw{what: err.Error()}}}
	}
	return p, nil
}

// sign is the only use of a key that has a handle.
func (s *Store) sign(request keywire.Sign) ([]byte, keywire.Reason, error) {
	if uint64(request.Handle) >= uint64(len(s.pairs)) {
		return nil, keywire.UnknownHandle, nil
	}
	p := &s.pairs[request.Handle]
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

// certificate is the message for one handle.
func (s *Store) certificate(epoch uint64, handle int) keywire.Certificate {
	return keywire.Certificate{
		Epoch:  epoch,
		Handle: uint32(handle),
		Count:  uint32(len(s.pairs)),
		Chain:  s.pairs[handle].chain,
	}
}
