package sockets

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// FirstGift is the descriptor of the first gift; 0 to 2 are the standard ones.
const FirstGift = 3

// giftsMax bounds what one process is given: two files for each of some
// thousand certificates are far below it, a runaway list is not.
const giftsMax = 16384

// A Gift is a descriptor that one process hands to the next under a name.
type Gift struct {
	Name string // letters, digits and dashes: "plan", "http0"
	FD   int
}

// Gifts are descriptors in the order in which they are handed over. The names
// travel in the argument list, the descriptors from FirstGift on.
type Gifts []Gift

// Names returns the names as the receiver's TakeGifts reads them.
func (g Gifts) Names() string {
	names := make([]string, len(g))
	for i, gift := range g {
		names[i] = gift.Name
	}
	return strings.Join(names, ",")
}

// FD returns the descriptor of the gift called name. It fails when there is none.
func (g Gifts) FD(name string) (int, error) {
	for _, gift := range g {
		if gift.Name == name {
			return gift.FD, nil
		}
	}
	return -1, fmt.Errorf("sockets: gift %q: not given", name)
}

// Decode reads the gift called name, which is JSON in sealed memory, into what to points at. It
// fails when there is none, and where ReadSealed and json.Unmarshal do.
func (g Gifts) Decode(name string, to any) error {
	fd, err := g.FD(name)
	if err != nil {
		return err
	}
	text, err := ReadSealed(fd)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		return fmt.Errorf("sockets: gift %q: %w", name, err)
	}
	return nil
}

// TellReady writes one byte to the gift "ready", by which a warden knows that its child serves,
// and closes it.
func (g Gifts) TellReady() error {
	fd, err := g.FD("ready")
	if err != nil {
		return err
	}
	if _, err = unix.Write(fd, []byte("r")); err != nil {
		err = fmt.Errorf("sockets: gift \"ready\": %w", err)
	}
	return errors.Join(err, unix.Close(fd))
}

// TakeGifts receives what the argument list names: it checks that each
// descriptor from FirstGift on is open and makes it close-on-exec. Nothing that
// a process does not name is a gift.
func TakeGifts(names string) (Gifts, error) {
	gifts, err := parseGifts(names)
	if err != nil {
		return nil, err
	}
	for _, gift := range gifts {
		if err := closeOnExec(gift.FD); err != nil {
			return nil, fmt.Errorf("sockets: gift %q: descriptor %d: %w", gift.Name, gift.FD, err)
		}
	}
	return gifts, nil
}

// parseGifts reads a list of names and numbers them from FirstGift on.
func parseGifts(names string) (Gifts, error) {
	if names == "" {
		return nil, nil
	}
	list := strings.Split(names, ",")
	if len(list) > giftsMax {
		return nil, fmt.Errorf("sockets: gifts: %d are more than %d", len(list), giftsMax)
	}
	gifts := make(Gifts, 0, len(list))
	known := make(map[string]bool, len(list))
	for i, name := range list {
		switch {
		case !isGiftName(name):
			return nil, fmt.Errorf("sockets: gift %d: %q is no name", i, name)
		case known[name]:
			return nil, fmt.Errorf("sockets: gift %q: is named twice", name)
		}
		known[name] = true
		gifts = append(gifts, Gift{Name: name, FD: FirstGift + i})
	}
	return gifts, nil
}

// isGiftName reports whether name can travel in an argument list unharmed.
func isGiftName(name string) bool {
	return name != "" && strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// closeOnExec makes fd close-on-exec. It fails when fd is not open.
func closeOnExec(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	if errors.Is(err, unix.EBADF) {
		return errors.New("is not open")
	}
	return err
}
