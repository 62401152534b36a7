package keeper

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// This file is how a core that starts later gets to the keeper: the main warden makes a
// link for each start, and its keeper's end comes here by way of the keeper's warden,
// who gives it to every successor of this keeper too. So no core ever reads what was
// meant for another, and one that has broken its link is started again with a new one.
//
// A row has one link: that of a new core ends the session of the last one. There are
// sockets.RowsMax rows.

// Adopt has the Keeper take links from fd, a sockets.Link to its warden, and tables, which
// load makes of what comes. It is called before Serve, which then ends only when ctx is done or fd has ended: it is a normal
// thing that there is no core for a moment.
func (k *Keeper) Adopt(fd int, load Loader) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("keeper: adoptions: %w", err)
	}
	k.adoptions, k.load = fd, load
	return nil
}

// adopts reports whether links may still come.
func (k *Keeper) adopts() bool { return k.adoptions >= 0 }

// adopt takes what has come, if anything has. io.EOF is the end of all.
func (k *Keeper) adopt() error {
	message := make([]byte, sockets.AdoptionBytesMax)
	n, descriptors, err := sockets.Receive(k.adoptions, message)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return err
	}
	if sockets.IsKeeping(message[:n]) {
		return k.takeKeeping(message[:n], descriptors)
	}
	a, err := sockets.ParseAdoption(message[:n])
	if err == nil && len(descriptors) != 1 {
		err = fmt.Errorf("keeper: adoption with %d descriptors", len(descriptors))
	}
	if err == nil && k.tables[a.Table] == nil {
		err = fmt.Errorf("keeper: link of row %d is for table %d, which there is not", a.Row, a.Table)
	}
	if err == nil {
		err = keywire.Harden(descriptors[0])
	}
	if err != nil {
		sockets.CloseAll(descriptors)
		return err
	}
	k.place(a.Row, a.Table, descriptors[0])
	if a.Suspect {
		now := time.Now()
		k.tickets.spoil(now)
		k.rotate(now)
	}
	return nil
}

// takeKeeping takes a table, or forgets one.
func (k *Keeper) takeKeeping(message []byte, descriptors []int) error {
	m, err := sockets.ParseKeeping(message)
	switch {
	case err != nil:
	case m.Forget && len(descriptors) == 0:
		k.forget(m.Table)
		return nil
	case !m.Forget && m.Like == 0 && len(descriptors) == 1:
		return k.keep(m.Table, descriptors[0])
	default:
		err = fmt.Errorf("keeper: %q with %d descriptors", message, len(descriptors))
	}
	sockets.CloseAll(descriptors)
	return err
}

// place begins the session of a row anew.
func (k *Keeper) place(row, table, link int) {
	for len(k.sessions) <= row {
		k.sessions = append(k.sessions, session{keeper: k, index: len(k.sessions), link: -1, state: ended})
	}
	s := &k.sessions[row]
	if s.link >= 0 {
		unix.Close(s.link)
	}
	*s = session{keeper: k, store: k.tables[table], index: row, link: link}
}

// parted notes the end of a session. Where links come and go it is that of a core, about
// which the core's own warden has something to say; where they do not, nobody can have
// the link again.
func (k *Keeper) parted(s *session, cause error) {
	if k.adopts() {
		unix.Close(s.link)
		s.link = -1
		return
	}
	k.log.Warn().Int("link", s.index).Err(cause).Msg("link ended")
}

// reactToWarden takes a link where events say that there may be one, and reports whether the
// Keeper goes on.
func (k *Keeper) reactToWarden(events int16) (goesOn bool) {
	if events == 0 {
		return true
	}
	err := k.adopt()
	if errors.Is(err, io.EOF) {
		return false
	}
	if err != nil {
		k.log.Error().Err(err).Msg("link not adopted")
	}
	return true
}
