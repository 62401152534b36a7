package main

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"sallyport/conf"
)

// TestIdleLimits: who stays idle for longer than limits.keepalive_idle is closed, also if
// the front knows of a TLS session without asking it that it has nothing.
func TestIdleLimits(t *testing.T) {
	f, addresses := openFrontAs(t, io.Discard, func(plan *conf.Core) { plan.Limits.KeepaliveIdle = time.Second })
	trust := &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"}
	for name, dial := range map[string]func() (net.Conn, error){
		"plain": func() (net.Conn, error) { return net.Dial("tcp", addresses[0]) },
		"TLS":   func() (net.Conn, error) { return tls.Dial("tcp", addresses[1], trust) },
	} {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for i := range 2 { // the first may come together with the end of a handshake
			if err := ask(conn); err != nil && i == 0 { // later, the limit may be over on a slow machine
				t.Fatal(err)
			}
		}
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %v, %d connections are there", name, err, f.count.Load())
		}
	}
}
