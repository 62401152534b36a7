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

// A Store is the certificates and their keys, by handle. It does not change.
type Store struct {
	pairs []pair
}

// Files are the descriptors of a certificate and its key. They stay open, and
// their offsets stay where they are: a successor of this process reads them again.
type Files struct {
	Cert, Key int
}

// Load reads what the plan names from the files, which are in the same order.
// Its error joins every conf.Mistake in them. What works but is unwise is a
// warning in the log.
func Load(plan conf.Keeper, files []Files, log zerolog.Logger) (*Store, error) {
	store := &Store{}
	var mistakes []error
	for i, named := range plan.Certificates {
		pair, flaws := load(named, files[i])
		for _, flaw := range flaws {
			mistakes = append(mistakes, conf.Mistake{Place: named.Where, What: flaw.what, Hint: flaw.hint})
		}
		if len(flaws) > 0 {
			continue
		}
		for _, warning := range pair.warnings(time.Now()) {
			log.Warn().Str("file", named.Cert).Strs("hosts", named.Hosts).Str("cause", warning).Msg("certificate doubtful")
		}
		store.pairs = append(store.pairs, pair)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return store, nil
}

// sign is the only use of a key.
func (s *Store) sign(request keywire.Sign) ([]byte, keywire.Reason, error) {
	if uint64(request.Handle) >= uint64(len(s.pairs)) {
		return nil, keywire.UnknownHandle, nil
	}
	key := s.pairs[request.Handle].key
	v, ok := isHandshake(request.Message)
	if !ok {
		return nil, keywire.NotHandshake, nil
	}
	if isDocument(request.Message) {
		return nil, keywire.Document, nil
	}
	opts, ok := optionsFor(request.Scheme, v, key.Public())
	if !ok {
		return nil, keywire.WrongScheme, nil
	}
	signature, err := crypto.SignMessage(key, rand.Reader, request.Message, opts)
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
