package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is where QUIC's packets go. A connection has no socket of its own: its packets come
// to the UDP port of an address, and its client may send them from another port tomorrow. So
// every core has a socket of the port, its slot, and the ids that a core gives to its
// connections say which one it is. All slots are bound once, in order, by whoever may: the
// kernel numbers them so, and closing one moves the last into its place.
//
// "SO_ATTACH_REUSEPORT_CBPF [...] the program must return an index between 0 and N-1 [...] where
// N is the number of sockets in the group" socket(7).

// Slots are the UDP sockets of an address, by their numbers in the kernel.
type Slots []int

// slotBuffer is the room for packets that nobody has read, of each direction: what quic-go asks
// for. The kernel counts what it keeps beside them, and doubles it (socket(7)).
const slotBuffer = 7 << 20

// The bytes behind the slot's in an id, each xor the slot. An id that a client has drawn has them
// once in 16 million.
const (
	slotTag1 = 0xa7
	slotTag2 = 0x5c
)

// SlotsMax is how many slots an address may have: one byte says which.
const SlotsMax = 256

// SlotGift is the gift that is a core's slot beside the listener called gift.
func SlotGift(gift string) string { return gift + "udp" }

// Lone reports whether there is one socket for all cores, which a supervisor has made: see lone.go.
func (s Slots) Lone() bool { return len(s) == 1 }

// SlotPrefix is what the ids of a slot's connections begin with.
func SlotPrefix(slot int) []byte {
	return []byte{byte(slot), slotTag1 ^ byte(slot), slotTag2 ^ byte(slot)}
}

// BindSlots binds n slots, more than one, beside the TCP listener that the configuration has where
// wanted says, and that is bound to address.
func BindSlots(wanted Address, address string, n int) (Slots, error) {
	bound, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("sockets: bind udp %s: %w", address, err)
	}
	if n > SlotsMax {
		return nil, fmt.Errorf("sockets: bind udp %s: %d sockets, at most %d", address, n, SlotsMax)
	}
	var slots Slots
	for range n {
		fd, err := bindSlot(Address{TCP: bound, Dual: wanted.Dual})
		if err != nil {
			CloseAll(slots)
			return nil, &slotError{address, err}
		}
		slots = append(slots, fd)
	}
	return slots, nil
}

// A slotError is a failure to bind that an operator can mend.
type slotError struct {
	address string
	err     error
}

func (e *slotError) Error() string {
	return fmt.Sprintf("sockets: bind udp %s, for HTTP/3: %v", e.address, e.err)
}

func (e *slotError) Unwrap() error { return e.err }

// Hint is what to do about it.
func (e *slotError) Hint() string {
	if errors.Is(e.err, unix.EADDRINUSE) {
		return "another process has the port: ss -ulnp shows it; or write h3 = false in [listen]"
	}
	return "write h3 = false in [listen]"
}

func bindSlot(where Address) (int, error) {
	fd, err := bindInet(where, unix.SOCK_DGRAM, unix.SO_REUSEPORT)
	if err != nil {
		return -1, err
	}
	if err := makeRoom(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// makeRoom gives a socket room for packets.
func makeRoom(fd int) error {
	for _, size := range []struct{ force, plain int }{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, size.force, slotBuffer) == nil {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, size.plain, slotBuffer); err != nil { // as much as net.core.rmem_max lets
			return err
		}
	}
	return nil
}

// Steer has the kernel give every packet to the slot that its connection id names, if that is one of the
// read ones, and all others to the slots that are current, which share them. What names a slot that
// nobody reads would stay there for ever, and who makes the packets would have all room that there is. It
// takes no privilege.
func (s Slots) Steer(read, current []int) error {
	if len(s) == 0 || len(current) == 0 {
		return errors.New("sockets: steer: no slots")
	}
	program := steering(read, current)
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s[0]), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		uintptr(unsafe.Pointer(&filter)), unsafe.Sizeof(filter), 0)
	if errno != 0 {
		return fmt.Errorf("sockets: steer: %w", errno)
	}
	return nil
}

// steering is the program. The id is behind the first byte of a short header, and behind flags,
// version and length of a long one (RFC 9000, section 17; RFC 8999, section 5).
func steering(read, current []int) []unix.SockFilter {
	const (
		long      = 0x80 // the form bit of the first byte
		shortID   = 1
		longID    = 6
		tagged    = 0xffffff00
		firstByte = 0xff
	)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: long, Jt: 2},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: shortID},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: longID},
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: tagged},
	}
	is := func(value, slot int) {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(value), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(slot)})
	}
	for _, slot := range read {
		b := SlotPrefix(slot)
		is(int(b[0])<<24|int(b[1])<<16|int(b[2])<<8, slot)
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_MISC | unix.BPF_TXA},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: firstByte},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(len(current))})
	for share, slot := range current[:len(current)-1] {
		is(share, slot)
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(current[len(current)-1])})
}
