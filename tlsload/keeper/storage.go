package keeper

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"

	"sallyport/sockets"
)

// A storage is where certmagic keeps things. It stores a key, its certificate and what is to
// be known about them one after the other, under three names; here they are one file, which
// is written when the last of them comes. So there is never a key without its certificate,
// whenever the keeper is killed.
type storage struct {
	folder *sockets.Folder // nil: all is in memory

	mu sync.Mutex

	memory map[string][]byte            // without a folder, by the name of the file
	drafts map[string]map[string][]byte // parts that have come, by the name of the file and by their kind
}

func newStorage(folder *sockets.Folder) *storage {
	return &storage{folder: folder, memory: map[string][]byte{}, drafts: map[string]map[string][]byte{}}
}

// The kinds of parts, in the order in which certmagic stores them.
const (
	partKey  = ".key"
	partCert = ".crt"
	partMeta = ".json"
)

// fileOf is the file that something is kept in, and which part of it; "" if it is all.
func fileOf(key string) (file, part string) {
	part = path.Ext(key)
	if strings.HasPrefix(key, "certificates/") && (part == partKey || part == partCert || part == partMeta) {
		return siteFile(path.Dir(key)), part
	}
	return sockets.FileName(key), ""
}

// siteFile is the file of the pair that certmagic keeps below a prefix.
func siteFile(prefix string) string { return sockets.FileName(prefix + ".pem") }

// Store is certmagic.Storage's.
func (s *storage) Store(_ context.Context, key string, value []byte) error {
	file, part := fileOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if part == "" {
		return s.write(file, value)
	}
	draft := s.drafts[file]
	if draft == nil {
		draft = map[string][]byte{}
		s.drafts[file] = draft
	}
	draft[part] = value
	if part != partMeta {
		return nil
	}
	delete(s.drafts, file)
	return s.write(file, bundle(draft[partKey], draft[partCert], value))
}

func (s *storage) write(file string, content []byte) error {
	if s.folder != nil {
		return s.folder.Write(file, content)
	}
	s.memory[file] = content
	return nil
}

func (s *storage) read(file string) ([]byte, error) {
	if s.folder != nil {
		return s.folder.Read(file)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if content, found := s.memory[file]; found {
		return bytes.Clone(content), nil
	}
	return nil, fmt.Errorf("%s: %w", file, fs.ErrNotExist)
}

// Load is certmagic.Storage's.
func (s *storage) Load(_ context.Context, key string) ([]byte, error) {
	file, part := fileOf(key)
	content, err := s.read(file)
	if err != nil || part == "" {
		return content, err
	}
	return partOf(content, part), nil
}

// pair is what is kept below a prefix.
func (s *storage) pair(prefix string) (pair, error) {
	file := siteFile(prefix)
	content, err := s.read(file)
	if err != nil {
		return pair{}, err
	}
	defer clear(content)
	p, err := unbundle(content)
	if err != nil {
		return pair{}, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// Delete is certmagic.Storage's. It takes parts back that it has stored, when it could
// not store all; it never deletes what is whole.
func (s *storage) Delete(_ context.Context, key string) error {
	file, part := fileOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if part != "" {
		delete(s.drafts, file)
		return nil
	}
	return s.remove(file)
}

// discard removes what is kept below a prefix.
func (s *storage) discard(prefix string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(siteFile(prefix))
}

func (s *storage) remove(file string) error {
	delete(s.memory, file)
	if s.folder == nil {
		return nil
	}
	return s.folder.Remove(file)
}

// Exists is certmagic.Storage's.
func (s *storage) Exists(_ context.Context, key string) bool {
	file, _ := fileOf(key)
	if s.folder != nil {
		return s.folder.Has(file)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.memory[file]
	return found
}

// List is certmagic.Storage's. It asks for that to clean up, which nobody does here.
func (s *storage) List(context.Context, string, bool) ([]string, error) { return nil, fs.ErrNotExist }

// Stat is certmagic.Storage's. Only those who List ask.
func (s *storage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	return certmagic.KeyInfo{}, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
}

// Lock is certmagic.Locker's. The schedule has one order of a name under way at most.
func (s *storage) Lock(context.Context, string) error { return nil }

// Unlock is certmagic.Locker's.
func (s *storage) Unlock(context.Context, string) error { return nil }
