package registrar

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"

	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// accounts is the storage of the registrar's certmagic: of accounts, and their keys. What it
// writes there of challenges goes to the keeper instead.
type accounts struct {
	folder    *sockets.Folder // nil: all is in memory
	registrar *Registrar
	lock      chan struct{} // has one place: orders take turns where they lock

	mu sync.Mutex

	memory     map[string][]byte // without a folder
	challenges map[string]uint32 // numbers of open ones, by key
}

func newAccounts(folder *sockets.Folder, r *Registrar) *accounts {
	return &accounts{
		folder: folder, registrar: r,
		lock: make(chan struct{}, 1), memory: map[string][]byte{}, challenges: map[string]uint32{},
	}
}

// isChallenge reports whether certmagic keeps a challenge under a key.
func isChallenge(key string) bool { return strings.Contains(key, "/challenge_tokens/") }

// Store is certmagic.Storage's.
func (a *accounts) Store(ctx context.Context, key string, value []byte) error {
	if isChallenge(key) {
		return a.present(ctx, key, value)
	}
	if a.folder != nil {
		return a.folder.Write(sockets.FileName(key), value)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.memory[key] = value
	return nil
}

// present has a challenge answered.
func (a *accounts) present(ctx context.Context, key string, value []byte) error {
	var c acme.Challenge
	if err := json.Unmarshal(value, &c); err != nil {
		return fmt.Errorf("challenge: %w", err)
	}
	kinds := map[string]keywire.Kind{acme.ChallengeTypeHTTP01: keywire.HTTP01, acme.ChallengeTypeTLSALPN01: keywire.TLSALPN01}
	kind, known := kinds[c.Type]
	if !known {
		return fmt.Errorf("challenge %q is none that we answer", c.Type)
	}
	number, err := a.registrar.present(ctx, kind, c.Identifier.Value, c.Token, c.KeyAuthorization)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.challenges[key] = number
	return nil
}

// Load is certmagic.Storage's.
func (a *accounts) Load(_ context.Context, key string) ([]byte, error) {
	if a.folder != nil {
		return a.folder.Read(sockets.FileName(key))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if value, found := a.memory[key]; found {
		return value, nil
	}
	return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
}

// Delete is certmagic.Storage's.
func (a *accounts) Delete(_ context.Context, key string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if number, open := a.challenges[key]; open {
		delete(a.challenges, key)
		a.registrar.retract(number)
		return nil
	}
	delete(a.memory, key)
	if a.folder == nil || isChallenge(key) {
		return nil
	}
	return a.folder.Remove(sockets.FileName(key))
}

// Exists is certmagic.Storage's.
func (a *accounts) Exists(ctx context.Context, key string) bool {
	_, err := a.Load(ctx, key)
	return err == nil
}

// List is certmagic.Storage's. certmagic looks for an account of another address than the
// one that is written: there is none to be found.
func (a *accounts) List(context.Context, string, bool) ([]string, error) { return nil, fs.ErrNotExist }

// Stat is certmagic.Storage's. Only those who List ask.
func (a *accounts) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	return certmagic.KeyInfo{}, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
}

// Lock is certmagic.Locker's. There is one registrar, and what it locks is the making of an
// account, so that one lock will do.
func (a *accounts) Lock(ctx context.Context, _ string) error {
	select {
	case a.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unlock is certmagic.Locker's.
func (a *accounts) Unlock(context.Context, string) error {
	<-a.lock
	return nil
}
