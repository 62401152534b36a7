package sockets

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// parcelBytesMax bounds a message of a parcel: the names of passedMax gifts.
const parcelBytesMax = 4 << 10

// Pack puts gifts into a parcel: the receiving end of a link whose messages are sent
// already and whose other end is closed. It is one descriptor, so that whoever has it has
// all of them, or none; the names travel along. The gifts stay open here. It fails where
// they do not fit a socket's buffer (net.core.wmem_default): by default some 10,000 do.
func Pack(gifts Gifts) (parcel int, err error) {
	parcel, end, err := Link()
	if err != nil {
		return -1, err
	}
	defer unix.Close(end)
	if err = unix.SetNonblock(end, true); err == nil { // nobody reads yet
		err = pack(end, gifts)
	}
	if err != nil {
		unix.Close(parcel)
		return -1, fmt.Errorf("sockets: pack %d gifts: %w", len(gifts), err)
	}
	return parcel, nil
}

func pack(end int, gifts Gifts) error {
	for len(gifts) > 0 {
		some := gifts[:min(len(gifts), passedMax)]
		gifts = gifts[len(some):]
		names := some.Names()
		if len(names) > parcelBytesMax {
			return fmt.Errorf("names of %d bytes are more than %d", len(names), parcelBytesMax)
		}
		descriptors := make([]int, len(some))
		for i, gift := range some {
			descriptors[i] = gift.FD
		}
		if err := Send(end, []byte(names), descriptors...); err != nil {
			return err
		}
	}
	return nil
}

// Unpack takes the gifts out of a parcel, close-on-exec, and closes it. It never waits: what
// is not in there is no part of it. A parcel that is not exactly what Pack makes is an
// error, and all that came with it is closed.
func Unpack(parcel int) (Gifts, error) {
	defer unix.Close(parcel)
	var gifts Gifts
	buffer := make([]byte, parcelBytesMax)
	for {
		n, descriptors, err := receive(parcel, buffer, unix.MSG_DONTWAIT)
		if errors.Is(err, io.EOF) {
			return gifts, nil
		}
		if err == nil {
			gifts, err = gifts.add(string(buffer[:n]), descriptors)
		}
		if err != nil {
			CloseAll(descriptors)
			gifts.Close()
			return nil, fmt.Errorf("sockets: unpack: %w", err)
		}
	}
}

// add appends gifts under the names of a list. If it fails it has appended none.
func (g Gifts) add(list string, descriptors []int) (Gifts, error) {
	names := strings.Split(list, ",")
	if len(names) != len(descriptors) {
		return g, fmt.Errorf("%d descriptors for %d names", len(descriptors), len(names))
	}
	known := make(map[string]bool, len(g)+len(names))
	for _, gift := range g {
		known[gift.Name] = true
	}
	if len(g)+len(names) > giftsMax {
		return g, fmt.Errorf("gifts: %d are more than %d", len(g)+len(names), giftsMax)
	}
	more := g
	for i, name := range names {
		switch {
		case !isGiftName(name):
			return g, fmt.Errorf("%q is no name", name)
		case known[name]:
			return g, fmt.Errorf("gift %q: is named twice", name)
		}
		known[name] = true
		more = append(more, Gift{Name: name, FD: descriptors[i]})
	}
	return more, nil
}

// Close closes all gifts.
func (g Gifts) Close() {
	for _, gift := range g {
		unix.Close(gift.FD)
	}
}
