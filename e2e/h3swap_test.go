package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// TestH3ListenersSwap shows that listeners which change places by a reload, http for https, leave no
// HTTP/3 where there is no https any more, say where there is none yet, and keep no later reload from
// its work.
func TestH3ListenersSwap(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "")
	spoken := func() bool {
		config := s.client("shop.test").Clone()
		config.NextProtos = []string{"h3"}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conn, err := quic.DialAddr(ctx, h.https, config, nil)
		if err == nil {
			s.must(conn.CloseWithError(0x100, ""))
		}
		return err == nil
	}
	with := func(http, https, more string) {
		s.write("sallyport.toml", "control = \"control.sock\"\n"+
			strings.Replace(six, `http = ["127.0.0.1:0"], https = ["127.0.0.1:0"]`, `http = [`+http+`], https = [`+https+`]`+more, 1))
	}
	// The two with fixed ports: what is bound at port 0 goes.
	const a, b = `"127.0.0.1:18080"`, `"127.0.0.1:18443"`
	with(a, b, "")
	s.follows(2)
	h.https = strings.Trim(b, `"`)
	if !spoken() {
		t.Fatal("no HTTP/3 before")
	}
	with(b, a, "")
	out, code := s.shell("sallyport reload -c sallyport.toml")
	if code != 0 || !strings.Contains(out, "sallyport.toml:2: listen.https: ") || !strings.Contains(out, "127.0.0.1:18080 has no HTTP/3") {
		t.Errorf("changed: exit code %d, %s", code, out)
	}
	await(t, "the old cores to be gone from UDP", func() bool { return !spoken() })
	if out, code := s.shell("sallyport reload -c sallyport.toml"); code != 0 || strings.Contains(out, "HTTP/3") {
		t.Errorf("the same once more: exit code %d, %s", code, out)
	}
	if spoken() {
		t.Error("HTTP/3 beside a listener of http")
	}
	with(a, b, "")
	s.follows(5)
	if !spoken() {
		t.Error("no HTTP/3 when they are back")
	}
	with(b, a, ", h3 = false")
	s.follows(6)
	with(a, b, ", h3 = false")
	s.follows(7)
	await(t, "the old cores to be gone from UDP", func() bool { return !spoken() })
}
