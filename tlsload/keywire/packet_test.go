package keywire

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func link(t *testing.T) (a, b int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	return pair[0], pair[1]
}

func TestPackets(t *testing.T) {
	core, keeper := link(t)
	buf := make([]byte, ReplyBytesMax)
	if _, err := Receive(core, buf); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("nothing sent: got %v, want EAGAIN", err)
	}
	for name, m := range samples() {
		packet := m.Append(nil)
		if err := Send(keeper, packet); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n, err := Receive(core, buf)
		if err != nil || !bytes.Equal(buf[:n], packet) {
			t.Errorf("%s: got %d bytes, %v", name, n, err)
		}
	}
	if err := Send(keeper, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := Receive(core, buf); n != 0 || err != nil {
		t.Errorf("empty packet: got %d, %v", n, err)
	}
}

func TestOversizePacketIsDroppedWhole(t *testing.T) {
	core, keeper := link(t)
	small := make([]byte, 8)
	for _, packet := range [][]byte{make([]byte, 9), []byte("next")} {
		if err := Send(core, packet); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Receive(keeper, small); !errors.Is(err, ErrOversize) {
		t.Errorf("got %v, want ErrOversize", err)
	}
	if n, err := Receive(keeper, small); err != nil || string(small[:n]) != "next" {
		t.Errorf("got %q, %v", small[:n], err)
	}
}

func TestSendNeverBlocks(t *testing.T) {
	core, keeper := link(t)
	packet := make([]byte, RequestBytesMax)
	for {
		if err := Send(core, packet); errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	// The first call tells that unread packets are lost, the second that nobody reads.
	unix.Close(keeper)
	if err := Send(core, packet); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("unread packets: got %v, want ECONNRESET", err)
	}
	if err := Send(core, packet); !errors.Is(err, unix.EPIPE) {
		t.Errorf("without the other end: got %v, want EPIPE", err)
	}
}

// The bounds leave room for a whole key ring of requests in a link of the
// default size, or handshakes would wait for the resend.
func TestRequestsFitALink(t *testing.T) {
	core, _ := link(t)
	request := Sign{ID: 1, Message: make([]byte, 146)}.Append(nil) // TLS 1.3 with SHA-384
	for i := range 256 {
		if err := Send(core, request); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
}
