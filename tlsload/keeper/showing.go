package keeper

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is what sallyport status is shown of the certificates that are served, but for
// those that have a file beside them: standing.go. It is in memory which boot has made, and which the
// main warden hands to who asks:
//
//	number  8 bytes   odd while somebody writes, and another one afterwards
//	length  8 bytes   of what follows, in the order of bytes of this machine
//	JSON              a list of standings

// showingHead is the size of the two numbers.
const showingHead = 16

// A showing is that memory. Only the thread of Serve writes to it.
type showing struct {
	memory []byte
	stale  bool
	others map[string]standing // of names from a CA, without a folder
}

// Show has the Keeper write into memory, of a fixed size, what it serves. It is called before
// Serve, and before the last of the jail: a mapping takes a call.
func (k *Keeper) Show(fd int) error {
	var stat unix.Stat_t
	err := unix.Fstat(fd, &stat)
	if err == nil && stat.Size <= showingHead {
		err = unix.EINVAL
	}
	if err == nil {
		k.showing.memory, err = unix.Mmap(fd, 0, int(stat.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		return fmt.Errorf("keeper: memory of the status: %w", err)
	}
	k.showing.stale = true
	return nil
}

// note is what is known of a name from a CA.
func (s *showing) note(line standing) {
	if s.others == nil {
		s.others = map[string]standing{}
	}
	s.others[line.Host], s.stale = line, true
}

// show writes it, if there is anything new. What has no room is left out, from the end.
func (k *Keeper) show() {
	s := &k.showing
	if s.memory == nil || !s.stale {
		return
	}
	s.stale = false
	all := k.standings()
	text, err := json.Marshal(all)
	for err == nil && showingHead+len(text) > len(s.memory) {
		all = all[:len(all)/2]
		text, err = json.Marshal(all)
	}
	if err != nil {
		k.log.Warn().Err(err).Msg("status not written")
		return
	}
	number := (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(s.memory))) // a page is aligned for any word
	number.Add(1)
	binary.NativeEndian.PutUint64(s.memory[8:], uint64(len(text)))
	copy(s.memory[showingHead:], text)
	number.Add(1)
}

// standings are those of the table of the plan in force.
func (k *Keeper) standings() []standing {
	last := 0
	for table := range k.tables {
		last = max(last, table)
	}
	all := []standing{}
	if k.tables[last] == nil {
		return all
	}
	for i := range k.tables[last].pairs {
		p := &k.tables[last].pairs[i]
		if p.orderedFor != "" {
			if line, found := k.showing.others[p.orderedFor]; found {
				all = append(all, line)
			}
			continue
		}
		all = append(all, p.standing())
	}
	return all
}

// standing is that of a pair that comes from no CA.
func (p *pair) standing() standing {
	line := standing{File: p.file, Source: "file"}
	line.certify(p.leaf)
	for _, address := range p.leaf.IPAddresses {
		line.Names = append(line.Names, address.String())
	}
	line.Names = slices.Concat(p.leaf.DNSNames, line.Names)
	switch {
	case p.issuedFor != nil:
		line.Source = "internal"
		line.Next = p.leaf.NotAfter.Add(-leafSpare).UTC()
	case p.key == nil:
		line.Source = "clients"
		line.Names = []string{p.leaf.Subject.CommonName}
	}
	if len(line.Names) > 0 {
		line.Host = line.Names[0]
	}
	return line
}
