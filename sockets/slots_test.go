package sockets_test

import (
	"net"
	"os"
	"testing"
	"time"

	"sallyport/sockets"
)

// A packet goes to the slot that its connection id names, whatever the port of its sender, and
// others to those that are current.
func TestSteer(t *testing.T) {
	where, err := sockets.ParseAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := sockets.Bind(where, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sockets.CloseAll([]int{tcp.FD}) })
	slots, err := sockets.BindSlots(where, tcp.Address, 8)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.PacketConn, len(slots))
	for i, fd := range slots {
		file := os.NewFile(uintptr(fd), "slot")
		if conns[i], err = net.FilePacketConn(file); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close(); conns[i].Close() })
	}
	for _, current := range [][]int{{0, 1}, {5, 3}} {
		read := []int{0, 1, 2, 3, 5, 7}
		if err := slots.Steer(read, current); err != nil {
			t.Fatal(err)
		}
		for _, slot := range read {
			id := sockets.SlotPrefix(slot)
			arrives(t, conns, tcp.Address, append(append([]byte{0x40}, id...), 1, 2, 3, 4, 5), slot)
			arrives(t, conns, tcp.Address, append(append([]byte{0xc0, 0, 0, 0, 1, 8}, id...), 1, 2, 3, 4, 5), slot)
		}
		for _, nobodys := range []int{4, 6} { // who is current says that they are nobody's
			id := sockets.SlotPrefix(nobodys)
			arrives(t, conns, tcp.Address, append(append([]byte{0x40}, id...), 1, 2, 3, 4, 5), current[1])
		}
		for drawn := range 4 {
			arrives(t, conns, tcp.Address, []byte{0xc0, 0, 0, 0, 1, 8, 9, 9, 9, byte(drawn), 9, 9, 9, 9}, current[drawn%2])
		}
	}
}

// arrives sends a packet from a port of its own, and wants it in a slot.
func arrives(t *testing.T, conns []net.PacketConn, address string, packet []byte, slot int) {
	t.Helper()
	client, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write(packet); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	_ = conns[slot].SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err := conns[slot].ReadFrom(b)
	if err != nil || string(b[:n]) != string(packet) || from.String() != client.LocalAddr().String() {
		t.Fatalf("slot %d: %x from %v: %v", slot, b[:n], from, err)
	}
}
