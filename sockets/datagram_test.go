package sockets

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDialDatagram(t *testing.T) {
	path := t.TempDir() + "/log"
	for _, c := range []struct{ network, address, prefix string }{
		{"unixgram", path, "unix:"}, {"udp4", "127.0.0.1:0", ""}, {"udp6", "[::1]:0", ""},
	} {
		there, err := net.ListenPacket(c.network, c.address)
		if err != nil {
			t.Fatal(err)
		}
		defer there.Close()
		fd, err := DialDatagram(c.prefix + there.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, []byte("hello")); err != nil {
			t.Errorf("%s: %v", c.network, err)
		}
		unix.Close(fd)
		got := make([]byte, 10)
		if n, _, err := there.ReadFrom(got); err != nil || string(got[:n]) != "hello" {
			t.Errorf("%s: %q, %v", c.network, got[:n], err)
		}
	}
	for _, text := range []string{"unix:/nonexistent/log", "nonsense", "unix:" + t.TempDir()} {
		if _, err := DialDatagram(text); err == nil {
			t.Errorf("%s: nobody is there", text)
		}
	}
}
