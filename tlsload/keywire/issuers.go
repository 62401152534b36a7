package keywire

import (
	"bytes"
	"slices"
)

// Issuers are what chains have in common, kept once: of fifty thousand certificates the issuers
// are a handful. The zero value has none.
type Issuers struct {
	lists [][][]byte // the latest that were not known
}

// issuersMost bounds the lists that are looked through; beyond it some are kept more than once.
const issuersMost = 16

// Share is a copy of the list of certificates behind the first one of a chain; the same for all
// that are alike, and nobody may write to it.
func (s *Issuers) Share(list [][]byte) [][]byte {
	alike := func(other [][]byte) bool { return slices.EqualFunc(list, other, bytes.Equal) }
	if i := slices.IndexFunc(s.lists, alike); i >= 0 {
		return s.lists[i]
	}
	kept := make([][]byte, len(list))
	for i, der := range list {
		kept[i] = bytes.Clone(der)
	}
	if len(s.lists) >= issuersMost {
		s.lists = slices.Delete(s.lists, 0, 1)
	}
	s.lists = append(s.lists, kept)
	return kept
}
