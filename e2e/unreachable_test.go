package e2e

import (
	"net"
	"os"
	"strings"
	"testing"
)

// TestUnreachable shows that the log of a 502 names the errno exactly: the
// three of them have three different mends.
func TestUnreachable(t *testing.T) {
	cases := []struct {
		name, errno string
		root        bool // only root starts a core of another user
		prepare     func(t *testing.T, socket string)
	}{
		{"missing", "ENOENT", false, func(*testing.T, string) {}},
		{"stale", "ECONNREFUSED", false, func(t *testing.T, socket string) { listen(t, socket, 0o666).Close() }},
		{"forbidden", "EACCES", true, func(t *testing.T, socket string) {
			listener := listen(t, socket, 0o600)
			t.Cleanup(func() { listener.Close() })
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.root {
				needRoot(t)
			}
			s := newScene(t)
			s.must(os.Mkdir(s.path("app"), 0o755))
			c.prepare(t, s.path("app/app.sock"))
			s.certificate("shop", p256(t), "shop.test")
			s.write("sallyport.toml", strings.Replace(six, `"unix:{dir}/app/app.sock"`, `"shop"`, 1)+
				"[app.shop]\nsocket = \"unix:{dir}/app/app.sock\"\nhold = \"0s\"\n")
			h := s.start()
			if status := s.statusOf("http://shop.test/"); status != "502" {
				t.Errorf("status %s", status)
			}
			l := h.wait(t, "app failed", "errno="+c.errno, "socket="+s.path("app/app.sock"))
			t.Log(l.text)
			h.wait(t, "request answered", "status=502", "cause=app failed")
		})
	}
}

// listen makes a unix socket whose file stays when it is closed.
func listen(t *testing.T, socket string, mode os.FileMode) *net.UnixListener {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, mode); err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	return listener
}
